"""The systems that are measured, and how each of them is started: as its users would."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from msgspec import Struct

from bench.bodies import Wire
from bench.ground import MODEL, Ground
from bench.peers.catalogue import PEERS, Peer
from bench.stores import Cast, copied_store

ROOT = Path(__file__).parents[1]
UNDERSTUDY = (sys.executable, "-c", "from gateway.cli import main; main(prog_name='understudy')")
INFER = f"/v2/models/{MODEL}/infer"
PREDICT = f"/models/{MODEL}/predict"
REFERENCE = "fastapi_plain"
"""What ratios are taken against."""


class Unavailable(Exception):
    """A system cannot be measured here; says why."""


class Launch(Struct, frozen=True):
    """A command, and what its environment says beside ours."""

    command: tuple[str, ...]
    environment: Mapping[str, str] = {}
    folder: Path = ROOT


class System(Struct, frozen=True):
    """One thing that answers predictions."""

    name: str
    title: str
    """As the report and the picture call it."""
    launch: Callable[[Ground, Path, int], Launch]
    """From the ground, a fresh folder and a port. Raises Unavailable."""
    path: str = INFER
    wire: Wire = "tensor"
    challengers: int = 0
    """How many of our challengers are mirrored to, so that their account can be asked for."""
    open_loop: bool = False
    """Whether it is also asked at a fixed rate."""


def understudy(cast: Cast = "alone", **settings: str) -> Callable[[Ground, Path, int], Launch]:
    """`understudy serve` on a copy of a store with the models; `section__key=value` are settings."""
    environment = {f"UNDERSTUDY__{key.upper()}": value for key, value in settings.items()}

    def launch(ground: Ground, folder: Path, port: int) -> Launch:
        store = copied_store(ground, folder / "store", cast, environment)
        return Launch((*UNDERSTUDY, "serve", "--data-dir", str(store), "--port", str(port)), environment)

    return launch


def _fastapi(module: str) -> Callable[[Ground, Path, int], Launch]:
    """Uvicorn as its users run it in earnest: uvloop, httptools, no access log."""

    def launch(ground: Ground, folder: Path, port: int) -> Launch:
        options = ("--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning")
        command = (sys.executable, "-m", "uvicorn", f"bench.baselines.{module}:app", "--port", str(port), *options)
        return Launch(command, _models(ground) | {"BENCH_DATABASE": str(folder / "predictions.db")})

    return launch


def _peer(peer: Peer) -> System:
    def launch(ground: Ground, folder: Path, port: int) -> Launch:
        if not peer.installed:
            raise Unavailable(f"not installed (python -m bench.peers install {peer.name})")
        environment = _models(ground) | {"BENCH_PORT": str(port), "BENCH_MODEL": MODEL}
        environment |= {"PATH": f"{peer.python.parent}{os.pathsep}{os.environ.get('PATH', '')}", **peer.environment}
        return Launch(peer.command(port), environment, folder)

    return System(peer.name, peer.title, launch, peer.path.format(model=MODEL), peer.wire)


def _models(ground: Ground) -> dict[str, str]:
    """Where the models are, for servers that load them themselves."""
    return {
        "BENCH_CHAMPION": str(ground.models.champion),
        "BENCH_CHALLENGERS": os.pathsep.join(map(str, ground.models.challengers)),
    }


SYSTEMS = (
    System(REFERENCE, "FastAPI + onnxruntime", _fastapi("plain"), open_loop=True),
    System("fastapi_mirror", "FastAPI, naive mirroring", _fastapi("mirror")),
    System("process", "Understudy", understudy(), open_loop=True),
    System("shadowed", "Understudy, 2 challengers", understudy("with challengers"), challengers=2, open_loop=True),
    System(
        "power",
        "Understudy, power, 2 challengers",
        understudy("with challengers", journal__durability="power"),
        challengers=2,
    ),
    System("named", "Understudy, named features", understudy(), PREDICT, "named"),
    System("no_lane", "Understudy, lane off", understudy(server__lane="false")),
    *(_peer(peer) for peer in PEERS),
)
