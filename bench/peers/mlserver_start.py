"""Start MLServer with the champion: no worker processes (one core), no access log."""

import json
import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
PORT = int(os.environ["BENCH_PORT"])


def main() -> None:
    """Write its settings into the folder that it is started in, and become it."""
    settings = {
        "host": "127.0.0.1",
        "http_port": PORT,
        "grpc_port": PORT + 1,
        "metrics_port": PORT + 2,
        "parallel_workers": 0,
        "debug": False,
        "use_structured_logging": False,
    }
    Path("settings.json").write_text(json.dumps(settings))
    model = {"name": os.environ["BENCH_MODEL"], "implementation": "mlserver_model.Boosted"}
    Path("model-settings.json").write_text(json.dumps(model))
    os.environ["PYTHONPATH"] = str(HERE)
    program = str(Path(sys.executable).parent / "mlserver")
    os.execv(program, [program, "start", "."])


if __name__ == "__main__":
    main()
