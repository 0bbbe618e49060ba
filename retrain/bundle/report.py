"""`report.html`: the decision on one page that prints, with nothing of anywhere else in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from html import escape
from typing import Any

from retrain.bundle.chart import Curve, drawn
from retrain.bundle.document import Document, Judged
from retrain.bundle.style import STYLE

DONE = {
    "register": "first champion", "enlist": "enlisted", "promote": "promoted", "retire": "retired",
    "rollback": "brought back",
}  # fmt: skip


METRICS = {
    "auc": "AUC", "ks": "KS", "brier": "Brier", "commonest_class": "always the commonest class",
    "observed_to_expected": "observed / expected", "log_e_miscalibrated": "ln E against calibration",
}  # fmt: skip
"""Where a name is not its words."""


def report_of(document: Document, digests: Mapping[str, str]) -> str:
    """The page. `digests`: file of the bundle → SHA-256."""
    title = _title(document)
    beside = [*_metrics(document), f"<div>{_mirror(document)}{_who(document)}</div>"]
    body = [_head(document, title), *_evidence(document), f'<div class="pair">{"".join(beside)}</div>']
    body.append(_hashes(document, digests))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f'<meta name="viewport" content="width=device-width"><title>{_text(title)}</title><style>{STYLE}</style>'
        f"</head><body><main>{''.join(body)}</main></body></html>\n"
    )


def _title(document: Document) -> str:
    decision, judged = document.decision, document.judged
    if decision is not None:
        return f"{document.model}: version {decision.version} {DONE[decision.kind]}"
    return f"{document.model}: evidence of version {judged.version if judged else '?'}"


def _head(document: Document, title: str) -> str:
    decision = document.decision
    if decision is None:
        kind, said = "Evidence, nothing decided", _when(document.made_at)
        sentence = document.judged.known.evidence.get("sentence", "") if document.judged else ""
        if document.judged and document.judged.is_previous:
            sentence = document.judged.known.evidence["probation"]["sentence"]
    else:
        kind = f"Decision of generation {decision.to_generation}"
        said, sentence = f"{_when(decision.at)} by {decision.by}", decision.reason
        if (frozen := (decision.evidence or {}).get("sentence")) and frozen != decision.reason:
            sentence = f"{frozen}. Reason given: {decision.reason}"
    return (
        f'<header><p class="kind">{_text(kind)}</p><h1>{_text(title)}</h1><p class="when">{_text(said)}</p></header>'
        f'<p class="sentence">{_text(sentence[:1].upper() + sentence[1:])}</p>'
    )


def _evidence(document: Document) -> Iterator[str]:
    judged = document.judged
    if judged is None:
        yield '<p class="note">A person decided without evidence of the rule: there are no pairs to this decision.</p>'
        return
    evidence = judged.known.evidence
    yield _figures(judged, evidence)
    if document.course:
        course = document.course
        at = [each.at for each in course]
        grown = Curve(
            "evidence", "ln E over single outcomes", at, [each.log_e for each in course],
            mark=judged.rule.log_e_threshold, mark_name="needed",
        )  # fmt: skip
        gained = Curve(
            "difference", "mean difference of losses, with its any-time interval", at, [each.mean for each in course],
            [each.low for each in course], [each.high for each in course],
        )  # fmt: skip
        yield f'<div class="pair">{drawn(grown)}{drawn(gained)}</div>'
    conditions = evidence.get("conditions")
    if conditions:
        rows = "".join(
            f'<tr class="{"yes" if each["holds"] else "no"}"><td class="mark">{"✓" if each["holds"] else "✗"}</td>'
            f"<th>{_name(each['name'])}</th><td>{_text(each['detail'])}</td></tr>"
            for each in conditions
        )
        yield f'<section><h2>What had to hold</h2><table class="conditions">{rows}</table></section>'


def _figures(judged: Judged, evidence: Mapping[str, Any]) -> str:
    """The few numbers that somebody asks for first."""
    if judged.is_previous:
        probation = evidence["probation"]
        told = {
            "course": probation["course"].replace("_", " "), "ln E": f"{probation['log_e']:.2f}",
            "ln E, windows of days": f"{probation['log_e_clustered']:.2f}", "outcomes": f"{probation['n']:,}",
            "days": f"{probation['n_days']:,}",
        }  # fmt: skip
    else:
        interval = "–" if evidence["low"] is None else f"{evidence['low']:+.4g} … {evidence['high']:+.4g}"
        told = {
            "verdict": evidence["verdict"].replace("_", " "),
            "ln E": f"{evidence['log_e']:.2f} of {evidence['log_e_threshold']:.2f}",
            "outcomes": f"{evidence['n']:,}", "mean difference": f"{evidence['mean']:+.4g}",
            f"any-time {100 * (1 - judged.rule.alpha):g} %": interval,
        }  # fmt: skip
    return '<dl class="figures">' + "".join(
        f"<div><dt>{_text(name)}</dt><dd>{_text(value)}</dd></div>" for name, value in told.items()
    ) + "</dl>"  # fmt: skip


def _metrics(document: Document) -> Iterator[str]:
    """Metrics of both versions, which decide nothing."""
    champion, challenger = (document.metrics.get(who, {}) for who in ("champion", "challenger"))
    if not document.judged or not document.reign or not challenger:
        return
    rows = "".join(
        f"<tr><th>{_text(METRICS.get(name, name.replace('_', ' ')))}</th><td>{_number(champion.get(name))}</td>"
        f"<td>{_number(challenger.get(name))}</td></tr>"
        for name in {**champion, **challenger}
    )
    heads = f"<th>version {document.reign.champion}</th><th>version {document.judged.version}</th>"
    yield (
        '<section><h2>Shown, never deciding</h2><table class="metrics"><tr><th></th>'
        f"{heads}</tr>{rows}</table></section>"
    )


def _mirror(document: Document) -> str:
    """What became of the rows that the version was given in this reign."""
    if document.mirror is None or document.judged is None:
        return ""
    account = document.mirror
    reasons = "".join(f", {n:,} {reason.replace('_', ' ')}" for reason, n in account["reasons"].items())
    parts = f"{account['scored']:,} scored + {account['failed']:,} failed + {account['skipped']:,} skipped{reasons}"
    told = [(f"version {document.judged.version}", f"{account['eligible']:,} eligible = {parts}")]
    return f"<section><h2>Mirror</h2>{_table(told)}</section>"


def _who(document: Document) -> str:
    decision, proposal = document.decision, document.proposal
    told: list[tuple[str, str]] = []
    if decision is not None:
        told.append(("decided", f"{_when(decision.at)} by {decision.by}"))
    if proposal is not None:
        told += [
            ("proposed", f"{_when(proposal.at)} by {proposal.by}: {proposal.reason}"),
            ("approved", f"{_when(proposal.closed_at)} by {proposal.closed_by}: {proposal.closed_reason}"),
        ]
    for name, lineup in (("before", document.lineup_before), ("after", document.lineup_after)):
        if lineup is not None:
            others = f"challengers {', '.join(map(str, lineup.challengers)) or 'none'}"
            others += "" if lineup.previous is None else f"; previous version {lineup.previous}"
            told.append((name, f"generation {lineup.generation}: champion version {lineup.champion}; {others}"))
    if document.reign is not None:
        reign = document.reign
        told.append(("reign", f"{reign.number}, since {_when(reign.since)}; promotion {reign.policy.promotion}"))
    told += [
        (f"version {each.number}", f"uploaded {_when(each.created_at)} by {each.created_by}")
        for each in document.versions
    ]
    return f"<section><h2>Who and when</h2>{_table(told)}</section>"


def _hashes(document: Document, digests: Mapping[str, str]) -> str:
    told = [(name, f"sha256:{digest}") for name, digest in digests.items()]
    told += [(f"version {each.number}", each.digest) for each in document.versions]
    if document.judged is not None:
        told.append(("rule", document.judged.rule.digest))
        told += sorted(document.judged.known.hashes.items())
    if document.audit:
        told.append(("audit", f"from line {document.audit[0]['seq']:,} to its head, {document.audit_head}"))
    return (
        f'<section class="hashes"><h2>Hashes</h2>{_table(told)}</section><footer>Understudy {_text(document.release)}. '
        "Judged again from this folder alone by: understudy bundle --verify FOLDER</footer>"
    )


def _table(rows: list[tuple[str, str]]) -> str:
    return (
        "<table>"
        + "".join(f"<tr><th>{_text(name)}</th><td>{_text(value)}</td></tr>" for name, value in rows)
        + "</table>"
    )


def _name(name: str) -> str:
    return _text(name.replace("_", " "))


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.4f}" if abs(value) < 1e2 else f"{value:,.1f}" if abs(value) < 1e6 else f"{value:.4g}"


def _when(at: datetime | None) -> str:
    return "–" if at is None else at.strftime("%-d %B %Y %H:%M:%S UTC")


def _text(text: str) -> str:
    return escape(text)
