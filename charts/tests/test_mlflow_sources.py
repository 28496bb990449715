"""MLflow reads for a user what is in MLflow and that user's, whatever address a version names."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow.xgboost
import numpy as np
import pytest
import requests
import xgboost
from coffea_shoppe_contract.names import workspace_name
from mlflow_server import MlflowServer, token

API = "api/2.0/mlflow"
SECRET = "the victim's"  # noqa: S105


@pytest.fixture(scope="module")
def server(running_mlflow: MlflowServer) -> MlflowServer:
    for user in ("vic", "att"):
        running_mlflow.welcome(user)
    return running_mlflow


def run_of(server: MlflowServer, user: str) -> dict[str, str]:
    """Make a run with an artifact of a user; return its `info`."""
    made = server.ask(user, "POST", f"{API}/experiments/create", json={"name": "agc"})
    asked = {"experiment_id": made.json()["experiment_id"]}
    info: dict[str, str] = server.ask(user, "POST", f"{API}/runs/create", json=asked).json()["run"][
        "info"
    ]
    folder = info["artifact_uri"].removeprefix("mlflow-artifacts:/")
    path = f"api/2.0/mlflow-artifacts/artifacts/{folder}/notes/secret.txt"
    server.ask(user, "PUT", path, data=SECRET).raise_for_status()
    return info


@pytest.fixture(scope="module")
def victim(server: MlflowServer) -> dict[str, str]:
    return run_of(server, "vic")


@pytest.fixture(scope="module")
def attacker_run(server: MlflowServer) -> dict[str, str]:
    """A run of the attacker's, who also has a registered model."""
    server.ask("att", "POST", f"{API}/registered-models/create", json={"name": "thief"})
    return run_of(server, "att")


Make = Callable[[dict[str, str], dict[str, str]], dict[str, str]]


def path_of(run: dict[str, str]) -> str:
    return run["artifact_uri"].removeprefix("mlflow-artifacts:")


MADE: dict[str, Make] = {
    "the service's bucket": lambda vic, _: {"source": f"s3://service-mlflow{path_of(vic)}"},
    "upper case": lambda vic, _: {"source": f"S3://service-mlflow{path_of(vic)}"},
    "another cloud": lambda vic, _: {"source": "gs://bucket/x"},
    "Databricks": lambda vic, _: {"source": "dbfs:/x"},
    "a server": lambda vic, _: {"source": "http://127.0.0.1/x"},
    "the volume": lambda vic, _: {"source": f"/data/artifacts{path_of(vic)}"},
    "a file of the volume": lambda vic, attacker_run: {
        "source": f"file:///data/artifacts{path_of(vic)}",
        "run_id": attacker_run["run_id"],
    },
    "a placeholder with more": lambda vic, _: {"source": "dummy-source/../x"},
    "the victim's artifacts": lambda vic, _: {"source": vic["artifact_uri"]},
    "by the victim's run": lambda vic, _: {
        "source": vic["artifact_uri"],
        "run_id": vic["run_id"],
    },
    "by another run": lambda vic, attacker_run: {
        "source": vic["artifact_uri"],
        "run_id": attacker_run["run_id"],
    },
    "out of the run": lambda vic, attacker_run: {
        "source": f"{attacker_run['artifact_uri']}/%252e%252e/%252e%252e/{vic['run_id']}/artifacts",
        "run_id": attacker_run["run_id"],
    },
    "the victim's run": lambda vic, _: {"source": f"runs:/{vic['run_id']}/"},
    "the victim's run by its id": lambda vic, _: {
        "source": f"runs:/{vic['run_id']}/",
        "run_id": vic["run_id"],
    },
    "a prompt": lambda vic, _: {
        "source": f"s3://service-mlflow{path_of(vic)}",
        "tags": [{"key": "mlflow.prompt.is_prompt", "value": "true"}],  # type: ignore[dict-item]
    },
}


def create(server: MlflowServer, body: dict[str, Any]) -> requests.Response:
    asked = {"name": "thief", **body}
    return server.ask("att", "POST", f"{API}/model-versions/create", json=asked)


