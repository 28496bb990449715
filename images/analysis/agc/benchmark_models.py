"""How fast the facility's Triton scores, beside XGBoost in this process.

    python -m agc.benchmark_models

in a user's pod prints JSON: for each model, way and number of rows the median time of a
request.  The ways take turns, so that a busy moment of the machine hits all of them.
"""

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import coffea_shoppe as shoppe
import mlflow
import numpy as np
import requests
import tritonclient.grpc as triton
import xgboost
from numpy.typing import NDArray

from agc.assignment import FEATURES
from agc.tracking import register

Rows = NDArray[np.float32]

ROWS = (10, 1_000, 10_000, 100_000)
MODELS = {"100 trees, depth 4": (100, 4), "300 trees, depth 6": (300, 6)}
SECONDS = 3.0
"""Each way, model and number of rows is asked for about so long."""


def _train(trees: int, depth: int) -> xgboost.Booster:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(20_000, len(FEATURES))).astype(np.float32)
    right = rows[:, :4].sum(axis=1) + rng.normal(size=len(rows)) > 0
    options = {"objective": "binary:logistic", "max_depth": depth, "nthread": 1}
    return xgboost.train(options, xgboost.DMatrix(rows, right), trees)


def over_grpc(client: triton.InferenceServerClient, model: str, rows: Rows) -> Rows:
    """Score rows by one gRPC request."""
    tensor = triton.InferInput("input__0", rows.shape, "FP32")
    tensor.set_data_from_numpy(rows)
    answer = client.infer(model, [tensor], headers=shoppe.triton()[1])
    found: Rows = answer.as_numpy("output__0")[:, 0]
    return found


def over_http(session: requests.Session, model: str, rows: Rows) -> Rows:
    """Score rows by one HTTP request with binary tensors (KServe's extension)."""
    size = {"binary_data_size": rows.nbytes}
    tensor = {"name": "input__0", "shape": rows.shape, "datatype": "FP32", "parameters": size}
    wanted = {"name": "output__0", "parameters": {"binary_data": True}}
    header = json.dumps({"inputs": [tensor], "outputs": [wanted]}).encode()
    answer = session.post(
        f"{shoppe.connections()['triton']}/v2/models/{model}/infer",
        data=header + rows.tobytes(),
        headers={"Inference-Header-Content-Length": str(len(header)), **shoppe.triton()[1]},
        timeout=60,
    )
    answer.raise_for_status()
    start = int(answer.headers["Inference-Header-Content-Length"])
    return np.frombuffer(answer.content[start:], dtype=np.float32)


def _times(ways: dict[str, Callable[[], Rows]]) -> dict[str, float]:
    """Return each way's median time in ms; all must give the same scores."""
    wanted = next(iter(ways.values()))()
    taken: dict[str, list[float]] = {name: [] for name in ways}
    end = time.perf_counter() + SECONDS * len(ways)
    while time.perf_counter() < end or min(map(len, taken.values())) < 3:
        for name, way in ways.items():
            start = time.perf_counter()
            scores = way()
            taken[name].append(1e3 * (time.perf_counter() - start))
            if not np.array_equal(scores, wanted):
                raise RuntimeError(f"{name} gives other scores than XGBoost in this process")
    return {name: statistics.median(times) for name, times in taken.items()}


def _measure(booster: xgboost.Booster, model: str, count: int) -> dict[str, float]:
    rows = np.random.default_rng(count).normal(size=(count, len(FEATURES))).astype(np.float32)
    address, _ = shoppe.triton()
    with triton.InferenceServerClient(address) as client, requests.Session() as session:
        return _times(
            {
                "local": lambda: booster.inplace_predict(rows),
                "gRPC": lambda: over_grpc(client, model, rows),
                "HTTP": lambda: over_http(session, model, rows),
            }
        )


def main() -> None:
    """Measure, and print the result."""
    mlflow.set_experiment("bench")
    found: list[dict[str, Any]] = []
    for number, (label, (trees, depth)) in enumerate(MODELS.items()):
        booster = _train(trees, depth)
        with mlflow.start_run():
            version = register(booster, f"bench-{number}", metadata={})
        model = shoppe.serve(f"models:/bench-{number}/{version}").model
        for count in ROWS:
            found.append({"model": label, "rows": count, **_measure(booster, model, count)})
        shoppe.unserve(f"bench-{number}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
