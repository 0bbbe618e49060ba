"""KServe's way: a model of one's own in its server, one process."""

import os

import numpy as np
from kserve import (  # type: ignore[import-not-found]  # it is in an environment of its own
    InferOutput,
    InferRequest,
    InferResponse,
    Model,
    ModelServer,
)
from onnx_champion import Champion  # type: ignore[import-not-found]  # it lies beside this file


class Boosted(Model):  # type: ignore[misc]
    """The champion."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.champion = Champion()
        self.ready = True

    async def predict(self, payload: InferRequest, headers: object = None, response_headers: object = None) -> object:
        """One tensor in, two out."""
        x = payload.inputs[0].as_numpy().astype(np.float32, copy=False)
        label, probabilities = self.champion(x)
        outputs = [InferOutput("label", list(label.shape), "INT64"), InferOutput("probabilities", [len(x), 2], "FP32")]
        for output, values in zip(outputs, (label, probabilities), strict=True):
            output.set_data_from_numpy(values, binary_data=False)
        return InferResponse(response_id=payload.id or "", model_name=self.name, infer_outputs=outputs)


if __name__ == "__main__":
    ModelServer(http_port=int(os.environ["BENCH_PORT"]), enable_grpc=False, workers=1, access_log_format=None).start(
        [Boosted(os.environ["BENCH_MODEL"])]
    )
