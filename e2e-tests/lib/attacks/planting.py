"""What the attacks aim at: made by each user, with a secret that only the owner reads."""

import json
import time
import uuid
from dataclasses import dataclass
from typing import Any

import coffea_shoppe as shoppe
import requests

from lib.attacks.clusters import dask
from lib.attacks.delivery import await_end, servicex, submission
from lib.attacks.table import ARTIFACT, OBJECT, Names
from lib.attacks.tracking import API, FILES, mlflow


@dataclass
class Plan:
    """What to plant: each costs a second or more."""

    user: str
    bucket: str
    workspace: str
    prefix: str
    url: str
    """A published file with a tree `Events`."""
    serve: bool = False
    """Whether a model, too."""
    cluster: bool = False
    """Whether a Dask cluster, too."""


def plant(plan: Plan) -> Names:
    """Make what is a user's, each with a secret; return the names."""
    secret = f"secret-{uuid.uuid4().hex}"
    names: dict[str, str] = {"user": plan.user, "secret": secret, "bucket": plan.bucket}
    names |= {"workspace": plan.workspace, "prefix": plan.prefix, "url": plan.url}
    names["request"] = _submit([plan.url], title=secret)
    dataset = _submit(None, title=secret, did=f"xrootd://{plan.url}")
    shoppe.storage().pipe_file(OBJECT, secret.encode())
    names |= _plant_run(plan.workspace, secret)
    if plan.cluster:
        from dask_gateway import Gateway

        cluster = Gateway().new_cluster(shutdown_on_close=False)
        names["cluster"] = cluster.name
    if plan.serve:
        names["served"] = _serve()
    names |= _await_result(names["request"])
    names["dataset"] = str(_await_end(dataset)["did_id"])
    return Names(**names)


def _plant_run(workspace: str, secret: str) -> dict[str, str]:
    """Make an experiment, a run with an artifact, a registered model of it, and a damaged one."""

    def post(path: str, body: Any) -> Any:
        response = mlflow("POST", f"{API}/{path}", workspace, body)
        assert response.status == requests.codes.ok, response
        return json.loads(response.text)

    tags = [{"key": "secret", "value": secret}]
    name = f"attacked-{uuid.uuid4().hex[:6]}"
    experiment = post("experiments/create", {"name": name, "tags": tags})["experiment_id"]
    info = post("runs/create", {"experiment_id": experiment, "tags": tags})["run"]["info"]
    post("runs/log-parameter", {"run_id": info["run_id"], "key": "secret", "value": secret})
    artifacts = info["artifact_uri"].removeprefix("mlflow-artifacts:")
    path = f"{FILES}/artifacts{artifacts}/{ARTIFACT}"
    assert mlflow("PUT", path, workspace, data=secret.encode()).status == requests.codes.ok

    def register(name: str, source: str) -> None:
        post("registered-models/create", {"name": name})
        version = {"name": name, "source": source, "run_id": info["run_id"]}
        post("model-versions/create", version)

    register(name, info["artifact_uri"])
    for file, content in _damaged_model().items():
        path = f"{FILES}/artifacts{artifacts}/damaged/{file}"
        assert mlflow("PUT", path, workspace, data=content).status == requests.codes.ok
    register(f"damaged-{name}", f"{info['artifact_uri']}/damaged")
    names = {"experiment": experiment, "run": info["run_id"], "artifacts": artifacts}
    return names | {"model": name, "damaged": f"damaged-{name}"}


def _damaged_model() -> dict[str, bytes]:
    """Return the files of a model that crashes XGBoost.

    The operator's tests (`test_inspection.py`) show that this mutation does.
    """
    import numpy as np
    import xgboost

    rows = np.random.default_rng(3).normal(size=(200, 4)).astype(np.float32)
    matrix = xgboost.DMatrix(rows, (rows[:, 0] > 0).astype(int), nthread=1)
    options = {"objective": "binary:logistic", "max_depth": 3, "nthread": 1}
    model = bytearray(xgboost.train(options, matrix, 8).save_raw("ubj"))
    rng = np.random.default_rng(6)
    for _ in range(int(rng.integers(1, 6))):
        model[int(rng.integers(0, len(model)))] = int(rng.integers(0, 256))
    tensor = {"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 4]}}
    description = {
        "flavors": {"xgboost": {"data": "model.ubj"}},
        "signature": {"inputs": json.dumps([tensor])},
    }
    # JSON is YAML.
    return {"MLmodel": json.dumps(description).encode(), "model.ubj": bytes(model)}


def _serve() -> str:
    """Have Triton serve a small model; return its name there."""
    import numpy as np
    import xgboost
    from mlflow.models import infer_signature
    from mlflow.xgboost import log_model

    rows = np.random.default_rng(1).normal(size=(200, 2)).astype("float32")
    options = {"objective": "binary:logistic", "nthread": 1}
    booster = xgboost.train(options, xgboost.DMatrix(rows, rows[:, 0] > 0), 3)
    import mlflow as client

    with client.start_run():
        log_model(
            booster,
            name="model",
            model_format="ubj",
            registered_model_name="attacked-bdt",
            signature=infer_signature(rows, booster.inplace_predict(rows)),
            pip_requirements=["xgboost-cpu"],
        )
    return str(shoppe.serve("models:/attacked-bdt/1").model)


def _submit(files: list[str] | None, *, title: str, did: str | None = None) -> str:
    """Submit a transform request; return its id."""
    response = submission(files, title=title, did=did)
    assert response.status == requests.codes.ok, response
    return str(json.loads(response.text)["request_id"])


def _await_end(request: str) -> Any:
    """Wait until a transform request is complete; return its status."""
    status = await_end(request, time.monotonic() + 120)
    assert status["status"] == "Complete", status
    return status


def _await_result(request: str) -> dict[str, str]:
    """Wait for the end of a transform request; return the names of its result and of its file."""
    _await_end(request)
    results = servicex("GET", f"/servicex/transformation/{request}/results")
    (result,) = json.loads(results.text)["results"]
    return {"result": result["s3-object-name"], "file": str(result["file-id"])}


def forget(names: Names) -> None:
    """Remove what outlives a user's pods."""
    if names.served:
        shoppe.unserve("attacked-bdt")
    if names.cluster:
        dask("DELETE", f"/api/v1/clusters/{names.cluster}")
    shoppe.storage().rm("attacks", recursive=True)
