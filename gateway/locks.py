"""Locks that a process holds while it lives: the kernel lets go of them with it, whatever it died of."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def lock_path(folder: Path, writer: int) -> Path:
    """The file whose lock says that a writer is alive."""
    return folder / f"{writer}.lock"


def take_lock(folder: Path, writer: int) -> int:
    """Say that the writer is alive, until this process ends or `let_go`; returns the open file."""
    fd = os.open(lock_path(folder, writer), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)
    return fd


def let_go(folder: Path, writer: int, lock: int) -> None:
    """Say that the writer will not write again. A lock file that is gone is a writer that has ended."""
    lock_path(folder, writer).unlink(missing_ok=True)
    os.close(lock)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Be the only one who makes a file in this folder, for a moment."""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def is_locked(path: Path) -> bool:
    """Whether some process holds this file's lock. A file that is not there is held by nobody."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


@contextmanager
def only_one(store: Path, role: str, stop: threading.Event) -> Iterator[None]:
    """Be the only worker of a role in this store; a second one stands by until the first has ended."""
    store.mkdir(parents=True, exist_ok=True)
    with (store / f"{role}.lock").open("w") as lock:
        while not stop.is_set():
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                stop.wait(0.2)
        yield
