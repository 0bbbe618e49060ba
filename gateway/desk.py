"""The journal's desk: where outcomes are handed in and predictions are looked up.

An outcome is decoded, checked against the model, appended, and only then acknowledged. All of it happens in one
thread, as several processes write `journal.db` and one may have to wait for another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import msgspec
from msgspec import UNSET, Struct

from gateway.clock import JournalClock
from gateway.errors import BadRequest, InvalidInput, JournalDamaged, NotFound
from gateway.journal import Ledger, PredictionReader
from gateway.journal.join import OutcomeJoin
from gateway.lineup import Lineups, Played
from gateway.records import Address, OutcomeRecord, Receipt, address_of, is_genuine, micros
from gateway.wire.outcomes import SentOutcome, decode, split
from gateway.wire.strict_json import AwareDatetime
from registry.types import Principal, Signature

T = TypeVar("T")
LARGEST_OUTCOME = 1e100
"""Beyond it a number is a mistake, and its square would be none that evidence can hold."""
Scalar = bool | int | float | str


class Files(Struct, frozen=True):
    """The journal's files as opened by the desk's thread."""

    ledger: Ledger
    reader: PredictionReader
    join: OutcomeJoin


class JournalDesk:
    """Takes outcomes and looks things up, for one worker. Its files are opened and used by one thread."""

    def __init__(
        self,
        open_ledger: Callable[[], Ledger],
        open_reader: Callable[[], PredictionReader],
        writer: int,
        lineups: Lineups,
        clock: JournalClock,
    ) -> None:
        def opened() -> Files:
            ledger, reader = open_ledger(), open_reader()
            return Files(ledger, reader, OutcomeJoin(reader, ledger))

        self._writer, self._lineups, self._clock = writer, lineups, clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal-desk")
        self._files = self._thread.submit(opened).result()
        self._last_seq = 0

    async def read(self, look: Callable[[Files], T]) -> T:
        """Whatever `look` finds in the journal, looked up in the thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, look, self._files)

    async def take(self, name: str, body: bytes, *, by: Principal, lines: bool) -> Receipt:
        """Store the outcomes of a request body; what is refused is refused one by one.

        Raises:
            UnknownModel, NoChampion: nothing was ever predicted for that name.
            BadRequest: no outcome of the body is one; names the first reason.
            JournalUnavailable: nothing was stored.
        """
        played = self._lineups.played(name)
        pieces = split(body, lines=lines)
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._take, played, pieces, by)

    def close(self) -> None:
        """Store what was taken, then close the files."""
        self._thread.submit(self._files.ledger.close).result()
        self._thread.submit(self._files.reader.close).result()
        self._thread.shutdown()

    def _take(self, played: Played, pieces: Sequence[bytes], by: Principal) -> Receipt:
        receipt = Receipt(rejected=[])
        records: list[OutcomeRecord] = []
        early: list[bool] = []
        for index, piece in enumerate(pieces):
            try:
                record, is_early = self._record(played, decode(piece), by)
            except BadRequest as error:
                receipt.rejected.append({"index": index, "reason": str(error)})
            except NotFound:
                receipt.unknown += 1
            else:
                records.append(record)
                early.append(is_early)
        if pieces and len(receipt.rejected) == len(pieces):
            first = receipt.rejected[0]
            raise InvalidInput(f"[{first['index']}]: {first['reason']}" if len(pieces) > 1 else str(first["reason"]))
        if records:
            seq = self._last_seq + 1
            fates = self._files.ledger.append_outcomes(self._writer, seq, records)
            self._last_seq = seq
            for fate, is_early in zip(fates, early, strict=True):
                match fate:
                    case "duplicate":
                        receipt.duplicate += 1
                    case "correction":
                        receipt.corrected += 1
                    case _ if is_early:
                        receipt.early += 1
                    case _:
                        receipt.accepted += 1
        return receipt

    def _record(self, played: Played, sent: SentOutcome, by: Principal) -> tuple[OutcomeRecord, bool]:
        """The record of a sent outcome, and whether its prediction is still to come.

        Raises:
            BadRequest: it cannot be an outcome of this model.
            NotFound: its prediction id is none of ours.
        """
        outcome = canonical(sent.outcome, played.champion.signature)
        now_us = self._clock.now_us()
        stated = isinstance(sent.observed_at, str)
        if stated:
            observed_us = micros(msgspec.convert(sent.observed_at, AwareDatetime))
        elif now_us is not None:
            observed_us = now_us
        else:
            raise InvalidInput("observed_at: expected a time, as the caller's clock was never set")
        row = 0 if sent.row is UNSET else sent.row
        address, association_id, early = None, None, False
        if isinstance(sent.prediction_id, str):
            address = resolve(self._files.reader, played.model.name, sent.prediction_id, row)
            row = address.row
        else:
            association_id = str(sent.association_id)
            early = self._is_early(played.model.name, association_id)
        received_us = observed_us if now_us is None else now_us
        record = OutcomeRecord(
            played.model.name,
            address,
            association_id,
            row,
            outcome,
            source_of(sent, by),
            observed_us,
            stated,
            received_us,
        )
        return record, early

    def _is_early(self, model: str, association_id: str) -> bool:
        """Whether no prediction carries this id yet; not where that cannot be read: it is kept either way."""
        try:
            return not self._files.reader.associated(model, association_id)
        except JournalDamaged:
            return False


def source_of(sent: SentOutcome, by: Principal) -> str:
    """Where an outcome comes from: what the caller says, within the name that its key gives it."""
    said = sent.source if isinstance(sent.source, str) else None
    if by.name == Principal.local_operator().name:
        return said or "default"
    return by.name if said is None else f"{by.name}/{said}"


def resolve(reader: PredictionReader, model: str, prediction_id: str, row: int) -> Address:
    """The address of row `row` of the request that this id names.

    Raises:
        NotFound: malformed, forged, of another model, or of no chunk that is here: all say the same.
        InvalidInput: the request has fewer rows.
    """
    unknown = NotFound(f"no prediction '{prediction_id:.60}' of model '{model}'")
    parsed = address_of(prediction_id)
    if parsed is None:
        raise unknown
    first, tag = parsed
    try:
        chunk = reader.chunk(first.writer, first.seq)
    except NotFound:
        raise unknown from None
    starts = chunk.starts().tolist()
    if chunk.model != model or not is_genuine(first, tag, chunk.secret) or first.row not in starts:
        raise unknown
    n_rows = ([*starts[1:], chunk.n_rows])[starts.index(first.row)] - first.row
    if row >= n_rows:
        raise InvalidInput(f"row: expected 0 to {n_rows - 1}, as the request had {n_rows} rows; got {row}")
    return Address(first.writer, first.seq, first.row + row)


def canonical(outcome: Scalar, signature: Signature) -> int | float | str:
    """The one form of an outcome: the label as the version's classes spell it, or a finite float.

    Raises:
        InvalidInput: it is no outcome that this model can have.
    """
    if signature.task == "regression":
        if isinstance(outcome, str | bool) or not abs(outcome) <= LARGEST_OUTCOME:  # NaN is not
            raise InvalidInput(f"outcome: expected a number, got {outcome!r:.60}")
        return float(outcome)
    for label in signature.classes:
        if type(label) is type(outcome) and label == outcome:
            return label
        if isinstance(label, int) and isinstance(outcome, bool | int | float) and outcome == label:
            return label
    expected = ", ".join(map(repr, signature.classes[:20]))
    raise InvalidInput(f"outcome: expected one of {expected}; got {outcome!r:.60}")
