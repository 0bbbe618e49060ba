"""How `serve` starts its children: `python -m gateway.cli.role JSON`. Here, as only the command line knows retrain."""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path

import msgspec

from gateway.config import Settings
from gateway.errors import GatewayError, sentence_of
from gateway.logs import set_up
from gateway.supervisor import REFUSED, Inherited, end_with_parent, hello, stop_on_signals
from registry.errors import RegistryError

NICE = 15
"""Workers that nobody waits for give way to the one that answers."""
AUTOGROUP = Path("/proc/self/autogroup")


def give_way() -> None:
    """Run on what others leave of a core.

    Linux shares a core among sessions first, where it groups by them (sched(7), "The autogroup feature"), and each
    worker that is supervised has a session of its own: so the session is niced too, but never one that is somebody
    else's, such as the terminal where a role is started alone. The kernel lets that be done ten times a second.
    """
    os.nice(NICE)
    if os.getsid(0) != os.getpid():
        return
    for _ in range(5):
        try:
            AUTOGROUP.write_text(str(NICE))
        except BlockingIOError:
            time.sleep(0.15)
        except OSError:
            return  # there are no such groups here
        else:
            return


def run_role(role: str, settings: Settings) -> None:
    """Be one worker of a role (other than a gateway) until told to stop."""
    set_up(settings.logs, role)
    match role:
        case "shadow":
            from gateway.shadow import run_shadow

            give_way()
            run_shadow(settings, stop_on_signals())
        case "retrain":
            from retrain.cycle import run_retrain

            give_way()
            run_retrain(settings, stop_on_signals())
        case _:
            raise ValueError(f"role: expected shadow or retrain, got {role!r}")


def main() -> None:
    """Entry of a supervised child."""
    inherited = msgspec.json.decode(sys.argv[1], type=Inherited)
    end_with_parent(inherited.pipe)
    if inherited.gateway is None:
        run_role(inherited.role, inherited.settings)
        return
    own = inherited.gateway
    set_up(inherited.settings.logs, inherited.role)
    from gateway.worker import run_gateway

    def started(has_keys: bool) -> None:
        os.write(own.hello, hello(has_keys))

    try:
        run_gateway(inherited.settings, socket.socket(fileno=own.socket), Path(own.tallies), started)
    except (GatewayError, RegistryError, OSError) as error:
        sys.stderr.write(f"understudy: {sentence_of(error)}\n")
        sys.exit(REFUSED)


if __name__ == "__main__":
    main()
