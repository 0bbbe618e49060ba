"""BentoML's way: a service with one worker; its answers are lists."""

import bentoml  # it is in an environment of its own
import numpy as np
from onnx_champion import Champion  # type: ignore[import-not-found]  # it lies beside this file


@bentoml.service(workers=1, logging={"access": {"enabled": False}}, metrics={"enabled": False})  # type: ignore[untyped-decorator]
class Boosted:
    """The champion."""

    def __init__(self) -> None:
        self.champion = Champion()

    @bentoml.api  # type: ignore[untyped-decorator]
    async def infer(self, inputs: list[list[float]]) -> dict[str, list[float] | list[list[float]]]:
        """Rows in; labels and probabilities out."""
        label, probabilities = self.champion(np.array(inputs, dtype=np.float32))
        return {"label": label.tolist(), "probabilities": probabilities.tolist()}
