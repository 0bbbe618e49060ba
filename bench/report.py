"""The figures as the table that README includes, in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from bench.elsewhere import Cost
from bench.figures import Summary, front_pss_mb, ratio, summaries
from bench.gates import Judged
from bench.rounds import CONNECTIONS, Skipped, Visit
from bench.systems import REFERENCE, SYSTEMS

TITLES = {system.name: system.title for system in SYSTEMS}
APART = (("shadow", "shadow"), ("challenger", "challengers"), ("retrain", "retrain"))


def markdown(
    visits: Sequence[Visit],
    costs: Sequence[Cost],
    skipped: Sequence[Skipped],
    gates: Sequence[Judged],
    facts: Mapping[str, str],
) -> str:
    """The whole report."""
    every = summaries(visits)
    intro = (
        f"Measured {facts['measured']}: one row a request, {facts['rows']} distinct rows of 30 floats, gradient "
        "boosting of 100 trees in onnxruntime. Server with all of its processes on one core, load on another; medians "
        f"of {facts['rounds']} rounds of {facts['seconds']} s, ratios within a round. {_machine(facts)}"
    )
    parts = [
        intro,
        _table(_speed_rows(every.values(), visits)),
        _table(_cost_rows(every.values())),
        *(
            [_table(_paced_rows(every.values()))]
            if any(each.paced_p50_us is not None for each in every.values())
            else []
        ),
        *_mirror_lines(every.values()),
        *_cost_lines(costs),
        _table(_gate_rows(gates)),
        "\n".join(_note_lines(every.values(), skipped)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _machine(facts: Mapping[str, str]) -> str:
    named = ("measured", "rows", "rounds", "seconds")
    return "; ".join(f"{name}: {value}" for name, value in facts.items() if name not in named) + "."


def _speed_rows(every: Iterable[Summary], visits: Sequence[Visit]) -> Iterator[list[str]]:
    at = [f"{connections} conn." for connections in CONNECTIONS]
    yield ["requests/s (times FastAPI)", *at, *(f"p50 / p99 ms, {each}" for each in at)]
    for each in every:
        speeds = []
        for connections in CONNECTIONS:
            times = ratio(visits, each.system, REFERENCE, connections)
            speed = each.speeds[connections]
            marks = ("*" if speed.n_errors else "") + ("†" if speed.load_bound else "")
            speeds.append(f"{speed.requests_per_s:,.0f}{marks}" + ("" if times is None else f" ({times:.1f}x)"))
        latencies = [f"{_ms(each.speeds[n].p50_us)} / {_ms(each.speeds[n].p99_us)}" for n in CONNECTIONS]
        yield [TITLES[each.system], *speeds, *latencies]


def _cost_rows(every: Iterable[Summary]) -> Iterator[list[str]]:
    at = [f"CPU µs a request, {connections} conn." for connections in CONNECTIONS]
    yield ["cost", *at, "memory (PSS) MB", "beside it MB", "start to first answer s"]
    for each in every:
        cpu = [f"{each.speeds[connections].cpu_us:,.0f}" for connections in CONNECTIONS]
        apart = [f"{title} {each.pss_bytes[role] / 1e6:.0f}" for role, title in APART if role in each.pss_bytes]
        yield [TITLES[each.system], *cpu, f"{front_pss_mb(each):.0f}", ", ".join(apart) or "–", f"{each.start_s:.2f}"]


def _paced_rows(every: Iterable[Summary]) -> Iterator[list[str]]:
    yield ["open loop, 3,000/s, from when requests were due", "p50 ms", "p99 ms"]
    for each in every:
        if each.paced_p50_us is not None and each.paced_p99_us is not None:
            mark = f" ({each.paced_errors} without an answer of 200)" if each.paced_errors else ""
            yield [TITLES[each.system] + mark, _ms(each.paced_p50_us), _ms(each.paced_p99_us)]


def _mirror_lines(every: Iterable[Summary]) -> Iterator[str]:
    for each in every:
        stood = "; ".join(
            f"version {one.version}: {one.scored:,} rows scored, {one.failed:,} failed, {one.n_chunks_waiting:,} "
            f"chunks waiting, {one.lag_s:.1f} s behind"
            for one in each.mirrored
        )
        if stood:
            share = f"{100 * each.shadow_cpu_share:.0f} % of the core at {CONNECTIONS[0]} connections"
            yield (
                f"{TITLES[each.system]}: shadow worker and challengers had {share}. On a full core they may fall "
                f"behind, and catch up later; when the load ended: {stood}."
            )


def _cost_lines(costs: Sequence[Cost]) -> Iterator[str]:
    if costs:
        rounds = "; ".join(
            f"{cost.requests_percent:+.1f} % requests/s, p99 {cost.half_p99_us / 1e3:+.2f} ms at half load and "
            f"{cost.full_p99_us / 1e3:+.2f} ms at full"
            for cost in costs
        )
        yield f"What two challengers cost on the core of the load, a round each (fewer requests is positive): {rounds}."


def _gate_rows(gates: Sequence[Judged]) -> Iterator[list[str]]:
    yield ["setting", "measured", "goal", "gate", ""]
    for each in gates:
        gate = each.gate
        sign = ">=" if gate.more_is_better else "<="
        measured = "–" if each.measured is None else f"{each.measured:.2f} {gate.unit}"
        limits = (f"{sign} {limit:g} {gate.unit}" for limit in (gate.goal, gate.gate))
        yield [gate.setting, measured, *limits, each.judgement]


def _note_lines(every: Iterable[Summary], skipped: Sequence[Skipped]) -> Iterator[str]:
    speeds = [speed for each in every for speed in each.speeds.values()]
    if any(speed.n_errors for speed in speeds):
        yield "\\* some requests had no answer of 200: no speeds of right answers, and no gate is judged by them."
    if any(speed.load_bound for speed in speeds):
        yield "† the load generator used its whole core: the server may be faster."
    for each in skipped:
        yield f"- {TITLES[each.system]} was not measured: {' '.join(each.reason.split())}"


def _table(rows: Iterator[list[str]]) -> str:
    head, *lines = rows
    ruled = [head, ["---", *["---:"] * (len(head) - 1)], *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in ruled)


def _ms(us: float) -> str:
    return f"{us / 1e3:.2f}" if us < 10_000 else f"{us / 1e3:.0f}"
