"""What a file contains, before a runtime may see it: the protobuf is parsed and walked whole, in a limited child only.

The walk follows every message field there is, so that a tensor cannot hide: in attributes, subgraphs, functions,
sparse tensors, training information, or in what a later ONNX adds. Everything found is refused by one sentence.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]  # it ships no types

from registry.errors import ArtifactRefused
from registry.frames import Contents, InspectionRules

_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
_CONTROL_FLOW = frozenset({"Loop", "Scan", "If", "SequenceMap"})
_CLASS_LABELS = frozenset({"classlabels_strings", "classlabels_int64s", "classlabels_ints"})

Labels = tuple[int | str, ...]


def inspect(model_bytes: bytes, rules: InspectionRules) -> Contents:
    """What the file contains.

    Raises:
        ArtifactRefused: it is no ONNX file, or contains what no version may.
    """
    model = onnx.ModelProto()
    try:
        model.ParseFromString(model_bytes)
    except DecodeError:
        raise ArtifactRefused("the file is not an ONNX model: its bytes cannot be parsed") from None
    if not model.HasField("graph") or not model.opset_import:
        raise ArtifactRefused("the file is not an ONNX model: it has no graph or no operator set")
    if model.functions:
        raise ArtifactRefused("the file defines functions of its own: export it with its functions expanded")
    n_nodes = 0
    labels: set[Labels] = set()
    for message, depth in _walk(model):
        if depth > rules.max_depth:
            raise ArtifactRefused(f"the file nests graphs more than {rules.max_depth} deep")
        match message:
            case onnx.TensorProto():
                _check_tensor(message)
                labels.update(_labels_of_tensor(message))
            case onnx.NodeProto():
                n_nodes += 1
                if n_nodes > rules.max_nodes:
                    raise ArtifactRefused(f"the file has more than {rules.max_nodes} nodes")
                _check_node(message, rules)
            case onnx.AttributeProto() if message.name in _CLASS_LABELS:
                labels.add(tuple(text.decode(errors="replace") for text in message.strings) or tuple(message.ints))
    return Contents(n_nodes, tuple(sorted(labels, key=repr)))


def _walk(root: Message) -> Iterator[tuple[Message, int]]:
    """Every message below `root`, each with the number of graphs that it lies in; a loop, as the depth is theirs."""
    waiting = [(root, 0)]
    while waiting:
        message, depth = waiting.pop()
        depth += isinstance(message, onnx.GraphProto)
        yield message, depth
        for field, value in message.ListFields():
            if field.type == field.TYPE_MESSAGE:
                waiting.extend((part, depth) for part in ((value,) if isinstance(value, Message) else value))


def _check_tensor(tensor: onnx.TensorProto) -> None:
    if tensor.data_location != onnx.TensorProto.DEFAULT or tensor.external_data:
        raise ArtifactRefused(
            f"tensor '{tensor.name[:60]}' keeps its data in another file: save the model as one file, "
            "without external data"
        )


def _check_node(node: onnx.NodeProto, rules: InspectionRules) -> None:
    if node.domain not in _DOMAINS:
        raise ArtifactRefused(
            f"node '{node.op_type[:60]}' is of the domain '{node.domain[:60]}': only ai.onnx and ai.onnx.ml may be used"
        )
    if node.op_type in _CONTROL_FLOW and not rules.control_flow:
        raise ArtifactRefused(f"the file contains {node.op_type}: loops and branches are not admitted")


def _labels_of_tensor(tensor: onnx.TensorProto) -> Iterator[Labels]:
    # skl2onnx keeps the classes of what is no linear or tree model in a constant of that name
    if not tensor.name.endswith("classes") or len(tensor.dims) != 1:
        return
    if tensor.string_data:
        yield tuple(text.decode(errors="replace") for text in tensor.string_data)
    elif tensor.int64_data or tensor.int32_data:
        yield tuple(tensor.int64_data or tensor.int32_data)
