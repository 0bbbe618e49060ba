"""What waits for one model, in the order in which it came."""

from __future__ import annotations

from itertools import accumulate, takewhile

from msgspec import Struct

from gateway.batch import Ask


class Queue(Struct):
    """What waits for one model, and what runs. `busy`: a tick is due, or a batch is in the thread."""

    name: str
    waiting: list[Ask] = []
    n_rows: int = 0
    n_running_rows: int = 0
    busy: bool = False

    def put(self, ask: Ask) -> None:
        """One more that waits."""
        self.waiting.append(ask)
        self.n_rows += ask.asked.columns.n_rows

    def take(self, most_rows: int) -> list[Ask]:
        """The next to run: all that wait, or the first of them, up to so many rows and at least one request."""
        asks = self.waiting
        if self.n_rows <= most_rows:
            self.waiting, self.n_running_rows = [], self.n_rows
        else:
            ends = accumulate(ask.asked.columns.n_rows for ask in asks)
            n = max(1, sum(1 for _ in takewhile(lambda end: end <= most_rows, ends)))
            asks, self.waiting = asks[:n], asks[n:]
            self.n_running_rows = sum(ask.asked.columns.n_rows for ask in asks)
        self.n_rows -= self.n_running_rows
        return asks
