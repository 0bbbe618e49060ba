"""`python -m bench.peers install [NAME …]`: a virtual environment for each peer, under .bench-peers/."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence

from bench.peers.catalogue import ENVIRONMENTS, PEERS, Peer


def install(peer: Peer) -> str | None:
    """Make the environment; returns why that failed, or None."""
    folder = ENVIRONMENTS / peer.name
    shutil.rmtree(folder, ignore_errors=True)
    steps = (
        (sys.executable, "-m", "venv", str(folder)),
        (str(peer.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *peer.requirements),
    )
    for step in steps:
        ended = subprocess.run(step, capture_output=True, text=True, check=False)
        if ended.returncode:
            return ended.stderr.strip()[-1_000:] or f"exit code {ended.returncode}"
    (folder / ".ready").touch()
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 if a peer could not be installed; the others are."""
    names = [peer.name for peer in PEERS]
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("command", choices=["install", "list"])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(names)}; all if none is given")
    options = parser.parse_args(arguments)
    unknown = set(options.names) - set(names)
    if unknown:
        parser.error(f"expected some of {', '.join(names)}, got {', '.join(sorted(unknown))}")
    failed = False
    for peer in PEERS:
        if options.names and peer.name not in options.names:
            continue
        if options.command == "install" and not peer.installed:
            reason = install(peer)
            failed |= reason is not None
            print(f"{peer.name}: {'installed' if reason is None else f'not installed: {reason}'}", flush=True)
        else:
            print(f"{peer.name}: {'installed' if peer.installed else 'not installed'}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
