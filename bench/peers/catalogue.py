"""The peers: what is installed for each, and how it is started."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from bench.bodies import Wire

HERE = Path(__file__).parent
ENVIRONMENTS = HERE.parents[1] / ".bench-peers"


class Peer(Struct, frozen=True):
    """A server of models that others wrote."""

    name: str
    title: str
    requirements: tuple[str, ...]
    arguments: tuple[str, ...]
    """After `python`; `{here}` is this folder, `{bin}` the environment's programs, `{port}` the port."""
    path: str
    wire: Wire
    environment: Mapping[str, str] = {}

    @property
    def python(self) -> Path:
        """The interpreter of its environment, installed or not."""
        return ENVIRONMENTS / self.name / "bin" / "python"

    @property
    def installed(self) -> bool:
        """Whether `install` came to its end."""
        return (ENVIRONMENTS / self.name / ".ready").exists()

    def command(self, port: int) -> tuple[str, ...]:
        """What starts it."""
        filled = (part.format(here=HERE, bin=self.python.parent, port=port) for part in self.arguments)
        return (str(self.python), *filled)


PEERS = (
    Peer(
        "mlserver",
        "MLServer",
        ("mlserver>=1.7", "onnxruntime>=1.22,<2"),
        ("{here}/mlserver_start.py",),
        "/v2/models/{model}/infer",
        "tensor",
    ),
    Peer(
        "kserve",
        "KServe",
        ("kserve>=0.15", "onnxruntime>=1.22,<2"),
        ("{here}/kserve_model.py",),
        "/v2/models/{model}/infer",
        "tensor",
    ),
    Peer(
        "bentoml",
        "BentoML",
        ("bentoml>=1.4", "onnxruntime>=1.22,<2", "numpy"),
        (
            "-m",
            "bentoml",
            "serve",
            "bentoml_service:Boosted",
            "--working-dir",
            "{here}",
            "--port",
            "{port}",
            "--host",
            "127.0.0.1",
        ),
        "/infer",
        "rows",
        {"BENTOML_DO_NOT_TRACK": "1"},
    ),
    Peer(
        "litserve",
        "LitServe",
        ("litserve>=0.2.10", "onnxruntime>=1.22,<2", "numpy"),
        ("{here}/litserve_server.py",),
        "/predict",
        "rows",
    ),
    Peer(
        "pytriton",
        "PyTriton",
        ("nvidia-pytriton>=0.5", "onnxruntime>=1.22,<2"),
        ("{here}/pytriton_server.py",),
        "/v2/models/{model}/infer",
        "tensor",
    ),
)
