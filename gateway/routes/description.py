"""What the bodies of requests are, added to the OpenAPI document: routes decode them by themselves, Litestar sees none.

A route says `takes=Struct` in its decorator (`bytes`: anything, as uploads); the schema is msgspec's, made here.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec
from litestar import Litestar, Request
from litestar.openapi.plugins import JsonRenderPlugin, YamlRenderPlugin

AnyRequest = Request[Any, Any, Any]


class DescribedJson(JsonRenderPlugin):
    """`/schema/openapi.json`."""

    def render(self, request: AnyRequest, openapi_schema: dict[str, Any]) -> bytes:
        """The document, with bodies."""
        return super().render(request, with_bodies(openapi_schema, request.app))


class DescribedYaml(YamlRenderPlugin):
    """`/schema/openapi.yaml`."""

    def render(self, request: AnyRequest, openapi_schema: dict[str, Any]) -> bytes:
        """The document, with bodies."""
        return super().render(request, with_bodies(openapi_schema, request.app))


def with_bodies(document: dict[str, Any], app: Litestar) -> dict[str, Any]:
    """The document with a `requestBody` for every route that takes one, whose schemas are named `sent.…`."""
    taken = bodies(app)
    kinds = [kind for kind in dict.fromkeys(taken.values()) if kind is not bytes]
    schemas, named = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/sent.{name}")
    schema_of = dict(zip(kinds, schemas, strict=True))
    paths: dict[str, Any] = {path: dict(said) for path, said in document["paths"].items()}
    for (path, method), kind in taken.items():
        content = (
            {"application/octet-stream": {}} if kind is bytes else {"application/json": {"schema": schema_of[kind]}}
        )
        paths[path][method] = paths[path][method] | {"requestBody": {"required": True, "content": content}}
    components = document.get("components") or {}
    known = (components.get("schemas") or {}) | {f"sent.{name}": schema for name, schema in named.items()}
    return document | {"paths": paths, "components": components | {"schemas": known}}


@cache
def bodies(app: Litestar) -> dict[tuple[str, str], Any]:
    """(path, method) → what a route takes, of every route that says so."""
    return {
        (route.path_format, method.lower()): handler.opt["takes"]
        for route in app.routes
        for handler in getattr(route, "route_handlers", ())
        for method in handler.http_methods
        if "takes" in handler.opt
    }
