"""The two ways to ask for a prediction, each from its body to the body of its answer.

What a route and the fast lane have in common is here, so that neither can answer differently from the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from gateway.batch import Answered
from gateway.lineup import Serving
from gateway.wire.oip import Inferred
from gateway.wire.oip_answers import inference, output_tensors, wanted
from gateway.wire.own import Asked, answer_of
from registry.types import OutputTensor


class Predict(Struct, frozen=True):
    """Our own protocol: `POST /models/{m}/predict`."""

    model: str
    asked: Asked

    @classmethod
    def read(cls, serving: Serving, body: bytes) -> Predict:
        """The request in a body; raises BadRequest."""
        return cls(serving.model.name, serving.decoder.decode(body))

    def answer(self, answered: Answered) -> bytes:
        """The body that answers it."""
        rows = answered.outputs.rows(answered.start, answered.stop)
        return answer_of(self.asked, self.model, answered.version, answered.prediction_id, rows)


class Infer(Struct, frozen=True):
    """The Open Inference Protocol: `POST /v2/models/{m}/infer`."""

    model: str
    inferred: Inferred
    wanted: Sequence[OutputTensor]

    @classmethod
    def read(cls, serving: Serving, body: bytes) -> Infer:
        """The request in a body; raises BadRequest."""
        inferred = serving.infer_decoder.decode(body)
        return cls(serving.model.name, inferred, wanted(serving.champion.version.signature.outputs, inferred.outputs))

    @property
    def asked(self) -> Asked:
        """The rows."""
        return self.inferred.asked

    def answer(self, answered: Answered) -> bytes:
        """The body that answers it."""
        tensors = output_tensors(answered.outputs, answered.start, answered.stop, self.wanted)
        return inference(self.inferred, self.model, answered.version, answered.prediction_id, tensors)


Call = Predict | Infer
Read = Callable[[Serving, bytes], Call]
