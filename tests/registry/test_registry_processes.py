"""Several processes at one store, and processes that are killed: whole states only, and one winner a generation."""

import subprocess
import sys
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from registry.audit import verify
from registry.errors import StoreUnreachable
from registry.store import Registry
from registry.types import InputSchema, Principal, Signature

PROMOTE = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from registry.errors import GenerationMoved, TransitionRefused
from registry.store import Registry
from registry.types import Principal

won = {"promote": 0, "enlist": 0}
with Registry.open(Path(sys.argv[1]), now=lambda: datetime.now(UTC), busy_timeout_s=60) as registry:
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(int(sys.argv[2])):
        lineup = registry.lineup("loans")
        retired = next(number for number in (1, 2, 3) if lineup.role(number) == "retired" or number == 3)
        event, version = ("promote", lineup.challengers[0]) if lineup.challengers else ("enlist", retired)
        try:
            getattr(registry, event)(
                "loans", version, reason="", by=Principal("racer"), expected_generation=lineup.generation
            )
            won[event] += 1
        except GenerationMoved:
            pass
print(won["promote"], won["enlist"])
"""

APPROVE = """
import os, sys
from datetime import UTC, datetime
from pathlib import Path
from registry.errors import GenerationMoved, ProposalClosed, ProposalRefused
from registry.store import Registry
from registry.types import Principal

won = {"promote": 0, "approve": 0, "enlist": 0, "propose": 0}
by = Principal("racer")
with Registry.open(Path(sys.argv[1]), now=lambda: datetime.now(UTC), busy_timeout_s=60) as registry:
    print("ready", flush=True)
    sys.stdin.readline()
    for turn in range(int(sys.argv[2])):
        lineup = registry.lineup("loans")
        known = {"reason": "", "by": by, "expected_generation": lineup.generation}
        asked = [each for each in registry.proposals("loans") if each.state == "open"]
        if not lineup.challengers:
            event = "enlist"
            version = next(number for number in (1, 2, 3) if lineup.role(number) == "retired" or number == 3)
            arguments = (version,)
        elif asked and turn % 4:
            event, arguments = "approve", (asked[0].number, asked[0].digest)
        else:
            event, arguments = ("propose", "promote")[turn % 2], (lineup.challengers[0],)
        try:
            getattr(registry, event)("loans", *arguments, **known)
            won[event] += 1
        except (GenerationMoved, ProposalClosed, ProposalRefused):
            pass
print(*won.values())
"""

# each try is a fork of one process that has everything imported; it is killed before its k-th statement
KILL = """
import os, shutil, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from sqlalchemy import Engine, event
from registry.store import Registry
from registry.types import Principal

template, folder, what, transactions = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4]
now = lambda: datetime(2026, 1, 1, tzinfo=UTC)

def act(k):
    n_statements = 0
    def count(*ignored):
        nonlocal n_statements
        n_statements += 1
        if n_statements == k:
            os.kill(os.getpid(), signal.SIGKILL)
    place = folder / str(k)
    if what == "open":
        event.listen(Engine, "before_cursor_execute", count)
        Registry.open(place, now=now)
        return
    shutil.copytree(template, place)
    registry = Registry.open(place, now=now)
    event.listen(Engine, "before_cursor_execute", count)
    if transactions == "none":
        end_at_once = lambda connection: connection.exec_driver_sql("COMMIT")
        event.listen(registry._database._engine, "begin", end_at_once)
    registry.promote("loans", 2, reason="better", by=Principal("killed"), evidence={"log_e": 5.0})

for k in range(1, 200):
    pid = os.fork()
    if pid == 0:
        act(k)
        sys.exit()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code == 0:
        print(k)
        break
    assert code == -signal.SIGKILL, code
"""

RACE_WITH_DEATH = """
import os, random, signal, sys, time
from datetime import UTC, datetime
from pathlib import Path
from registry.store import Registry
from registry.types import Principal

folder, by = Path(sys.argv[1]), Principal("killed")
for seed in range(int(sys.argv[2])):
    heard, said = os.pipe()
    pid = os.fork()
    if pid == 0:
        registry = Registry.open(folder, now=lambda: datetime.now(UTC))
        while True:
            lineup = registry.lineup("loans")
            change = registry.retire if lineup.challengers else registry.enlist
            done = change("loans", 2, reason="", by=by)
            os.write(said, b"%d\\n" % done.generation)
    os.close(said)
    first = os.read(heard, 64)
    time.sleep(random.Random(seed).uniform(0, 0.02))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    rest = b""
    while more := os.read(heard, 65536):
        rest += more
    os.close(heard)
    acknowledged = int((first + rest).split()[-1])
    with Registry.open(folder, now=lambda: datetime.now(UTC)) as registry:
        print(acknowledged, registry.lineup("loans").generation)
