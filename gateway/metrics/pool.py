"""The tallies of all gateway workers of one `serve`, added up.

Prometheus asks one address, and whichever worker accepts the connection answers for all. So each worker writes its
whole tally, some kilobytes, as one file of a folder that `serve` has made for this run: every half second and at a
scrape. Who is asked adds up all files. The file of a killed worker stays and is counted on, under a number that is
never given again: nothing that was poured is lost, and nothing is counted twice.

prometheus_client has a way of its own (PROMETHEUS_MULTIPROC_DIR), which is not used: it is switched on by an
environment variable that is read when the library is imported, locks and writes a memory-mapped file at every single
observation, can be given no whole histogram, and keeps one registry a process, which two applications in one test
would share.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import structlog

from gateway.locks import alone_in, is_locked, let_go, lock_path, take_lock
from gateway.metrics.tally import Tally

POUR_S = 0.5
"""How often a worker writes its tally: what a killed one has counted since is not known to anybody."""
_PREFIX, _SUFFIX = "tallies-", ".tally"
_log = structlog.get_logger("gateway")


class TallyPool:
    """Where one worker pours its tally, and finds the sum of everybody's."""

    def __init__(self, tally: Tally, folder: Path | None, writer: int, n_in_flight: Callable[[], int]) -> None:
        """`folder` None: this worker is the only one. `writer`: its number in the journal, never given again."""
        self._tally, self._folder, self._writer, self._n_in_flight = tally, folder, writer, n_in_flight
        self._lock = None if folder is None else take_lock(folder, writer)
        self._writing = threading.Lock()
        self._n_packed = self._n_written = 0
        self._written = b""
        self._stuck = False

    async def pour(self) -> None:
        """Let the other workers see what this one has counted until now."""
        number, packed = self._packed()
        await asyncio.to_thread(self._write, number, packed)

    async def total(self) -> Tally:
        """What all workers have counted: this one until now, each other one until it last poured."""
        number, packed = self._packed()
        return await asyncio.to_thread(self._total, number, packed)

    def close(self) -> None:
        """Pour for the last time. What this worker has counted stays in the sum; it has nothing in flight any more."""
        self._write(*self._packed())
        if self._folder is not None and self._lock is not None:
            let_go(self._folder, self._writer, self._lock)

    def _packed(self) -> tuple[int, bytes]:
        """The tally as bytes, taken in the event loop: a thread would read it half way through a request."""
        self._tally.n_in_flight = self._n_in_flight()
        self._n_packed += 1
        return self._n_packed, msgspec.msgpack.encode(self._tally)

    def _total(self, number: int, packed: bytes) -> Tally:
        # Poured first: the next scrape may go to another worker, and must find no less than this one tells.
        if self._folder is None or not self._write(number, packed):
            return _unpacked(packed)
        total = Tally()
        for path in self._folder.glob(f"*{_SUFFIX}"):
            tally = _unpacked(path.read_bytes())
            if not is_locked(lock_path(self._folder, int(path.stem))):
                tally.n_in_flight = 0
            total.add(tally)
        return total

    def _write(self, number: int, packed: bytes) -> bool:
        """Put the file in its place; False where the disk refuses, which is no reason to answer nobody."""
        if self._folder is None:
            return True
        path = self._folder / f"{self._writer}{_SUFFIX}"
        with self._writing:
            if number < self._n_written or packed == self._written:
                return True  # a later one was written while this one waited for its thread; or nothing has happened
            try:
                fresh = path.with_suffix(".new")
                fresh.write_bytes(packed)
                fresh.replace(path)  # whole, or not there yet
            except OSError as error:
                if not self._stuck:
                    _log.warning("metrics of this worker cannot be written: others do not see them", reason=str(error))
                self._stuck = True
                return False
            self._n_written, self._written, self._stuck = number, packed, False
            return True


def _unpacked(packed: bytes) -> Tally:
    return msgspec.msgpack.decode(packed, type=Tally)


@contextmanager
def tallies_folder(store: Path) -> Iterator[Path]:
    """An empty folder for the workers of one run of `serve`, and its end. Those of killed runs are swept away.

    It is in the store, as that can be written to, and nobody tidies it up by the age of its files.
    """
    store.mkdir(parents=True, exist_ok=True)
    with alone_in(store):  # or another one that starts now would take this folder for one that nobody holds
        for old in store.glob(f"{_PREFIX}*"):
            if (held := _hold(old)) is not None:
                shutil.rmtree(old, ignore_errors=True)
                os.close(held)
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=store))
        held = _hold(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if held is not None:
            os.close(held)


def _hold(folder: Path) -> int | None:
    """Lock a folder for as long as this process lives; None where another one holds it."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return None
    return fd
