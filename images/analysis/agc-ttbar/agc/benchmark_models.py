"""Scoring times of the facility's Triton, compared with XGBoost in this process.

    python -m agc.benchmark_models

in a user's pod prints JSON: the median time of a request for each model, protocol and number
of rows; and the events/s of the analysis without the assignment of jets, with models in this
process (by compiled loops, and by XGBoost), and with the same models in Triton.  The
measurements alternate, so that other load of the machine affects all of them.

    python -m agc.benchmark_models together

prints the rows/s of several clients at once, which may grow with the number of replicas.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import coffea_shoppe as shoppe
import mlflow
import numpy as np
import requests
import tritonclient.grpc as triton
import xgboost
from numpy.typing import NDArray

from agc import serving
from agc.assignment import FEATURES
from agc.benchmark import trained_models
from agc.inference import Scorer
from agc.run import run
from agc.samples import File, sample
from agc.synth import write
from agc.tracking import model_name, register

Rows = NDArray[np.float32]

ROWS = (10, 1_000, 10_000, 100_000)
MODELS = {"100 trees, depth 4": (100, 4), "300 trees, depth 6": (300, 6)}
SECONDS = 3.0
"""Duration of each measurement."""
CLIENTS, SHARED_ROWS = 8, 10_000
"""Clients at once, and the rows of each of their requests."""
EVENTS, REPEATS = 60_000, 3
"""Events of nominal ttbar, and how often each variant of the analysis runs over them."""


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
    response = client.infer(model, [tensor], headers=shoppe.triton()[1])
    scores: Rows = response.as_numpy("output__0")[:, -1]
    return scores


def over_http(session: requests.Session, model: str, rows: Rows) -> Rows:
    """Score rows by one HTTP request with binary tensors (KServe's extension)."""
    size = {"binary_data_size": rows.nbytes}
    tensor = {"name": "input__0", "shape": rows.shape, "datatype": "FP32", "parameters": size}
    output = {"name": "output__0", "parameters": {"binary_data": True}}
    header = json.dumps({"inputs": [tensor], "outputs": [output]}).encode()
    response = session.post(
        f"{shoppe.connections()['triton']}/v2/models/{model}/infer",
        data=header + rows.tobytes(),
        headers={"Inference-Header-Content-Length": str(len(header)), **shoppe.triton()[1]},
        timeout=60,
    )
    response.raise_for_status()
    start = int(response.headers["Inference-Header-Content-Length"])
    scores = np.frombuffer(response.content[start:], dtype=np.float32)
    return scores.reshape(len(rows), -1)[:, -1]


def _times(ways: dict[str, Callable[[], Rows]]) -> dict[str, float]:
    """Return the median time of each way of scoring in ms; all must give the same scores."""
    expected = next(iter(ways.values()))()
    taken: dict[str, list[float]] = {name: [] for name in ways}
    end = time.perf_counter() + SECONDS * len(ways)
    while time.perf_counter() < end or min(map(len, taken.values())) < 3:
        for name, way in ways.items():
            start = time.perf_counter()
            scores = way()
            taken[name].append(1e3 * (time.perf_counter() - start))
            if not np.array_equal(scores, expected):
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


def _analysis() -> dict[str, float]:
    """Return the events/s of the analysis by the way in which jets are assigned."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ttbar.root"
        write(path, sample("ttbar"), events=EVENTS)
        file = File(sample("ttbar"), str(path))
        local = trained_models(file)
        versions = {}
        for parity, booster in local.boosters.items():
            with mlflow.start_run():
                versions[parity] = register(booster, model_name(parity), metadata={})
        served = serving.serve(versions)
        ways: dict[str, Scorer | None] = {"without": None, "local": local, "Triton": served}
        # What Triton does, in this process: XGBoost's prediction of rows.
        ways["XGBoost"] = local.__call__
        measured: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(REPEATS):
            for name, scorer in ways.items():
                measured[name].append(run([file], scorer=scorer, progress=False).rate)
        for parity in versions:
            shoppe.unserve(model_name(parity))
    return {name: statistics.median(rates) for name, rates in measured.items()}


def _together() -> float:
    """Return the rows/s of several clients at once."""
    booster = _train(*MODELS["300 trees, depth 6"])
    with mlflow.start_run():
        version = register(booster, "bench-together", metadata={})
    model = shoppe.serve(f"models:/bench-together/{version}").model
    rows = np.zeros((SHARED_ROWS, len(FEATURES)), np.float32)
    end = time.perf_counter() + SECONDS * 2

    def ask(_: int) -> int:
        count = 0
        with triton.InferenceServerClient(shoppe.triton()[0]) as client:
            while time.perf_counter() < end:
                count += len(over_grpc(client, model, rows))
        return count

    with ThreadPoolExecutor(CLIENTS) as pool:
        total = sum(pool.map(ask, range(CLIENTS)))
    shoppe.unserve("bench-together")
    return total / (SECONDS * 2)


def main() -> None:
    """Measure, and print the result."""
    mlflow.set_experiment("bench")
    if sys.argv[1:] == ["together"]:
        print(json.dumps({"rows": _together()}))
        return
    timings: list[dict[str, Any]] = []
    for number, (label, (trees, depth)) in enumerate(MODELS.items()):
        booster = _train(trees, depth)
        with mlflow.start_run():
            version = register(booster, f"bench-{number}", metadata={})
        model = shoppe.serve(f"models:/bench-{number}/{version}").model
        for count in ROWS:
            timings.append({"model": label, "rows": count, **_measure(booster, model, count)})
        shoppe.unserve(f"bench-{number}")
    print(json.dumps({"requests": timings, "analysis": _analysis()}))


if __name__ == "__main__":
    main()
