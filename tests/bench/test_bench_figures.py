"""What figures are made of: ratios within rounds, gates, the costs of challengers, and the part of README."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree

import pytest

from bench.elsewhere import Block, Cost, costs
from bench.figures import named, ratio, summaries
from bench.gates import GATES, Gate, judged
from bench.load_wrk import Load, WrkFailed, read
from bench.picture import svg
from bench.readme import PARTS, RESULTS, shown, with_part
from bench.report import markdown
from bench.rounds import CONNECTIONS, Cell, Mirrored, Paced, Skipped, Visit, rotated
from bench.systems import SYSTEMS

FACTS = {"measured": "2025-01-02", "rows": "2,000", "rounds": "3", "seconds": "5", "cpu": "one"}


def load(requests_per_s: float, *, n_bad: int = 0, busy: float = 0.5) -> Load:
    return Load(round(requests_per_s), 1_000_000, 500, 2_000, 9_000, n_bad, 0, busy)


def visit(system: str, number: int, requests_per_s: float, **more: int) -> Visit:
    cells = tuple(Cell(c, load(requests_per_s, **more), {"server": 50.0 * requests_per_s}) for c in CONNECTIONS)
    return Visit(system, number, 0.5, {"supervisor": 40_000_000, "gateway": 80_000_000, "shadow": 60_000_000}, cells)


def test_ratios_are_taken_within_a_round() -> None:
    """The machine halves its speed in the second round; over medians the ratio would be 4."""
    speeds = [("fastapi_plain", 0, 100), ("process", 0, 400), ("fastapi_plain", 1, 50), ("process", 1, 200)]
    visits = [visit(*each) for each in [*speeds, ("fastapi_plain", 2, 100), ("process", 2, 500), ("process", 3, 1)]]
    assert ratio(visits, "process", "fastapi_plain", 64) == 4
    assert ratio(visits, "process", "fastapi_mirror", 64) is None
    assert summaries(visits)["process"].speeds[64].requests_per_s == 300
    assert summaries(visits)["process"].speeds[64].cpu_us == 50


def test_figures_of_a_cell_with_errors_are_not_judged() -> None:
    clean = [visit("fastapi_plain", 0, 100), visit("process", 0, 1_000)]
    failing = [visit("fastapi_plain", 0, 100), visit("process", 0, 1_000, n_bad=1)]
    assert named(clean, [])["process/times_fastapi_plain/64"] == 10
    assert "process/times_fastapi_plain/64" not in named(failing, [])
    by_setting = {each.gate.figure: each.judgement for each in judged(named(failing, []))}
    assert by_setting["process/times_fastapi_plain/64"] == "not measured"


def test_memory_is_of_what_answers() -> None:
    assert named([visit("process", 0, 1)], [])["process/pss_mb"] == 120


@pytest.mark.parametrize(
    ("measured", "more_is_better", "judgement"),
    [
        (10.0, True, "goal met"),
        (9.0, True, "gate met"),
        (8.9, True, "missed"),
        (10.0, False, "gate met"),
        (9.9, False, "goal met"),
        (11.1, False, "missed"),
        (None, False, "not measured"),
    ],
)
def test_a_gate_is_judged_by_its_direction(measured: float | None, more_is_better: bool, judgement: str) -> None:
    goal, limit = (10, 9) if more_is_better else (9.9, 11)
    gate = Gate("s", "f", goal, limit, "x", more_is_better)
    (found,) = judged({} if measured is None else {"f": measured}, (gate,))
    assert found.judgement == judgement


def test_every_gate_names_a_figure_that_is_made() -> None:
    visits = [visit(name, 0, 100) for name in ("fastapi_plain", "fastapi_mirror", "process", "shadowed", "power")]
    paced = [
        Visit(**{f: getattr(v, f) for f in v.__struct_fields__} | {"paced": Paced(3e3, 1, 2, 3, 0)}) for v in visits
    ]
    assert {gate.figure for gate in GATES} <= set(named(paced, [Cost(1, 2, 3)]))


def test_the_cost_of_challengers_is_of_neighbouring_blocks_in_either_order() -> None:
    alone = Block("process", load(1_000), Paced(500, 300, 900, 1, 0))
    shadowed = Block("shadowed", load(950), Paced(500, 300, 1_000, 1, 0))
    for cost in costs([alone, shadowed, shadowed, alone]):
        assert [getattr(cost, name) for name in cost.__struct_fields__] == pytest.approx([5, 100, 0])


def test_each_system_is_first_once() -> None:
    orders = [rotated(SYSTEMS, number) for number in range(len(SYSTEMS))]
    assert {order[0].name for order in orders} == {system.name for system in SYSTEMS}
    assert all(len(order) == len(SYSTEMS) for order in orders)


def test_what_wrk_prints_is_read() -> None:
    said = {"n_requests": 2_000, "duration_us": 500_000, "p50_us": 1, "p99_us": 2, "max_us": 3}
    printed = f"Running 1s test\n  2000 requests\n{json.dumps(said | {'n_bad_status': 1, 'n_socket_errors': 2})}\n"
    found = read(printed, cpu_s=0.25)
    assert (found.requests_per_s, found.n_errors, found.busy) == (4_000, 3, 0.5)
    with pytest.raises(WrkFailed, match="unable to connect"):
        read("unable to connect to localhost:1")


def test_the_report_marks_errors_and_a_busy_generator_and_names_who_is_missing() -> None:
    shadowed = visit("shadowed", 0, 1_000, busy=1)
    mirrored = (Mirrored(2, 1_234, 0, 5, 0.25),)
    visits = [visit("fastapi_plain", 0, 100, n_bad=1), Visit(
        "shadowed", 0, 0.5, shadowed.pss_bytes, shadowed.cells, Paced(3_000, 400, 900, 1, 0), mirrored
    )]  # fmt: skip
    told = markdown(
        visits, [Cost(5, 100, 200)], [Skipped("kserve", "not\ninstalled")], judged(named(visits, [])), FACTS
    )
    assert "| FastAPI + onnxruntime | 100* (1.0x) |" in told
    assert "| Understudy, 2 challengers | 1,000† (10.0x) |" in told
    assert "\\* some requests" in told
    assert "† the load generator" in told
    assert "version 2: 1,234 rows scored, 0 failed, 5 chunks waiting" in told
    assert "- KServe was not measured: not installed" in told
    tables = [part for part in told.split("\n\n") if part.startswith("|")]
    assert len(tables) == 4
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_the_picture_is_well_formed_alone_and_to_scale() -> None:
    visits = [visit("fastapi_plain", 0, 100), visit("process", 0, 400)]
    picture = svg(summaries(visits))
    root = ElementTree.fromstring(picture)  # noqa: S314  # our own
    bars = [float(bar.attrib["width"]) for bar in root.iter("{http://www.w3.org/2000/svg}rect")]
    assert len(bars) == 2 * len(CONNECTIONS)
    assert bars[1] == pytest.approx(4 * bars[0], rel=0.01)
    assert "prefers-color-scheme: dark" in picture
    assert re.findall(r"https?://[^\"\s]+", picture) == ["http://www.w3.org/2000/svg"]


@pytest.mark.parametrize("part", PARTS)
def test_the_figures_take_their_place_in_a_readme(part: str) -> None:
    before = f"a\n<!-- {part}: begin -->\nold\n<!-- {part}: end -->\nb\n"
    assert with_part(before, part, "new\n") == before.replace("old", "new")


@pytest.mark.parametrize("part", PARTS)
def test_readme_shows_the_results_that_are_kept(part: str) -> None:
    readme = (RESULTS.parents[1] / "README.md").read_text()
    assert with_part(readme, part, shown(part)) == readme
