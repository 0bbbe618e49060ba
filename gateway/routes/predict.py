"""`POST /models/{m}/predict`, and reading a prediction back."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Request, Response, get, post
from litestar.params import FromPath, FromQuery, QueryParameter

from gateway.front import JSON, expect_json
from gateway.lookup import by_association, by_id
from gateway.routes.parts import Using
from gateway.wire.own import Answer, encode, rows_of

Row = Annotated[int, QueryParameter(ge=0, description="which row of the request")]


@post("/models/{model:str}/predict", status_code=200, summary="The champion's answer, recorded before it is sent")
async def predict(model: FromPath[str], request: Request[Any, Any, Any], parts: Using) -> Response[bytes]:
    """`{"inputs": {…}}` or a list of them → `{"prediction_id", "model", "version", "outputs"}`."""
    ticket = parts.front.enter(request.headers)
    expect_json(request.headers)
    asked = parts.lineups[model].decoder.decode(await request.body())
    answered = await parts.predictor.predict(model, asked, ticket.purpose, ticket.principal.name, ticket.trace)
    rows = rows_of(answered.outputs, answered.start, answered.stop)
    answer = Answer(answered.prediction_id, model, answered.version, rows[0] if asked.single else rows)
    headers = parts.front.leave(ticket, 200, model=model, version=answered.version, n_rows=len(rows))
    return Response(encode(answer), media_type=JSON, headers=headers)


@get("/models/{model:str}/predictions/{prediction_id:str}", summary="A prediction, its shadow scores and outcomes")
async def read_prediction(
    model: FromPath[str], prediction_id: FromPath[str], parts: Using, row: Row = 0
) -> dict[str, Any]:
    """One row of a request, by its prediction id."""
    serving = parts.lineups[model]
    return await parts.desk.read(lambda files: by_id(files, serving.model, prediction_id, row))


@get("/models/{model:str}/predictions", summary="The predictions of an association id")
async def read_predictions(model: FromPath[str], association_id: FromQuery[str], parts: Using) -> dict[str, Any]:
    """Every row that carries the association id, oldest first."""
    serving = parts.lineups[model]
    rows = await parts.desk.read(lambda files: by_association(files, serving.model, association_id))
    return {"association_id": association_id, "predictions": rows}
