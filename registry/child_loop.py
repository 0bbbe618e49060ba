"""What a limited child does: one request after the other, each answered or refused, until the parent is gone."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping

from registry.errors import AnswerRefused, ArtifactRefused, InputsRefused, ModelRaised, RegistryError
from registry.frames import (
    PREFIX,
    Array,
    Bind,
    Contents,
    Done,
    InspectionRules,
    Load,
    Message,
    Ready,
    Refused,
    Run,
    decode,
    encode,
    lengths,
)
from registry.onnx_model import OnnxModel, brief
from registry.signature import ModelFacts

Inspect = Callable[[bytes, InspectionRules], Contents]

_NO_LIMIT = 2**40  # the parent is trusted
_OUT_OF_MEMORY = 3


def serve(connection: socket.socket, inspect: Inspect | None, held: tuple[str, ...]) -> None:
    """Answers the parent until it closes the socket."""
    _send(connection, Ready(held))
    model: OnnxModel | None = None
    while (request := _receive(connection)) is not None:
        message, columns, body = request
        try:
            match message:
                case Load():
                    model, facts = _load(bytes(body), message, inspect)
                    _send(connection, Done(facts))
                case Bind(signature) if model is not None:
                    model.bind(signature)
                    _send(connection, Done())
                case Run() if model is not None:
                    _send(connection, Done(), model.run(columns))
                case _:
                    _send(connection, Refused("ModelRaised", (f"nothing is loaded to {type(message).__name__}",)))
        except MemoryError:
            # what is left of this process is not worth having: the parent starts another
            _send(connection, Refused("ChildOutOfMemory", ()))
            os._exit(_OUT_OF_MEMORY)
        except RegistryError as refused:
            _send(connection, _refusal(refused))
        except TypeError as error:  # an answer that is none of the dtypes of a frame
            _send(connection, Refused("ModelRaised", (brief(error),)))


def _load(model_bytes: bytes, message: Load, inspect: Inspect | None) -> tuple[OnnxModel, ModelFacts]:
    seen = Contents()
    if message.rules is not None and inspect is not None:
        seen = inspect(model_bytes, message.rules)
    model = OnnxModel(model_bytes, message.signature)
    inputs, outputs = model.declared()
    return model, ModelFacts(inputs, outputs, seen.n_nodes, seen.class_labels)


def _refusal(refused: RegistryError) -> Refused:
    match refused:
        case AnswerRefused(output=output, expected=expected, got=got):
            return Refused("AnswerRefused", (output, expected, got))
        case ArtifactRefused() | InputsRefused() | ModelRaised():
            return Refused(type(refused).__name__, (str(refused),))
        case _:
            return Refused("ModelRaised", (brief(refused),))


def _receive(connection: socket.socket) -> tuple[Message, dict[str, Array], memoryview] | None:
    prefix = _read(connection, PREFIX.size)
    if prefix is None:
        return None
    header_length, body_length = lengths(prefix, _NO_LIMIT)
    header, body = _read(connection, header_length), _read(connection, body_length)
    if header is None or body is None:
        return None
    view = memoryview(body)
    message, columns = decode(header, view)
    return message, columns, view


def _read(connection: socket.socket, n_bytes: int) -> bytearray | None:
    received = bytearray(n_bytes)
    view = memoryview(received)
    at = 0
    while at < n_bytes:
        n_read = connection.recv_into(view[at:])
        if n_read == 0:
            return None
        at += n_read
    return received


def _send(connection: socket.socket, message: Message, columns: Mapping[str, Array] | None = None) -> None:
    connection.sendall(b"".join(encode(message, columns)))
