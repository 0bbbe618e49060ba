"""The Open Inference Protocol: `/v2`, so that clients made for other servers work against this one.

The public name answers by its champion, whoever that is; a version may be named only while it is the champion.
Answers never hold a challenger's output.
"""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from gateway.calls import Infer
from gateway.errors import NotFound
from gateway.front import JSON, expect_json
from gateway.lineup import Serving
from gateway.routes.parts import Parts, Using, ticket_of
from gateway.routes.predict import answered
from gateway.wire.oip import Infer as SentInfer
from gateway.wire.oip_answers import describe_inputs, describe_outputs

PLATFORM = "onnx_onnxv1"


@get(["/v2", "/v2/"], summary="What this server is", scope=("predict", "read"))
async def server_metadata(release: NamedDependency[str]) -> dict[str, Any]:
    """Name, version and extensions."""
    return {"name": "understudy", "version": release, "extensions": []}


@get("/v2/health/live", summary="Whether this process runs", scope="open")
async def live() -> dict[str, bool]:
    """It does, if it answers."""
    return {"live": True}


@get("/v2/health/ready", summary="Whether predictions would be answered", scope="open")
async def ready(parts: Using) -> Response[dict[str, bool]]:
    """Ready and live are both named, as the specification's two texts differ."""
    is_ready = not parts.front.draining and not parts.pulse.problems()
    return Response({"ready": is_ready, "live": is_ready}, status_code=200 if is_ready else 503)


@get("/v2/models", summary="The models that can be asked", scope=("predict", "read"))
async def models(parts: Using) -> dict[str, list[str]]:
    """Their names."""
    return {"models": parts.lineups.names}


@get(
    ["/v2/models/{model:str}", "/v2/models/{model:str}/versions/{version:str}"],
    summary="A model's tensors",
    scope=("predict", "read"),
)
async def model_metadata(model: FromPath[str], parts: Using, version: FromPath[str | None] = None) -> dict[str, Any]:
    """Inputs are the model's, outputs its champion's."""
    serving = _named(parts, model, version)
    return {
        "name": model,
        "versions": [str(serving.lineup.champion)],
        "platform": PLATFORM,
        "inputs": describe_inputs(serving.model.schema),
        "outputs": describe_outputs(serving.champion.version.signature.outputs),
    }


@get(
    ["/v2/models/{model:str}/ready", "/v2/models/{model:str}/versions/{version:str}/ready"],
    summary="Is it ready?",
    scope=("predict", "read"),
)
async def model_ready(model: FromPath[str], parts: Using, version: FromPath[str | None] = None) -> dict[str, Any]:
    """A model that is loaded is ready."""
    _named(parts, model, version)
    return {"name": model, "ready": True}


@post(
    ["/v2/models/{model:str}/infer", "/v2/models/{model:str}/versions/{version:str}/infer"],
    status_code=200,
    summary="The champion's answer as tensors",
    scope="predict",
    takes=SentInfer,
)
async def infer(
    model: FromPath[str], request: Request[Any, Any, Any], parts: Using, version: FromPath[str | None] = None
) -> Response[bytes]:
    """The champion's answer; `id` is the caller's, or the prediction id where there was none."""
    ticket = ticket_of(request)
    expect_json(request.headers)
    parts.predictor.check_load(model)
    call = Infer.read(_named(parts, model, version), await request.body())
    if version is not None and ticket.purpose == "live":
        ticket.purpose = "pinned"
    return Response(await answered(call, ticket, parts), media_type=JSON)


def _named(parts: Parts, model: str, version: str | None) -> Serving:
    """The model, which must be served by that version where one is named.

    Raises:
        NotFound: another version answers.
    """
    serving = parts.lineups[model]
    if version is not None and version != str(serving.lineup.champion):
        raise NotFound(
            f"Model {model} with version {version:.20} is not found: version {serving.lineup.champion} answers"
        )
    return serving
