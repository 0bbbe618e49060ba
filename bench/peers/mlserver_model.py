"""MLServer's way: a runtime of one's own, with its codecs for tensors."""

import numpy as np
from mlserver import MLModel  # type: ignore[import-not-found]  # it is in an environment of its own
from mlserver.codecs import NumpyCodec  # type: ignore[import-not-found]
from mlserver.types import InferenceRequest, InferenceResponse  # type: ignore[import-not-found]
from onnx_champion import Champion  # type: ignore[import-not-found]  # it lies beside this file


class Boosted(MLModel):  # type: ignore[misc]
    """The champion."""

    async def load(self) -> bool:
        """Load it once."""
        self.champion = Champion()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """One tensor in, two out."""
        x = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32, copy=False)
        label, probabilities = self.champion(x)
        return InferenceResponse(
            model_name=self.name,
            outputs=[
                NumpyCodec.encode_output("label", label.reshape(-1, 1)),
                NumpyCodec.encode_output("probabilities", probabilities),
            ],
        )
