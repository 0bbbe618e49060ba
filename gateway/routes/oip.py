"""The Open Inference Protocol: `/v2`, so that clients made for other servers work against this one.

The public name answers by its champion, whoever that is; a version may be named only while it is the champion.
Answers never hold a challenger's output.
"""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from gateway.errors import NotFound
from gateway.front import JSON, expect_json
from gateway.lineup import Serving
from gateway.records import Purpose
from gateway.routes.parts import Parts, Using
from gateway.wire.oip import describe_inputs, describe_outputs, output_tensors, wanted
from gateway.wire.own import encode

PLATFORM = "onnx_onnxv1"


@get(["/v2", "/v2/"], summary="What this server is")
async def server_metadata(release: NamedDependency[str]) -> dict[str, Any]:
    """Name, version and extensions."""
    return {"name": "understudy", "version": release, "extensions": []}


@get("/v2/health/live", summary="Whether this process runs")
async def live() -> dict[str, bool]:
    """It does, if it answers."""
    return {"live": True}


@get("/v2/health/ready", summary="Whether predictions would be answered")
async def ready(parts: Using) -> Response[dict[str, bool]]:
    """Ready and live are both named, as the specification's two texts differ."""
    is_ready = not parts.front.draining and not parts.pulse.problems()
    return Response({"ready": is_ready, "live": is_ready}, status_code=200 if is_ready else 503)


@get("/v2/models", summary="The models that can be asked")
async def models(parts: Using) -> dict[str, list[str]]:
    """Their names."""
    return {"models": parts.lineups.names}


@get(["/v2/models/{model:str}", "/v2/models/{model:str}/versions/{version:str}"], summary="A model's tensors")
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


@get(["/v2/models/{model:str}/ready", "/v2/models/{model:str}/versions/{version:str}/ready"], summary="Is it ready?")
async def model_ready(model: FromPath[str], parts: Using, version: FromPath[str | None] = None) -> dict[str, Any]:
    """A model that is loaded is ready."""
    _named(parts, model, version)
    return {"name": model, "ready": True}


@post(
    ["/v2/models/{model:str}/infer", "/v2/models/{model:str}/versions/{version:str}/infer"],
    status_code=200,
    summary="The champion's answer as tensors",
)
async def infer(
    model: FromPath[str], request: Request[Any, Any, Any], parts: Using, version: FromPath[str | None] = None
) -> Response[bytes]:
    """The champion's answer; `id` is the caller's, or the prediction id where there was none."""
    ticket = parts.front.enter(request.headers)
    expect_json(request.headers)
    serving = _named(parts, model, version)
    inferred = serving.infer_decoder.decode(await request.body())
    purpose: Purpose = "pinned" if version is not None and ticket.purpose == "live" else ticket.purpose
    tensors = wanted(serving.champion.version.signature.outputs, inferred.outputs)
    answered = await parts.predictor.predict(model, inferred.asked, purpose, ticket.principal.name, ticket.trace)
    answer = {
        "model_name": model,
        "model_version": str(answered.version),
        "id": answered.prediction_id if inferred.id is None else inferred.id,
        "parameters": {"prediction_id": answered.prediction_id},
        "outputs": output_tensors(answered.outputs, answered.start, answered.stop, tensors),
    }
    n_rows = answered.stop - answered.start
    headers = parts.front.leave(ticket, 200, model=model, version=answered.version, n_rows=n_rows)
    return Response(encode(answer), media_type=JSON, headers=headers)


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
