"""How a limited child starts: it gives up everything, and only then imports what can load a model.

standard input     says that the parent lives: when it closes, the process ends, whatever a model is doing
one socket         frames in, frames out: `child_loop`
standard output    and standard error: whatever a runtime may print; the parent keeps a little of it
"""

from __future__ import annotations

import os
import socket
import threading

import msgspec

from registry.limits import ChildLimits, hold, settle


def main(arguments: list[str]) -> None:
    """The life of a child; `arguments`: its limits as JSON, `inspect` or `trust`, the number of its socket."""
    limits = msgspec.json.decode(arguments[0], type=ChildLimits)
    held = hold(limits)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # the working folder was made for this process, and is gone now: a path in a model leads nowhere, and nothing is
    # left behind, however this ends
    os.rmdir(os.getcwd())  # noqa: PTH106, PTH109  # a Path would be resolved against a folder that is going
    from registry.child_loop import Inspect, serve

    look_into: Inspect | None = None
    if arguments[1] == "inspect":
        from registry.inspection import inspect as look_into

    with socket.socket(fileno=int(arguments[2])) as connection:
        serve(connection, look_into, held + settle(limits))


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os._exit(0)
