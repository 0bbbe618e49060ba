"""One model's reign on the desk of the cycle: its state, what came late, and what can be read again."""

from __future__ import annotations

from msgspec import Struct

from gateway.clock import MICROSECONDS
from gateway.journal import Ledger, PredictionReader
from retrain.corrections import Corrections, Late
from retrain.evidence import Evidence
from retrain.judgement import Judged, Watched, contest_of, evidence_of, judged, watched
from retrain.reign import ReignState
from retrain.reread import Rereader


class Judgement(Struct, frozen=True):
    """All that closed buckets say."""

    challengers: list[Judged]
    watched: Watched | None


class ReignDesk:
    """What is at hand of one reign; made anew with its state."""

    def __init__(self, state: ReignState, reader: PredictionReader, ledger: Ledger) -> None:
        self.state = state
        self.reread = Rereader(state, reader, ledger)
        self._corrections = Corrections(
            reader,
            ledger,
            model=state.model.name,
            first_generation=state.reign.first_generation,
            policy=state.reign.policy,
            bucket_us=state.bucket_s * MICROSECONDS,
        )
        self._alarms: dict[int, Late] = {}
        self._told: set[int] = set()

    def judged(self) -> Judgement:
        """By the buckets that are closed, and by what was said of them after their time."""
        state = self.state
        if state.closed:
            self._corrections.read(state.closed[0].bucket)
        found = Judgement(judged(state, self._corrections), watched(state))
        allowed = state.reign.policy.max_late_corrections
        self._alarms = {
            each.contender.version: each.late
            for each in found.challengers
            if each.late.n_corrected > allowed * max(1, each.evidence.n)
        }
        return found

    def new_alarms(self) -> list[tuple[int, Late]]:
        """Versions, with counts, of which too many outcomes were corrected, and that were not told of yet."""
        new = [(version, late) for version, late in self._alarms.items() if version not in self._told]
        self._told = set(self._alarms)
        return new

    def known_now(self, found: Judgement) -> dict[int, Evidence]:
        """Version → evidence with every outcome that came after its time, where any did."""
        return {
            each.contender.version: evidence_of(
                contest_of(self.state, each.contender), self.reread.known_now(each, self._corrections), each.late
            )[0]
            for each in found.challengers
            if each.late != Late()
        }
