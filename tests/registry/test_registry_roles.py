"""The table in the docstring of `roles` is the table that is used, and every other transition is refused."""

import re
from itertools import product
from typing import get_args

import pytest

from registry import roles
from registry.errors import TransitionRefused
from registry.types import Lineup, Role

LINEUP = Lineup("m", 4, 1, (2, 3), 9)
MEMBERS: dict[Role, int] = {"champion": 1, "challenger": 2, "previous": 9, "retired": 7}


def test_the_table_in_the_docstring_is_the_table() -> None:
    assert roles.__doc__ is not None
    lines = [line for line in roles.__doc__.splitlines() if line.startswith("    ")][2:]
    columns = [re.split(r"\s{2,}", line.strip()) for line in lines]
    written = {(event, before): after for event, _, before, after, _ in columns}
    assert written == roles.TRANSITIONS


@pytest.mark.parametrize(("event", "role"), list(product(get_args(roles.Event), get_args(Role))))
def test_every_event_in_every_role_does_what_the_table_says(event: roles.Event, role: Role) -> None:
    version = MEMBERS[role]
    becomes = roles.TRANSITIONS.get((event, role))
    if becomes is None or event == "register":
        with pytest.raises(TransitionRefused, match="champion already" if becomes else f"cannot {event} version"):
            roles.after(event, version, LINEUP)
        return
    lineup = roles.after(event, version, LINEUP)
    assert lineup.role(version) == becomes
    assert lineup.generation == 5
    assert lineup.since is None
    assert lineup.champion not in (*lineup.challengers, lineup.previous)


def test_whom_else_a_change_moves() -> None:
    assert roles.after("promote", 2, LINEUP) == Lineup("m", 5, 2, (3,), 1)
    assert roles.after("rollback", 9, LINEUP) == Lineup("m", 5, 9, (2, 3))
    assert roles.after("retire", 9, LINEUP) == Lineup("m", 5, 1, (2, 3))
    assert roles.after("retire", 3, LINEUP) == Lineup("m", 5, 1, (2,), 9)
    assert roles.after("enlist", 7, LINEUP) == Lineup("m", 5, 1, (2, 3, 7), 9)
    assert roles.first("m", 1) == Lineup("m", 1, 1)
