"""`understudy serve`: one parent that binds the port and keeps the workers of every role running.

Children are started, never forked, and inherit the listening socket and the reading end of a pipe. The parent never
writes to that pipe: when it closes, whatever the parent died of, the children know and end.
"""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import msgspec
import structlog
from msgspec import Struct

from gateway.config import LOOPBACK, Settings, environment_of_children
from gateway.errors import SettingsRefused
from gateway.metrics.pool import tallies_folder

REFUSED = 3
"""Exit code of a worker that has said in one sentence why it cannot serve: to start it again would change nothing."""
Ending = Literal["stopped", "refused", "crashed"]
"""As it was told to; as a worker has refused to serve, and has said why; as one crashed too often."""
START_POLL_S, POLL_S = 0.01, 0.05
CRASHES_ALLOWED = 5
CRASH_WINDOW_S = 60.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
ORPHAN_GRACE_S = 0.8
LAST_STEP_S = 2.0
"""How long workers that nobody waits for may go on; they lose nothing when they are killed."""
_log = structlog.get_logger("supervisor")


def listening_socket(settings: Settings, *, has_keys: bool) -> socket.socket:
    """The bound socket that all gateway workers accept from.

    Args:
        settings: where to listen, and the store that is served.
        has_keys: whether the store ever issued a key, so that nobody is let in without one.

    Raises:
        SettingsRefused: the address is taken, or others than this machine reach it and there are no keys.
    """
    host, port = settings.server.host, settings.server.port
    if not settings.server.is_loopback and not has_keys:
        raise SettingsRefused(
            f"server.host: expected a loopback address ({', '.join(LOOPBACK)}), got '{host}': there are no keys, so "
            "whoever reaches the port could predict and promote; issue the first with: "
            f"understudy keys issue ops --scope admin --data-dir {shlex.quote(settings.store)}"
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise SettingsRefused(f"cannot listen on {host}:{port}: {error.strerror}") from None
    bound.listen(2_048)
    bound.set_inheritable(True)
    return bound


class InheritedGateway(Struct, frozen=True):
    """What a gateway worker is told besides."""

    socket: int
    tallies: str
    """The folder where gateway workers add up what they count; see `metrics/pool.py`."""
    hello: int
    """Where it says that it accepts connections: `hello`."""


class Inherited(Struct, frozen=True):
    """What a child is told on its command line, as JSON."""

    role: str
    settings: Settings
    pipe: int
    gateway: InheritedGateway | None = None


def hello(has_keys: bool) -> bytes:
    """What a gateway worker says when it accepts connections: whether callers need a key."""
    return b"k" if has_keys else b"o"


class Worker:
    """One child of a role, started again when it ends."""

    def __init__(self, role: str, command: Callable[[], subprocess.Popen[bytes]]) -> None:
        self.role = role
        self._command = command
        self._process = command()
        self._crashes: deque[float] = deque(maxlen=CRASHES_ALLOWED)
        self._pause_s = FIRST_PAUSE_S
        self._starts_again_s: float | None = None

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    @property
    def has_refused(self) -> bool:
        """Whether it has ended as it found nothing that it could serve, and said so."""
        return self._process.poll() == REFUSED

    def look_after(self) -> bool:
        """Start it again if it has ended and its pause is over; False once it has crashed too often."""
        now_s = time.monotonic()
        if self.runs:
            return True
        if self._starts_again_s is None:
            self._crashes.append(now_s)
            _log.warning("a worker has ended", role=self.role, pid=self.pid, exit_code=self._process.returncode)
            if len(self._crashes) == CRASHES_ALLOWED and now_s - self._crashes[0] < CRASH_WINDOW_S:
                return False
            recent = len(self._crashes) > 1 and now_s - self._crashes[-2] < CRASH_WINDOW_S
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S) if recent else FIRST_PAUSE_S
            self._starts_again_s = now_s + self._pause_s
        elif now_s >= self._starts_again_s:
            self._starts_again_s = None
            self._process = self._command()
        return True

    def ask_to_end(self) -> None:
        """Let it finish what it has taken."""
        if self.runs:
            self._process.terminate()

    def end_by(self, deadline_s: float) -> None:
        """Wait for it until then, and not longer."""
        try:
            self._process.wait(max(0.0, deadline_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Supervisor:
    """All workers of one `serve`."""

    def __init__(self, settings: Settings, bound: socket.socket, announce: Callable[[bool], None]) -> None:
        """`announce` is called when the first gateway worker accepts connections: whether callers need a key."""
        self._settings, self._bound, self._announce = settings, bound, announce
        self._opened = ExitStack()
        self._tallies = self._opened.enter_context(tallies_folder(settings.folder))
        self._pipe, self._held = self._opened_pipe()
        self._heard, self._hello = self._opened_pipe()
        os.set_blocking(self._heard, False)
        for inherited in (self._pipe, self._hello):
            os.set_inheritable(inherited, True)
        self._serves = False
        self.workers = [Worker("gateway", self._starter("gateway")) for _ in range(settings.server.workers)]

    def run(self, stop: threading.Event, hurry: threading.Event) -> Ending:
        """Keep the workers running until told to `stop`, or until that cannot be done; `hurry`: told so again."""
        ending: Ending | None = None
        while ending is None and not stop.wait(START_POLL_S if not self._serves else POLL_S):
            if not self._serves:
                self._listen()
            if not self._serves and any(worker.has_refused for worker in self.workers):
                ending = "refused"
                continue
            states = [worker.look_after() for worker in self.workers]  # every one of them, whatever the first says
            if not all(states):
                _log.error("a worker crashed too often: giving up", crashes=CRASHES_ALLOWED, within_s=CRASH_WINDOW_S)
                ending = "crashed"
        self._stop(hurry)
        return ending or "stopped"

    def _listen(self) -> None:
        """Once a gateway answers, tell it, and start those who would only have been in its way."""
        try:
            said = os.read(self._heard, 1)
        except BlockingIOError:
            return
        self._serves = True
        self._announce(said == hello(True))
        self.workers += [Worker(role, self._starter(role)) for role in ("shadow", "retrain")]

    def _opened_pipe(self) -> tuple[int, int]:
        ends = os.pipe()
        for end in ends:
            self._opened.callback(os.close, end)
        return ends

    def _stop(self, hurry: threading.Event) -> None:
        """The gateway first: what it still answers is mirrored when the next run starts, from the same cursor."""
        asked_s = time.monotonic()
        self._bound.close()  # when the last worker has closed it too, callers are refused and need not wait for nobody
        for worker in self.workers:
            worker.ask_to_end()
        deadlines_s = [(worker, asked_s + self._patience_s(worker)) for worker in self.workers]
        while not hurry.wait(POLL_S) and any(w.runs and time.monotonic() < by_s for w, by_s in deadlines_s):
            pass
        if hurry.is_set():
            for worker in self.workers:
                worker.ask_to_end()
        for worker, by_s in deadlines_s:
            worker.end_by(by_s)
        self._opened.close()

    def _patience_s(self, worker: Worker) -> float:
        """How long it may take to end."""
        server = self._settings.server
        return LAST_STEP_S + (server.drain_notice_s + server.drain_s if worker.role == "gateway" else 0.0)

    def _starter(self, role: str) -> Callable[[], subprocess.Popen[bytes]]:
        own = InheritedGateway(self._bound.fileno(), str(self._tallies), self._hello) if role == "gateway" else None
        inherited = Inherited(role, self._settings, self._pipe, own)
        # -P: a folder that is called `gateway` where somebody starts this is not what is meant
        command = [sys.executable, "-P", "-m", "gateway.cli.role", msgspec.json.encode(inherited).decode()]
        passed: Sequence[int] = [self._pipe] if own is None else [self._pipe, own.socket, own.hello]
        # the packages may be run from a checkout, so a child looks for them where the parent has found them
        place = environment_of_children()
        folders = [str(Path(__file__).parents[1]), place.get("PYTHONPATH", "")]
        place["PYTHONPATH"] = os.pathsep.join(filter(None, folders))
        return lambda: subprocess.Popen(command, pass_fds=passed, env=place, start_new_session=True)


def end_with_parent(pipe: int) -> None:
    """Have this process end within a second of its parent: first asked, then not."""

    def watch() -> None:
        os.read(pipe, 1)  # returns when the last writing end is closed
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(ORPHAN_GRACE_S)
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def stop_on_signals(hurry: threading.Event | None = None) -> threading.Event:
    """An event that SIGTERM and SIGINT set; when they come again they set `hurry`."""
    stop = threading.Event()

    def told(*_: object) -> None:
        if stop.is_set() and hurry is not None:
            hurry.set()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, told)
    return stop
