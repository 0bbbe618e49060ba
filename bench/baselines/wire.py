"""The Open Inference Protocol's tensor JSON, as pydantic models that a FastAPI user would write."""

from __future__ import annotations

from pydantic import BaseModel


class Tensor(BaseModel):
    """A tensor of a request."""

    name: str
    shape: list[int]
    datatype: str
    data: list[float]


class InferRequest(BaseModel):
    """A request."""

    inputs: list[Tensor]
    id: str | None = None
