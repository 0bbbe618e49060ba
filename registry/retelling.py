"""The registry as its audit alone tells it: every row that must be there, and what must stand in it.

Lineups come out of the same table of roles by which they were made (`registry.roles`). A fact that older lines did not
tell yet (the digest of a signature, of a token) is not expected of their rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Table

from registry import roles, tables
from registry.audit import FROZEN, canonical
from registry.policy import policy_of
from registry.types import AuditRow, Lineup

Key = tuple[Any, ...]
Facts = dict[str, Any]


class Told:
    """What the lines heard so far amount to, table by table."""

    def __init__(self) -> None:
        self.rows: dict[Table, dict[Key, Facts]] = {
            table: {}
            for table in (
                tables.models, tables.schemas, tables.versions, tables.lineups, tables.reigns, tables.decisions,
                tables.proposals, tables.bars, tables.api_keys, tables.recipes, tables.trainings,
                tables.replays,
            )
        }  # fmt: skip
        self._lineups: dict[str, Lineup] = {}
        self._actions: Mapping[str, Callable[[AuditRow, Facts], None]] = {
            "create_model": self._create_model, "delete_model": self._delete_model, "extend_schema": self._schema,
            "add_version": self._add_version, "set_policy": self._set_policy, "propose": self._propose,
            "approve": self._close, "reject": self._close, "lift_bar": self._lift_bar, "issue_key": self._issue_key,
            "revoke_key": self._revoke_key, "set_recipe": self._set_recipe, "ask_training": self._ask_training,
            "end_training": self._end_training, "ask_replay": self._ask_replay, "end_replay": self._end_replay,
        } | dict.fromkeys(("register", "enlist", "promote", "rollback", "retire"), self._decide)  # fmt: skip

    def hear(self, line: AuditRow) -> None:
        """One more line, in order; those that tell of nothing stored (a refused upload) change nothing.

        Raises:
            RegistryError, KeyError, TypeError, ValueError: it cannot follow what was heard before.
        """
        if (act := self._actions.get(line.action)) is not None:
            act(line, line.detail)

    def _create_model(self, line: AuditRow, said: Facts) -> None:
        number = said.get("schema_version", 1)
        self.rows[tables.models][(line.model,)] = {
            "task": said["task"], "policy": _terms(said["policy"]), "created_at": line.at, "schema_version": number,
        }  # fmt: skip
        self._schema(line, said | {"version": number})

    def _delete_model(self, line: AuditRow, said: Facts) -> None:
        del self.rows[tables.models][(line.model,)]
        for table in (tables.schemas, tables.proposals, tables.recipes):
            self.rows[table] = {key: facts for key, facts in self.rows[table].items() if key[0] != line.model}

    def _schema(self, line: AuditRow, said: Facts) -> None:
        digest = said["schema_digest"]
        facts = {"digest": digest, "features_digest": digest, "since": line.at}
        self.rows[tables.schemas][(line.model, said["version"])] = facts
        self.rows[tables.models][(line.model,)]["schema_version"] = said["version"]

    def _add_version(self, line: AuditRow, said: Facts) -> None:
        facts = {
            "digest": said["digest"], "n_bytes": said["n_bytes"], "created_by": line.principal, "created_at": line.at,
        }  # fmt: skip
        if "signature_digest" in said:
            facts |= {name: said.get(name) for name in ("signature_digest", "training_digest")}
        self.rows[tables.versions][(line.model, said["version"])] = facts

    def _decide(self, line: AuditRow, said: Facts) -> None:
        before, version = self._lineups.get(line.model), said["version"]
        after = roles.first(line.model, version) if before is None else roles.after(line.action, version, before)  # type: ignore[arg-type]  # one of the five
        from_generation = before.generation if before else 0
        if (said["from_generation"], said["to_generation"]) != (from_generation, after.generation):
            raise ValueError(f"it tells of generation {said['to_generation']}, and {after.generation} is the next")
        after = self._follow(line, after)
        if before is None or before.champion != after.champion:
            self._begin_reign(after)
        digests = {f"{name}_digest": said.get(f"{name}_digest") for name in FROZEN}
        self.rows[tables.decisions][(line.model, after.generation)] = digests | {
            "kind": line.action, "version": version, "from_generation": from_generation, "principal": line.principal,
            "reason": said["reason"], "at": after.since, "proposal": said.get("proposal"),
        }  # fmt: skip
        if line.action == "rollback" and before is not None:
            self.rows[tables.bars][(line.model, before.champion, after.generation)] = {
                "at": after.since, "lifted_by": None, "lifted_reason": None, "lifted_at": None,
            }  # fmt: skip

    def _set_policy(self, line: AuditRow, said: Facts) -> None:
        self.rows[tables.models][(line.model,)]["policy"] = _terms(said["policy"])
        before = self._lineups.get(line.model)
        expected = None if before is None else before.generation + 1
        if said["to_generation"] != expected:
            raise ValueError(f"it tells of generation {said['to_generation']}, and {expected} is the next")
        if before is not None and expected is not None:
            self._begin_reign(self._follow(line, msgspec.structs.replace(before, generation=expected)))

    def _follow(self, line: AuditRow, after: Lineup) -> Lineup:
        before = self._lineups.get(line.model)
        since = line.at if before is None or before.since is None else max(line.at, before.since)
        after = self._lineups[line.model] = msgspec.structs.replace(after, since=since)
        self.rows[tables.lineups][(line.model, after.generation)] = {
            "champion": after.champion, "challengers": msgspec.json.encode(after.challengers).decode(),
            "previous": after.previous, "since": since,
        }  # fmt: skip
        return after

    def _begin_reign(self, lineup: Lineup) -> None:
        number = 1 + sum(key[0] == lineup.model for key in self.rows[tables.reigns])
        facts = {
            "champion": lineup.champion, "first_generation": lineup.generation, "since": lineup.since,
            "policy": self.rows[tables.models][(lineup.model,)]["policy"],
        }  # fmt: skip
        champion = self.rows[tables.versions][(lineup.model, lineup.champion)]
        if "training_digest" in champion:
            facts["training_digest"] = champion["training_digest"]
        self.rows[tables.reigns][(lineup.model, number)] = facts

    def _propose(self, line: AuditRow, said: Facts) -> None:
        self.rows[tables.proposals][(line.model, said["proposal"])] = {
            "kind": said["kind"], "version": said["version"], "generation": said["generation"],
            "principal": line.principal, "reason": said["reason"], "at": line.at, "digest": said["digest"],
            "recomputed": said["digest"], "state": "open", "closed_by": None, "closed_reason": None, "closed_at": None,
        }  # fmt: skip

    def _close(self, line: AuditRow, said: Facts) -> None:
        self.rows[tables.proposals][(line.model, said["proposal"])] |= {
            "state": "approved" if line.action == "approve" else "rejected", "closed_by": line.principal,
            "closed_reason": said["reason"], "closed_at": line.at,
        }  # fmt: skip

    def _lift_bar(self, line: AuditRow, said: Facts) -> None:
        self.rows[tables.bars][(line.model, said["version"], said["generation"])] |= {
            "lifted_by": line.principal, "lifted_reason": said["reason"], "lifted_at": line.at,
        }  # fmt: skip

    def _issue_key(self, line: AuditRow, said: Facts) -> None:
        models, expires_at = said["models"], said["expires_at"]
        facts = {
            "principal": said["principal"], "scopes": msgspec.json.encode(said["scopes"]).decode(),
            "models": None if models is None else msgspec.json.encode(models).decode(), "created_at": line.at,
            "created_by": line.principal, "revoked_at": None,
            "expires_at": None if expires_at is None else msgspec.convert(expires_at, datetime),
        }  # fmt: skip
        if "token_digest" in said:
            facts["token_digest"] = said["token_digest"]
        self.rows[tables.api_keys][(said["key_id"],)] = facts

    def _revoke_key(self, line: AuditRow, said: Facts) -> None:
        self.rows[tables.api_keys][(said["key_id"],)]["revoked_at"] = line.at

    def _set_recipe(self, line: AuditRow, said: Facts) -> None:
        self.rows[tables.recipes].pop((line.model,), None)
        if said["recipe"] is not None:
            facts = {"recipe_digest": said["recipe_digest"], "principal": line.principal, "at": line.at}
            self.rows[tables.recipes][(line.model,)] = facts

    def _ask_training(self, line: AuditRow, said: Facts) -> None:
        facts = {name: said[name] for name in ("trigger", "kind", "reason", "recipe_digest")}
        facts |= {"principal": line.principal, "at": msgspec.convert(said["at"], datetime)}
        self.rows[tables.trainings][(line.model, said["training"])] = facts | {"version": None, "sentence": None}

    def _end_training(self, line: AuditRow, said: Facts) -> None:
        ended = {name: said[name] for name in ("state", "version", "sentence", "n_attempts")}
        ended |= {"ended_at": line.at, "progress": "", "holder": None, "leased_until": None}
        self.rows[tables.trainings][(line.model, said["training"])] |= ended

    def _ask_replay(self, line: AuditRow, said: Facts) -> None:
        self.rows[tables.replays][(line.model, said["replay"])] = {
            "version": said["version"], "asked_digest": said["asked_digest"], "state": "asked", "report_digest": None,
            "ended_at": None, "ended_generation": None,
        }  # fmt: skip

    def _end_replay(self, line: AuditRow, said: Facts) -> None:
        ended = {name: said[name] for name in ("state", "report_digest", "ended_generation")}
        self.rows[tables.replays][(line.model, said["replay"])] |= ended | {"ended_at": line.at}


def _terms(policy: dict[str, Any]) -> str:
    """Terms as they are compared: as they are read now, whenever they were written."""
    return canonical(policy_of(policy))
