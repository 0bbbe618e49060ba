"""As `plain`, with two challengers and a logged row in a background task: `uvicorn bench.baselines.mirror:app`.

It promises less than it seems to: the row is written after the answer, so that a killed process loses it, and whatever
a challenger does happens to the process that answers.
"""

from __future__ import annotations

import os
import sqlite3
import time
import uuid
from typing import Any

import numpy as np
from fastapi import BackgroundTasks, FastAPI
from fastapi.responses import JSONResponse

from bench.baselines.plain import session
from bench.baselines.wire import InferRequest

champion = session(os.environ["BENCH_CHAMPION"])
challengers = [session(path) for path in os.environ["BENCH_CHALLENGERS"].split(os.pathsep)]
database = sqlite3.connect(os.environ["BENCH_DATABASE"], isolation_level=None)
database.execute("PRAGMA journal_mode=WAL")
database.execute("PRAGMA synchronous=NORMAL")
database.execute(
    "CREATE TABLE IF NOT EXISTS predictions (id TEXT PRIMARY KEY, at REAL, x BLOB, y BLOB, a BLOB, b BLOB)"
)
app = FastAPI()


async def mirror_and_log(prediction_id: str, x: Any, probabilities: Any) -> None:
    """Ask the challengers and write one row. `async`: in a thread it was measured to answer a third fewer requests."""
    scores = [each.run(None, {each.get_inputs()[0].name: x})[1] for each in challengers]
    blobs = [values.tobytes() for values in (x, probabilities, *scores)]
    database.execute("INSERT INTO predictions VALUES (?, ?, ?, ?, ?, ?)", (prediction_id, time.time(), *blobs))


@app.post("/v2/models/{model}/infer")
async def infer(model: str, request: InferRequest, background: BackgroundTasks) -> JSONResponse:
    """One tensor in, two out; the rest when the answer is sent."""
    tensor = request.inputs[0]
    x = np.array(tensor.data, dtype=np.float32).reshape(tensor.shape)
    label, probabilities = champion.run(None, {champion.get_inputs()[0].name: x})
    prediction_id = str(uuid.uuid4())
    background.add_task(mirror_and_log, prediction_id, x, probabilities)
    return JSONResponse(
        {
            "model_name": model,
            "id": prediction_id,
            "outputs": [
                {"name": "label", "shape": [len(x)], "datatype": "INT64", "data": label.tolist()},
                {
                    "name": "probabilities",
                    "shape": list(probabilities.shape),
                    "datatype": "FP32",
                    "data": probabilities.ravel().tolist(),
                },
            ],
        },
        background=background,
    )