@pytest.mark.parametrize("way", MADE)
def test_a_version_that_names_what_is_not_the_user_s_is_refused(
    server: MlflowServer, victim: dict[str, str], attacker_run: dict[str, str], way: str
) -> None:
    assert create(server, MADE[way](victim, attacker_run)).status_code in (400, 403)


def test_a_version_of_an_own_run_is_made_and_read(
    server: MlflowServer, attacker_run: dict[str, str]
) -> None:
    made = create(
        server, {"source": attacker_run["artifact_uri"], "run_id": attacker_run["run_id"]}
    )
    asked = {"name": "thief", "version": made.json()["model_version"]["version"]}
    asked["path"] = "notes/secret.txt"
    found = server.ask("att", "GET", "model-versions/get-artifact", params=asked)
    assert (found.status_code, found.text) == (200, SECRET)
    assert create(
        server, {"source": f"runs:/{attacker_run['run_id']}/", "run_id": attacker_run["run_id"]}
    ).ok


def test_what_mlflow_s_own_client_registers_is_taken(
    server: MlflowServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", token("vic"))
    monkeypatch.chdir(tmp_path)  # MLflow looks for a project's files where it runs
    mlflow.set_tracking_uri(server.url)
    mlflow.set_workspace(workspace_name("vic"))
    try:
        mlflow.set_experiment("train")
        rows = np.eye(4, dtype=np.float32)
        booster = xgboost.train({}, xgboost.DMatrix(rows, rows[:, 0]), 1)
        with mlflow.start_run() as run:
            logged = mlflow.xgboost.log_model(
                booster,
                name="model",
                model_format="ubj",
                registered_model_name="bdt",
                pip_requirements=["xgboost-cpu"],
            )
        assert str(logged.registered_model_version) == "1"
        for uri in (
            f"runs:/{run.info.run_id}/model",
            f"models:/{logged.model_id}",
            "models:/bdt/1",
        ):
            assert mlflow.register_model(uri, "again").source.startswith("models:/")
        client = mlflow.MlflowClient()
        assert client.copy_model_version("models:/bdt/1", "copy").version == "1"
        assert mlflow.genai.register_prompt("ask", "Is {{ this }} a top quark?").version == 1
    finally:
        mlflow.set_workspace(None)
        mlflow.set_tracking_uri(None)


def test_users_are_listed_to_nobody(server: MlflowServer) -> None:
    for path in (f"{API}/users/list", "ajax-api/2.0/mlflow/users/list"):
        assert server.ask("att", "GET", path).status_code == 403
    known = server.ask("att", "GET", f"{API}/users/current")
    assert known.ok
    assert "att" in known.text


def test_versions_made_before_are_not_read_and_the_migration_names_them(
    server: MlflowServer,
    victim: dict[str, str],
    attacker_run: dict[str, str],
    capfd: pytest.CaptureFixture[str],
) -> None:
    made = create(
        server, {"source": attacker_run["artifact_uri"], "run_id": attacker_run["run_id"]}
    )
    version = made.json()["model_version"]["version"]
    asked = {"name": "thief", "version": version, "path": "notes/secret.txt"}

    def read() -> requests.Response:
        return server.ask("att", "GET", "model-versions/get-artifact", params=asked)

    assert read().text == SECRET
    strange = f"file://{server.folder}/data/artifacts{path_of(victim)}"
    with sqlite3.connect(server.folder / "data" / "mlflow.db") as database:
        changed = "UPDATE model_versions SET source = ?, storage_location = ? WHERE version = ?"
        database.execute(changed, (strange, strange, int(version)))
    response = read()
    assert response.status_code == 403
    assert SECRET not in response.text
    assert "register it from a run" in response.text
    # Nor by way of another version.
    copy = create(server, {"source": f"models:/thief/{version}"})
    if copy.ok:
        asked["version"] = copy.json()["model_version"]["version"]
        assert read().status_code == 403
    server.migrate()
    assert f"not read: user-att: version {version} of thief" in capfd.readouterr().out
