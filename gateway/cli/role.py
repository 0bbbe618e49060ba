"""How `serve` starts its children: `python -m gateway.cli.role JSON`. Here, as only the command line knows retrain."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import msgspec

from gateway.config import Settings
from gateway.logs import set_up
from gateway.supervisor import Inherited, end_with_parent, stop_on_signals

NICE = 10
"""Workers that nobody waits for give way to the one that answers."""


def run_role(role: str, settings: Settings, bound: socket.socket | None = None, tallies: Path | None = None) -> None:
    """Be one worker of a role until told to stop.

    A gateway accepts from the socket that it is given, and adds up what it counts with others in the folder `tallies`.
    """
    set_up(settings.logs, role)
    match role:
        case "gateway" if bound is not None:
            from gateway.worker import run_gateway

            run_gateway(settings, bound, tallies)
        case "shadow":
            from gateway.shadow import run_shadow

            os.nice(NICE)
            run_shadow(settings, stop_on_signals())
        case "retrain":
            from retrain.cycle import run_retrain

            os.nice(NICE)
            run_retrain(settings, stop_on_signals())
        case _:
            raise ValueError(f"role: expected gateway with a socket, shadow or retrain, got {role!r}")


def main() -> None:
    """Entry of a supervised child."""
    inherited = msgspec.json.decode(sys.argv[1], type=Inherited)
    end_with_parent(inherited.pipe)
    bound = None if inherited.socket is None else socket.socket(fileno=inherited.socket)
    tallies = None if inherited.tallies is None else Path(inherited.tallies)
    run_role(inherited.role, inherited.settings, bound, tallies)


if __name__ == "__main__":
    main()