"""


@pytest.fixture
def store(tmp_path: Path, schema: InputSchema, signature: Signature, me: Principal) -> Path:
    """A store with a champion, a challenger and a retired version of one model, closed."""
    folder = tmp_path / "store"
    with Registry.open(folder, now=lambda: datetime(2026, 1, 1, tzinfo=UTC)) as registry:
        registry.create_model("loans", schema, "binary", by=me)
        for number in (1, 2, 3):
            registry.add_version("loans", bytes([number]), signature, by=me)
        registry.appoint("loans", 1, reason="", by=me)
        registry.enlist("loans", 2, reason="", by=me)
    return folder


def run(script: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], capture_output=True, check=True, timeout=120, text=True
    )
    return done.stdout


def race(script: str, n_processes: int, *arguments: object) -> list[str]:
    """Starts the processes, lets them go together when all are ready, and returns what each said at its end."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    racers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(n_processes)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()
    said = [racer.communicate(timeout=120)[0] for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * n_processes
    return said


def assert_whole(registry: Registry) -> None:
    """Every generation has its row, every decision its audit line, every reign its number; the chain verifies."""
    lineups, decisions, reigns = registry.lineups("loans"), registry.decisions("loans"), registry.reigns("loans")
    assert [lineup.generation for lineup in lineups] == list(range(1, len(lineups) + 1))
    assert [decision.to_generation for decision in decisions] == [lineup.generation for lineup in lineups]
    lines = registry.audit()
    assert verify(lines) is None
    assert registry.verified().faults == []
    assert [line.detail["to_generation"] for line in lines if "to_generation" in line.detail] == [
        lineup.generation for lineup in lineups
    ]
    champions = [0, *(lineup.champion for lineup in lineups)]
    changes = [after for before, after in pairwise(champions) if before != after]
    assert [reign.champion for reign in reigns] == changes
    assert [reign.number for reign in reigns] == list(range(1, len(reigns) + 1))


def test_four_processes_promote_and_every_generation_has_one_winner(store: Path) -> None:
    said = race(PROMOTE, 4, store, 60)
    promoted, enlisted = (sum(int(line.split()[k]) for line in said) for k in (0, 1))
    with Registry.open(store, now=lambda: datetime.now(UTC)) as registry:
        assert_whole(registry)
        kinds = [decision.kind for decision in registry.decisions("loans") if decision.by == "racer"]
        assert kinds.count("promote") == promoted > 0
        assert kinds.count("enlist") == enlisted
        assert len(registry.lineups("loans")) == 2 + promoted + enlisted
        assert len([line for line in registry.audit() if line.principal == "racer"]) == promoted + enlisted
        assert len(registry.reigns("loans")) == 1 + promoted


def test_four_processes_promote_and_approve_at_once_and_every_generation_has_one_winner(store: Path) -> None:
    said = race(APPROVE, 4, store, 60)
    promoted, approved, enlisted, proposed = (sum(int(line.split()[k]) for line in said) for k in range(4))
    with Registry.open(store, now=lambda: datetime.now(UTC)) as registry:
        assert_whole(registry)
        won = [decision for decision in registry.decisions("loans") if decision.by == "racer"]
        assert len(won) == promoted + approved + enlisted == len(registry.lineups("loans")) - 2
        agreed = [decision.proposal for decision in won if decision.proposal is not None]
        assert len(set(agreed)) == len(agreed) == approved > 0
        proposals = registry.proposals("loans")
        assert [each.number for each in proposals] == list(range(1, proposed + 1))
        assert {each.number for each in proposals if each.state == "approved"} == set(agreed)
        by_racer = [line.action for line in registry.audit() if line.principal == "racer"]
        assert by_racer.count("promote") == promoted + approved
        assert by_racer.count("approve") == approved
        assert by_racer.count("propose") == proposed
        assert registry.verified().faults == []


def test_four_processes_open_a_new_store_at_once(tmp_path: Path) -> None:
    script = (
        "import sys, alembic.command\n"
        "from datetime import UTC, datetime\n"
        "from pathlib import Path\n"
        "from registry.store import Registry\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "with Registry.open(Path(sys.argv[1]), now=lambda: datetime.now(UTC)) as opened:\n"
        "    print(opened.change_stamp())"
    )
    assert race(script, 4, tmp_path / "new") == ["0\n"] * 4


def test_kill_minus_nine_before_any_statement_of_a_migration_leaves_nothing_or_all(tmp_path: Path) -> None:
    n_statements = int(run(KILL, "-", tmp_path, "open", "real"))
    assert n_statements > 20
    n_unfinished = 0
    for k in range(1, n_statements):
        n_unfinished += (tmp_path / str(k) / "registry.db-journal").exists()
        with Registry.open(tmp_path / str(k), now=lambda: datetime.now(UTC)) as registry:
            assert registry.models() == []
            assert registry.change_stamp() == 0
    assert n_unfinished > 10  # the control: it was in the middle of something


def test_kill_minus_nine_before_any_statement_of_a_promotion_leaves_the_one_before_or_after(
    store: Path, tmp_path: Path
) -> None:
    n_statements = int(run(KILL, store, tmp_path / "killed", "promote", "real"))
    assert n_statements > 8
    seen = set()
    for k in range(1, n_statements + 1):
        with Registry.open(tmp_path / "killed" / str(k), now=lambda: datetime.now(UTC)) as registry:
            assert_whole(registry)
            seen.add(registry.lineup("loans").generation)
    assert seen == {2, 3}


def test_the_control_without_transactions_a_kill_leaves_half_a_promotion(store: Path, tmp_path: Path) -> None:
    n_statements = int(run(KILL, store, tmp_path / "killed", "promote", "none"))
    n_halves = 0
    for k in range(1, n_statements):
        with Registry.open(tmp_path / "killed" / str(k), now=lambda: datetime.now(UTC)) as registry:
            try:
                assert_whole(registry)
            except AssertionError:
                n_halves += 1
    assert n_halves > 0


def test_what_was_acknowledged_is_there_after_kill_minus_nine_at_any_moment(store: Path) -> None:
    for line in run(RACE_WITH_DEATH, store, 25).splitlines():
        acknowledged, found = map(int, line.split())
        assert found in (acknowledged, acknowledged + 1)
    with Registry.open(store, now=lambda: datetime.now(UTC)) as registry:
        assert_whole(registry)


def test_a_file_that_is_no_database_is_not_opened_and_not_overwritten(store: Path) -> None:
    (store / "registry.db").write_bytes(b"no database" * 500)
    with pytest.raises(StoreUnreachable, match="not a database"):
        Registry.open(store, now=lambda: datetime.now(UTC))
    assert (store / "registry.db").read_bytes() == b"no database" * 500
