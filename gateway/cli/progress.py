"""Progress on standard error: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as RichProgress
from rich.table import Column

PLAIN_EVERY_S = 5.0


class Bar:
    """One thing that grows."""

    def __init__(self, name: str, total: int, live: RichProgress | None, task: TaskID | None) -> None:
        self._name, self._total, self._live, self._task = name, total, live, task
        self._said_s = 0.0
        self._ended = False

    def update(self, done: int, note: str) -> None:
        """Say how far it is, and how things stand."""
        if self._live is not None and self._task is not None:
            self._live.update(self._task, completed=done, note=note)
        elif time.monotonic() - self._said_s > PLAIN_EVERY_S or (done == self._total and not self._ended):
            self._said_s, self._ended = time.monotonic(), done == self._total
            print(f"{done:,} of {self._total:,} {self._name}; {note}", file=sys.stderr, flush=True)  # noqa: T201


class Progress:
    """What a command says while it works."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)

    def say(self, sentence: str) -> None:
        """Something that whoever looks should know."""
        self._console.print(sentence, highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def task(self, what: str) -> Iterator[None]:
        """Say what is being done, and how long it took."""
        started_s = time.perf_counter()
        if self._console.is_terminal:
            with self._console.status(f"{what} …"):
                yield
        else:
            yield
        self._console.print(f"{what}: {time.perf_counter() - started_s:.1f} s", highlight=False, soft_wrap=True)

    @contextmanager
    def bar(self, name: str, total: int) -> Iterator[Bar]:
        """Show how far something is."""
        if not self._console.is_terminal:
            yield Bar(name, total, None, None)
            return
        columns = (
            BarColumn(bar_width=16, table_column=Column(min_width=16)),
            TextColumn("{task.percentage:>3.0f} %", table_column=Column(min_width=5)),
            TextColumn("{task.fields[note]}", table_column=Column(no_wrap=True, overflow="ellipsis")),
        )
        with RichProgress(*columns, console=self._console) as live:
            yield Bar(name, total, live, live.add_task(name, total=total, note=""))
