"""The Open Inference Protocol's other half: what a model's tensors are called, and the answer to a request.

Source: specification/protocol/inference_rest.md of the Open Inference Protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from gateway.columns import Outputs, groups_of
from gateway.errors import InvalidInput
from gateway.wire.oip import DATATYPE, Inferred
from gateway.wire.own import encode
from registry.types import InputSchema, OutputTensor

PACKED = "inputs"
"""The name under which the one tensor of a model with features of one dtype is described. Any name is taken."""


def describe_inputs(schema: InputSchema) -> list[dict[str, Any]]:
    """The tensors of a model's metadata: one for all features where they are of one number type, else one each."""
    groups = groups_of(schema)
    if len(groups) == 1 and "string" not in groups and len(schema.features) > 1:
        ((dtype, names),) = groups.items()
        return [{"name": PACKED, "datatype": DATATYPE[dtype], "shape": [-1, len(names)]}]
    return [{"name": f.name, "datatype": DATATYPE[f.dtype], "shape": [-1, 1]} for f in schema.features]


def describe_outputs(tensors: Sequence[OutputTensor]) -> list[dict[str, Any]]:
    """The output tensors of a model's metadata."""
    return [
        {"name": t.name, "datatype": DATATYPE[t.dtype], "shape": [-1] if t.width is None else [-1, t.width]}
        for t in tensors
    ]


def wanted(tensors: Sequence[OutputTensor], names: list[str] | None) -> Sequence[OutputTensor]:
    """The outputs that the caller wants, in that order; all of them where it named none.

    Raises:
        InvalidInput: an output is wanted that the model does not have.
    """
    if not names:
        return tensors
    by_name = {tensor.name: tensor for tensor in tensors}
    for name in names:
        if name not in by_name:
            raise InvalidInput(f"outputs: expected some of {', '.join(by_name)}; got '{name:.60}'")
    return [by_name[name] for name in names]


class AnswerTensor(Struct):
    """A tensor of an answer."""

    name: str
    datatype: str
    shape: list[int]
    data: list[Any]


class Inference(Struct):
    """An answer."""

    model_name: str
    model_version: str
    id: str | None
    parameters: dict[str, str | None]
    outputs: list[AnswerTensor]


def inference(
    inferred: Inferred, model: str, version: int, prediction_id: str | None, outputs: list[AnswerTensor]
) -> bytes:
    """The body of an answer; `id` is the caller's, or the prediction id where there was none."""
    own_id = prediction_id if inferred.id is None else inferred.id
    return encode(Inference(model, str(version), own_id, {"prediction_id": prediction_id}, outputs))


def output_tensors(outputs: Outputs, start: int, stop: int, tensors: Sequence[OutputTensor]) -> list[AnswerTensor]:
    """The rows start … stop - 1 of these outputs, as tensors."""
    answer = []
    for tensor in tensors:
        data, shape = outputs.values[tensor.name][start:stop], [stop - start]
        if tensor.width is not None:
            data = data[0] if len(data) == 1 else [value for row in data for value in row]
            shape.append(tensor.width)
        answer.append(AnswerTensor(tensor.name, DATATYPE[tensor.dtype], shape, data))
    return answer
