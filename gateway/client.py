"""The client: the same calls on a running server, or on a store without one.

    with Client("http://127.0.0.1:8080") as understudy:
        answer = understudy.predict("late-flights", {"carrier": "UA", "distance": 733.0})
        understudy.outcome("late-flights", 1, prediction_id=answer["prediction_id"])

`Client.on_store(settings)` runs the very same application in this process, so there is one way to do each thing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

import msgspec

from gateway.config import Settings
from gateway.http_calls import HttpCalls, path_of
from registry.types import FirstRole

if TYPE_CHECKING:
    from gateway.export import Wanted

Rows = Mapping[str, Any] | Sequence[Mapping[str, Any]]


class Client(HttpCalls):
    """Calls of one user. Not for several threads at once."""

    @classmethod
    def on_store(cls, settings: Settings) -> Self:
        """Work on a store in this process; nothing else needs to run."""
        from gateway.in_process import InProcess  # as slow as a server, and not needed to talk to one

        return cls("http://store", transport=InProcess(settings))

    def predict(self, model: str, inputs: Rows, **facts: Any) -> dict[str, Any]:
        """The champion's answer. `facts`: association_id, predicted_at, decision, propensity; each as on the wire."""
        return self._json("POST", path_of("models", model, "predict"), {"inputs": inputs, **facts})

    def outcome(self, model: str, outcome: Any, **facts: Any) -> dict[str, Any]:
        """What really happened. `facts`: prediction_id or association_id, and row, observed_at, source."""
        return self._json("POST", path_of("models", model, "outcomes"), {"outcome": outcome, **facts})

    def outcomes(self, model: str, outcomes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Many at once; see `outcome`."""
        return self._json("POST", path_of("models", model, "outcomes"), outcomes)

    def prediction(self, model: str, prediction_id: str, row: int = 0) -> dict[str, Any]:
        """A prediction read back, with its shadow scores and outcomes."""
        return self._json("GET", path_of("models", model, "predictions", prediction_id), params={"row": row})

    def predictions(self, model: str, association_id: str) -> list[dict[str, Any]]:
        """The predictions of an association id, oldest first."""
        found = self._json("GET", path_of("models", model, "predictions"), params={"association_id": association_id})
        rows: list[dict[str, Any]] = found["predictions"]
        return rows

    def models(self) -> list[dict[str, Any]]:
        """Every model with its lineup, versions and mirror."""
        documents: list[dict[str, Any]] = self._decoded("GET", "/admin/models")
        return documents

    def model(self, model: str) -> dict[str, Any]:
        """One model."""
        return self._json("GET", path_of("admin", "models", model))

    def create_model(
        self, model: str, task: str, features: Sequence[Mapping[str, Any]], policy: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Declare a model; the same declaration again changes nothing."""
        declared = {"name": model, "task": task, "features": features} | ({} if policy is None else {"policy": policy})
        return self._json("POST", "/admin/models", declared)

    def register(self, model: str, onnx: bytes, as_: FirstRole, **options: str | None) -> dict[str, Any]:
        """Upload a version. `options`: score, classes, features, training, reason; each as on the wire."""
        params = {"as": as_} | {name: value for name, value in options.items() if value is not None}
        headers = {"content-type": "application/octet-stream"}
        path = path_of("admin", "models", model, "versions")
        version: dict[str, Any] = self._decoded("POST", path, content=onnx, params=params, headers=headers)
        return version

    def promote(self, model: str, version: int, reason: str, *, generation: int | None = None) -> dict[str, Any]:
        """Make a challenger the champion; returns the lineup."""
        return self._change(model, "promote", {"version": version, "reason": reason}, generation)

    def rollback(self, model: str, reason: str, *, generation: int | None = None) -> dict[str, Any]:
        """Give the previous champion its place back; returns the lineup."""
        return self._change(model, "rollback", {"reason": reason}, generation)

    def retire(self, model: str, version: int, reason: str, *, generation: int | None = None) -> dict[str, Any]:
        """Take a challenger out of play; returns the lineup."""
        return self._change(model, "retire", {"version": version, "reason": reason}, generation)

    def enlist(self, model: str, version: int, reason: str, *, generation: int | None = None) -> dict[str, Any]:
        """Make a retired version a challenger again; returns the lineup."""
        return self._change(model, "challengers", {"version": version, "reason": reason}, generation)

    def propose(
        self, model: str, version: int | None, reason: str, *, policy: Mapping[str, Any] | None = None,
        generation: int | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """Ask others to promote a challenger, or (version None) to change the terms; returns the proposal."""
        what = {"version": version} if policy is None else {"policy": policy}
        return self._change(model, "proposals", what | {"reason": reason}, generation)

    def approve(self, model: str, proposal: Mapping[str, Any], reason: str) -> dict[str, Any]:
        """Agree to a proposal as it was read, and so make the change; returns it."""
        agreed = {"digest": proposal["digest"], "reason": reason}
        return self._json(
            "POST", path_of("admin", "models", model, "proposals", str(proposal["number"]), "approve"), agreed
        )

    def reject(self, model: str, number: int, reason: str) -> dict[str, Any]:
        """Refuse a proposal, for good; returns it."""
        path = path_of("admin", "models", model, "proposals", str(number), "reject")
        return self._json("POST", path, {"reason": reason})

    def proposals(self, model: str) -> list[dict[str, Any]]:
        """What is or was proposed, oldest first."""
        proposed: list[dict[str, Any]] = self._decoded("GET", path_of("admin", "models", model, "proposals"))
        return proposed

    def proposal(self, model: str, number: int) -> dict[str, Any]:
        """One proposal."""
        return self._json("GET", path_of("admin", "models", model, "proposals", str(number)))

    def lift_bar(self, model: str, version: int, reason: str) -> dict[str, Any]:
        """Let a version that was rolled back play again; returns the bar that was."""
        return self._json(
            "POST", path_of("admin", "models", model, "bars", "lift"), {"version": version, "reason": reason}
        )

    def bars(self, model: str) -> dict[str, Any]:
        """The versions that were rolled back, and until when the rule rests."""
        return self._json("GET", path_of("admin", "models", model, "bars"))

    def lineup(self, model: str, *, at: datetime | None = None, generation: int | None = None) -> dict[str, Any]:
        """Who plays now; or who played at a moment, or in a generation."""
        asked = {"at": None if at is None else at.isoformat(), "generation": generation}
        params = {name: value for name, value in asked.items() if value is not None}
        return self._json("GET", path_of("admin", "models", model, "lineup"), params=params)

    def delete_model(self, model: str, reason: str) -> None:
        """Take back the declaration of a model that never had a version."""
        self._json("DELETE", path_of("admin", "models", model), {"reason": reason})

    def audit(self, model: str | None = None, *, after: int = 0, limit: int = 1_000) -> list[dict[str, Any]]:
        """Lines of the audit, oldest first, from the one after `after`."""
        params = {"after": after, "limit": limit} | ({} if model is None else {"model": model})
        lines: list[dict[str, Any]] = self._decoded("GET", "/admin/audit", params=params)
        return lines

    def verify_audit(self, head: str | None = None) -> dict[str, Any]:
        """Whether the audit is whole and the registry what it says: `{"n_lines", "head", "faults"}`."""
        return self._json("GET", "/admin/audit/verify", params={} if head is None else {"head": head})

    def evidence(self, model: str) -> dict[str, Any]:
        """What is known of the challengers, and what is missing."""
        return self._json("GET", path_of("admin", "models", model, "evidence"))

    def export(self, model: str, wanted: Wanted) -> Iterator[bytes]:
        """The bytes of a Parquet file of predictions with their outcomes, as they come; `export.written` keeps them.

        Raises:
            ProblemError, Unreachable: refused, or ended in between: what came so far is no whole file.
        """
        said = {name: value for name, value in msgspec.to_builtins(wanted).items() if value is not None}
        return self._streamed(path_of("admin", "models", model, "export"), said)

    def export_days(self, model: str, as_of: datetime | None = None) -> dict[str, Any]:
        """The days that can be exported once and for all, as of a time (now)."""
        asked = {} if as_of is None else {"as_of": as_of.isoformat()}
        return self._json("GET", path_of("admin", "models", model, "export", "days"), params=asked)

    def bundle(self, model: str, *, generation: int | None = None, version: int | None = None) -> Iterator[bytes]:
        """The bytes of an evidence bundle, a zip, as they come: of the decision that began a generation, or of now.

        Raises:
            ProblemError, Unreachable: refused, or ended in between: what came so far is no whole bundle.
        """
        asked = {name: n for name, n in (("generation", generation), ("version", version)) if n is not None}
        return self._streamed(path_of("admin", "models", model, "bundle"), asked)

    def drift(self, model: str) -> dict[str, Any]:
        """How far traffic, scores and outcomes have moved from what the champion was trained on."""
        return self._json("GET", path_of("admin", "models", model, "drift"))

    def recipe(self, model: str) -> dict[str, Any] | None:
        """How the model is trained; None where only people bring versions."""
        return self._json("GET", path_of("admin", "models", model, "recipe"))["recipe"]  # type: ignore[no-any-return]

    def set_recipe(self, model: str, recipe: Mapping[str, Any]) -> None:
        """Train the model so from now on."""
        self._json("PUT", path_of("admin", "models", model, "recipe"), recipe)

    def remove_recipe(self, model: str, reason: str) -> None:
        """Train the model no more."""
        self._json("DELETE", path_of("admin", "models", model, "recipe"), {"reason": reason})

    def train(self, model: str, reason: str, *, trigger: str | None = None) -> dict[str, Any]:
        """Ask for a training; the same trigger asks once. Returns the training."""
        asked = {"reason": reason} | ({} if trigger is None else {"trigger": trigger})
        return self._json("POST", path_of("admin", "models", model, "train"), asked)

    def trainings(self, model: str) -> dict[str, Any]:
        """`{"recipe", "outlook", "trainings"}`: when the next one is due, and every one so far, oldest first."""
        return self._json("GET", path_of("admin", "models", model, "trainings"))

    def training(self, model: str, number: int) -> dict[str, Any]:
        """One training."""
        return self._json("GET", path_of("admin", "models", model, "trainings", str(number)))

    def replay(self, model: str, version: int, reason: str, **span: datetime | None) -> dict[str, Any]:
        """Have past rows scored by a version; returns the replay. `span`: since, and until, trained_until."""
        said = {name: moment.isoformat() for name, moment in span.items() if moment is not None}
        return self._change(model, "replays", {"version": version, "reason": reason, **said}, None)

    def replays(self, model: str) -> list[dict[str, Any]]:
        """What was replayed, oldest first."""
        replayed: list[dict[str, Any]] = self._decoded("GET", path_of("admin", "models", model, "replays"))
        return replayed

    def one_replay(self, model: str, number: int) -> dict[str, Any]:
        """One replay, with its report once it is done."""
        return self._json("GET", path_of("admin", "models", model, "replays", str(number)))

    def wait_replayed(
        self, model: str, number: int, *, timeout_s: float, poll_s: float = 0.2,
        look: Callable[[dict[str, Any]], None] = lambda _: None,
    ) -> dict[str, Any]:  # fmt: skip
        """Wait until a replay is done or has failed; `look` is shown how far it is, each time that somebody asks.

        Raises:
            TimeoutError: it is neither, in that time.
        """
        deadline_s = time.monotonic() + timeout_s
        while (replay := self.one_replay(model, number))["state"] not in ("done", "failed"):
            look(replay)
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"replay {number} of '{model}' is {replay['state']} still after {timeout_s:g} s")
            time.sleep(poll_s)
        look(replay)
        return replay

    def decisions(self, model: str) -> list[dict[str, Any]]:
        """Every change of the lineup, oldest first."""
        decided: list[dict[str, Any]] = self._decoded("GET", path_of("admin", "models", model, "decisions"))
        return decided

    def keys(self) -> list[dict[str, Any]]:
        """Every key that was ever issued, oldest first, without the secrets."""
        issued: list[dict[str, Any]] = self._decoded("GET", "/admin/keys")
        return issued

    def issue_key(self, principal: str, scopes: Sequence[str], **limits: Any) -> dict[str, Any]:
        """Issue a key: `{"key", "token"}`, the token this once. `limits`: models, expires_at; each as on the wire."""
        return self._json("POST", "/admin/keys", {"principal": principal, "scopes": scopes, **limits})

    def revoke_key(self, key_id: str, reason: str) -> dict[str, Any]:
        """Revoke a key, for good; returns it."""
        return self._json("POST", path_of("admin", "keys", key_id, "revoke"), {"reason": reason})

    def clock(self) -> dict[str, Any]:
        """`{"source", "now"}`: whose time it is, and what time; None while the caller's was never set."""
        return self._json("GET", "/admin/clock")

    def set_clock(self, now: datetime) -> None:
        """Advance the caller's clock."""
        self._json("POST", "/admin/clock", {"now": now.isoformat()})

    def ready(self) -> dict[str, Any]:
        """What `/readyz` says, ready or not."""
        said = self._document(self._request("GET", "/readyz"))
        if not isinstance(said, dict) or "problems" not in said:
            raise self._not_us("/readyz")
        return said

    def wait_caught_up(self, model: str, *, timeout_s: float, poll_s: float = 0.02) -> dict[str, Any]:
        """Wait until every challenger has been given every prediction; returns the model.

        Raises:
            TimeoutError: it has not, in that time; says how many chunks wait.
        """
        deadline_s = time.monotonic() + timeout_s
        while True:
            document = self.model(model)
            waiting = sum(entry["n_chunks_waiting"] for entry in document["mirror"])
            if not waiting:
                return document
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"{waiting} chunks of '{model}' still wait for a challenger after {timeout_s:g} s")
            time.sleep(poll_s)

    def _change(self, model: str, what: str, body: Mapping[str, Any], generation: int | None) -> dict[str, Any]:
        headers = {} if generation is None else {"if-match": f'"{generation}"'}
        return self._json("POST", path_of("admin", "models", model, what), body, headers=headers)
