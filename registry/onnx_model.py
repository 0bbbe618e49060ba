"""A version, loaded: columns of features in, columns of answers out. The only place that imports onnxruntime.

    model = OnnxModel(model_bytes, signature)
    answers = model.run({"age": ages, "income": incomes})       # arrays of n rows, in and out

What equals it, for one float input and one output, written plainly:

    tensor = [[columns[name][row] for name in features] for row in range(n)]
    answer = session.run(["score"], {"X": tensor})[0]
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from registry.errors import AnswerRefused, ArtifactRefused, InputsRefused, ModelRaised
from registry.signature import TensorFact
from registry.types import Dtype, InputBinding, OutputTensor, Signature

Array = NDArray[np.generic]

NUMPY_DTYPES: dict[Dtype, np.dtype[np.generic]] = {
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
    "int64": np.dtype(np.int64),
    "bool": np.dtype(np.bool_),
    "string": np.dtype(np.object_),
}

_FATAL_ONLY = 4
_PATHS = re.compile(r"(?:[A-Za-z]:)?(?:[\\/][\w.+@~-]+){2,}[\\/]?")
_OUT_OF_MEMORY = re.compile(r"bad[_ ]alloc|[Ff]ailed to allocate|[Oo]ut of memory")
_PREFIX = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
_MAX_MESSAGE = 300


class OnnxModel:
    """One session, on the thread that calls it; calls may come from several threads at once."""

    def __init__(self, model_bytes: bytes, signature: Signature | None = None) -> None:
        """Loads the bytes, which must have been admitted, or be in a limited child.

        Raises:
            ArtifactRefused: onnxruntime cannot load them.
            MemoryError: there is not enough.
        """
        try:
            self._session = onnxruntime.InferenceSession(
                model_bytes,
                _options(),
                providers=["CPUExecutionProvider"],
                enable_fallback=0,  # else a failure is printed on stdout and the load tried again
                read_config_from_model=0,
            )
        except Exception as error:  # noqa: BLE001  # the runtime's own classes, which share no ancestor but this
            _raise_if_memory(error)
            raise ArtifactRefused(f"onnxruntime cannot load the file: {brief(error)}") from None
        self._session.disable_fallback()
        self.signature: Signature | None = None
        if signature is not None:
            self.bind(signature)

    def bind(self, signature: Signature) -> None:
        """From now on columns are stacked, and answers checked, as `signature` says."""
        self.signature = signature
        self._stackers = [(binding.name, _stacker(binding)) for binding in signature.inputs]
        self._names = list(signature.output_names)
        self._checkers = [(output, NUMPY_DTYPES[output.dtype]) for output in signature.outputs]
        only = signature.inputs[0]
        blockable = len(signature.inputs) == 1 and only.dtype == "float32" and not only.flat
        self.block_features = only.features if blockable else None

    def declared(self) -> tuple[tuple[TensorFact, ...], tuple[TensorFact, ...]]:
        """The inputs and the outputs that the file declares."""
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        return tuple(_fact(argument) for argument in inputs), tuple(_fact(argument) for argument in outputs)

    def run(self, columns: Mapping[str, Array]) -> dict[str, Array]:
        """The answers to n rows.

        Args:
            columns: an array of shape (n,) a feature, in the dtypes of the schema; further ones are ignored.

        Returns:
            An array a output: (n,), or (n, width) where the signature has a width. Strings are objects.

        Raises:
            InputsRefused: a feature is missing, or has another number of rows.
            AnswerRefused: an answer has another shape or dtype than the signature says, or is not finite.
            ModelRaised: the runtime raised.
            MemoryError: there is not enough.
        """
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, as scikit-learn takes it
            try:
                feed = {name: stack(columns) for name, stack in self._stackers}
            except KeyError as missing:
                raise InputsRefused(f"feature {missing} is missing") from None
            except (TypeError, ValueError) as error:
                raise InputsRefused(f"the columns cannot be stacked: {brief(error)}") from None
        return self._answer(feed)

    def run_block(self, block: NDArray[np.float32]) -> dict[str, Array]:
        """As `run`, for a caller that has the one tensor already: (n, len(block_features)), C order, float32.

        Only where `block_features` is not None; raises as `run` does.
        """
        return self._answer({self._stackers[0][0]: block})

    def _answer(self, feed: dict[str, Array]) -> dict[str, Array]:
        n_rows = len(next(iter(feed.values())))
        if self.signature is not None and not self.signature.batchable and n_rows > 1:
            rows = [self._answer({name: tensor[k : k + 1] for name, tensor in feed.items()}) for k in range(n_rows)]
            return {name: np.concatenate([row[name] for row in rows]) for name in self._names}
        try:
            answers = self._session.run(self._names, feed)
        except Exception as error:  # noqa: BLE001  # as above: no common ancestor
            _raise_if_memory(error)
            raise ModelRaised(brief(error)) from None
        return {
            output.name: _checked(answer, output, dtype, n_rows)
            for (output, dtype), answer in zip(self._checkers, answers, strict=True)
        }


def brief(error: BaseException) -> str:
    """An error in at most 300 characters of one line, without the paths of whatever machine it was built or run on."""
    text = " ".join(_PATHS.sub("…", _PREFIX.sub("", str(error))).split())
    return text if len(text) <= _MAX_MESSAGE else text[: _MAX_MESSAGE - 1] + "…"


def _raise_if_memory(error: Exception) -> None:
    # the runtime tells it by the text of whatever error was at hand
    if isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(str(error)):
        raise MemoryError(brief(error)) from None


def _options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL_ONLY
    # said, as the runtime would otherwise guess: bytes can be an ONNX file and an ORT flatbuffer at once, and only
    # the former was looked at
    options.add_session_config_entry("session.load_model_format", "ONNX")
    return options


def _fact(argument: onnxruntime.NodeArg) -> TensorFact:
    shape = tuple(size if isinstance(size, int) and size >= 0 else None for size in argument.shape)
    return TensorFact(argument.name, argument.type, shape)


def _stacker(binding: InputBinding) -> Callable[[Mapping[str, Array]], Array]:
    dtype, features = NUMPY_DTYPES[binding.dtype], binding.features
    first = features[0]

    def flat(columns: Mapping[str, Array]) -> Array:
        return np.ascontiguousarray(columns[first], dtype)

    def stacked(columns: Mapping[str, Array]) -> Array:
        tensor = np.empty((len(columns[first]), len(features)), dtype)
        for index, name in enumerate(features):
            column = columns[name]
            if len(column) != len(tensor):  # numpy would repeat one value for every row
                raise ValueError(f"'{name}' has {len(column)} rows, and '{first}' has {len(tensor)}")
            tensor[:, index] = column
        return tensor

    return flat if binding.flat else stacked


def _checked(answer: Array, output: OutputTensor, dtype: np.dtype[np.generic], n_rows: int) -> Array:
    if not isinstance(answer, np.ndarray):
        raise AnswerRefused(output.name, "a tensor", type(answer).__name__)
    if answer.dtype != dtype:
        raise AnswerRefused(output.name, output.dtype, str(answer.dtype))
    if output.width is None:
        if answer.shape == (n_rows, 1):
            answer = answer.reshape(n_rows)
        if answer.shape != (n_rows,):
            raise AnswerRefused(output.name, f"of shape ({n_rows},) or ({n_rows}, 1)", f"of shape {answer.shape}")
    elif answer.shape != (n_rows, output.width):
        raise AnswerRefused(output.name, f"of shape ({n_rows}, {output.width})", f"of shape {answer.shape}")
    if dtype.kind == "f" and np.count_nonzero(np.isfinite(answer)) != answer.size:
        first = int(np.flatnonzero(~np.isfinite(answer.reshape(n_rows, -1)).all(axis=1))[0])
        raise AnswerRefused(output.name, "finite", f"not finite in row {first}")
    return answer
