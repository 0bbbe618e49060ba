"""How a model is trained, under `/admin`: its recipe, a training that a person asks for, and what came of each.

The gateway only writes down what is asked for; the retrain worker does it.
"""

from __future__ import annotations

import asyncio
import uuid
from functools import partial
from typing import Annotated, Any

from litestar import delete, get, post, put
from litestar.params import FromPath
from msgspec import Meta, Struct

from gateway.routes.changes import AnyRequest, Because, Reason, body_of
from gateway.routes.parts import Using, ticket_of
from registry.recipe import Recipe
from registry.trainings import Training


class NewTraining(Struct, forbid_unknown_fields=True):
    """`POST /admin/models/{m}/train`. `trigger`: an id of the caller's; the same one asks once."""

    reason: Reason
    trigger: Annotated[str, Meta(min_length=1, max_length=100)] | None = None


@get("/admin/models/{model:str}/recipe", summary="How the model is trained, and when", scope="read")
async def read_recipe(model: FromPath[str], parts: Using) -> dict[str, Recipe | None]:
    """`{"recipe"}`: null where only people bring versions."""
    return {"recipe": await asyncio.to_thread(parts.registry.trainings.recipe, model)}


@put(
    "/admin/models/{model:str}/recipe",
    status_code=200,
    summary="Train the model so from now on",
    scope="operate",
    takes=Recipe,
)
async def set_recipe(model: FromPath[str], request: AnyRequest, parts: Using) -> dict[str, Recipe | None]:
    """A recipe is data: a function that it names must lie in the folder `retrain.functions` of the server."""
    recipe = await body_of(request, Recipe)
    give = partial(parts.registry.trainings.set_recipe, model, recipe, by=ticket_of(request).principal)
    await asyncio.to_thread(give)
    return {"recipe": recipe}


@delete(
    "/admin/models/{model:str}/recipe",
    status_code=200,
    summary="Train the model no more; versions that were trained stay",
    scope="operate",
    takes=Because,
)
async def remove_recipe(model: FromPath[str], request: AnyRequest, parts: Using) -> dict[str, Recipe | None]:
    """`{"reason"}` → no recipe. A training that is under way is finished."""
    why, by = await body_of(request, Because), ticket_of(request).principal
    await asyncio.to_thread(partial(parts.registry.trainings.set_recipe, model, None, by=by, reason=why.reason))
    return {"recipe": None}


@post(
    "/admin/models/{model:str}/train",
    status_code=202,
    summary="Ask for a training by the recipe of now",
    scope="operate",
    takes=NewTraining,
)
async def train(model: FromPath[str], request: AnyRequest, parts: Using) -> Training:
    """`{"reason", "trigger"?}` → the training; it is done by the retrain worker, after those that were asked before."""
    new = await body_of(request, NewTraining)
    trigger = f"person:{new.trigger or uuid.uuid4().hex}"
    ask = partial(
        parts.registry.trainings.ask, model, trigger, "person", new.reason, by=ticket_of(request).principal
    )  # fmt: skip
    return await asyncio.to_thread(ask)


@get("/admin/models/{model:str}/trainings", summary="When the next training is due, and every one so far", scope="read")
async def list_trainings(model: FromPath[str], parts: Using) -> dict[str, Any]:
    """`{"recipe", "outlook", "trainings"}`, oldest first; the outlook is null while there is nothing to say."""
    trainings = parts.registry.trainings
    return {
        "recipe": await asyncio.to_thread(trainings.recipe, model),
        "outlook": await asyncio.to_thread(trainings.outlook, model),
        "trainings": await asyncio.to_thread(trainings.all, model),
    }


@get("/admin/models/{model:str}/trainings/{number:int}", summary="One training", scope="read")
async def read_training(model: FromPath[str], number: FromPath[int], parts: Using) -> Training:
    """What asked for it, how far it is, and what came of it."""
    return await asyncio.to_thread(parts.registry.trainings.one, model, number)


HANDLERS: list[Any] = [read_recipe, set_recipe, remove_recipe, train, list_trainings, read_training]
