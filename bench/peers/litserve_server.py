"""LitServe's way: decode, predict, encode, in a worker process beside the server."""

import os
from typing import Any

import litserve  # type: ignore[import-not-found]  # it is in an environment of its own
import numpy as np
from onnx_champion import Champion  # type: ignore[import-not-found]  # it lies beside this file


class Boosted(litserve.LitAPI):  # type: ignore[misc]
    """The champion."""

    def setup(self, device: str) -> None:
        """Load it once."""
        self.champion = Champion()

    def decode_request(self, request: dict[str, Any]) -> Any:
        """Rows of a request."""
        return np.array(request["inputs"], dtype=np.float32)

    def predict(self, x: Any) -> Any:
        """Labels and probabilities."""
        return self.champion(x)

    def encode_response(self, output: Any) -> dict[str, Any]:
        """What is sent."""
        label, probabilities = output
        return {"label": label.tolist(), "probabilities": probabilities.tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(Boosted(), accelerator="cpu", workers_per_device=1)
    server.run(port=int(os.environ["BENCH_PORT"]), host="127.0.0.1", log_level="warning", generate_client_file=False)
