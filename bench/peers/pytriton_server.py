"""PyTriton's way: Triton in front, the model in this process, batches of up to 64 gathered by Triton."""

import os
from typing import Any

import numpy as np
from onnx_champion import Champion  # type: ignore[import-not-found]  # it lies beside this file
from pytriton.decorators import batch  # type: ignore[import-not-found]  # it is in an environment of its own
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor  # type: ignore[import-not-found]
from pytriton.triton import Triton, TritonConfig  # type: ignore[import-not-found]


def main() -> None:
    """Serve until told to stop."""
    champion = Champion()
    port = int(os.environ["BENCH_PORT"])

    @batch  # type: ignore[untyped-decorator]
    def infer(inputs: Any) -> dict[str, Any]:
        label, probabilities = champion(inputs)
        return {"label": label.reshape(-1, 1), "probabilities": probabilities}

    ports = TritonConfig(http_port=port, grpc_port=port + 1, metrics_port=port + 2, log_verbose=0)
    with Triton(config=ports) as triton:
        triton.bind(
            model_name=os.environ["BENCH_MODEL"],
            infer_func=infer,
            inputs=[Tensor(name="inputs", dtype=np.float32, shape=(30,))],
            outputs=[
                Tensor(name="label", dtype=np.int64, shape=(1,)),
                Tensor(name="probabilities", dtype=np.float32, shape=(2,)),
            ],
            config=ModelConfig(max_batch_size=64, batcher=DynamicBatcher(max_queue_delay_microseconds=0)),
            strict=True,
        )
        triton.serve()


if __name__ == "__main__":
    main()
