"""`POST /models/{m}/predict`, and reading a prediction back."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Request, Response, get, post
from litestar.params import FromPath, FromQuery, QueryParameter

from gateway.calls import Call, Predict
from gateway.front import JSON, Ticket, expect_json
from gateway.lookup import by_association, by_id
from gateway.routes.parts import Parts, Using, ticket_of
from gateway.wire.own import SentPrediction

Row = Annotated[int, QueryParameter(ge=0, description="which row of the request")]


@post(
    "/models/{model:str}/predict",
    status_code=200,
    summary="The champion's answer, recorded before it is sent",
    scope="predict",
    takes=SentPrediction,
)
async def predict(model: FromPath[str], request: Request[Any, Any, Any], parts: Using) -> Response[bytes]:
    """`{"inputs": {…}}` or a list of them → `{"prediction_id", "model", "version", "outputs"}`."""
    expect_json(request.headers)
    parts.predictor.check_load(model)
    call = Predict.read(parts.lineups[model], await request.body())
    return Response(await answered(call, ticket_of(request), parts), media_type=JSON)


async def answered(call: Call, ticket: Ticket, parts: Parts) -> bytes:
    """The body that answers a call; raises as `Predictor.predict`."""
    ticket.model = call.model
    answer = await parts.predictor.predict(call.model, call.asked, ticket)
    ticket.version, ticket.n_rows = answer.version, answer.stop - answer.start
    return call.answer(answer)


@get(
    "/models/{model:str}/predictions/{prediction_id:str}",
    summary="A prediction, its shadow scores and outcomes",
    scope=("read", "predict"),
)
async def read_prediction(
    model: FromPath[str], prediction_id: FromPath[str], request: Request[Any, Any, Any], parts: Using, row: Row = 0
) -> dict[str, Any]:
    """One row of a request, by its prediction id; whoever may only predict is not shown the challengers."""
    played = parts.lineups.played(model)
    found = await parts.desk.read(lambda files: by_id(files, played.model, prediction_id, row))
    return _shown(found, ticket_of(request), model)


@get("/models/{model:str}/predictions", summary="The predictions of an association id", scope=("read", "predict"))
async def read_predictions(
    model: FromPath[str], association_id: FromQuery[str], request: Request[Any, Any, Any], parts: Using
) -> dict[str, Any]:
    """Every row that carries the association id, oldest first; as for one prediction."""
    played = parts.lineups.played(model)
    rows = await parts.desk.read(lambda files: by_association(files, played.model, association_id))
    shown = [_shown(row, ticket_of(request), model) for row in rows]
    return {"association_id": association_id, "predictions": shown}


def _shown(document: dict[str, Any], ticket: Ticket, model: str) -> dict[str, Any]:
    """What this caller may see of a prediction."""
    if ticket.principal.may("read", model):
        return document
    return {name: value for name, value in document.items() if name != "shadow"}
