"""What users delete in MLflow keeps its name, with a clear error, and is removed later."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest
import requests
from mlflow_server import MlflowServer

API = "api/2.0/mlflow"
DAY_MS = 24 * 3600 * 1000


@pytest.fixture(scope="module")
def server(running_mlflow: MlflowServer) -> MlflowServer:
    for user in ("ann", "bob"):
        running_mlflow.welcome(user)
    return running_mlflow


def call(server: MlflowServer, path: str, user: str = "ann", **body: Any) -> dict[str, Any]:
    response = server.ask(user, "POST", f"{API}/{path}", json=body)
    response.raise_for_status()
    content: dict[str, Any] = response.json()
    return content


def new_experiment(server: MlflowServer, name: str, user: str = "ann") -> str:
    return str(call(server, "experiments/create", user, name=name)["experiment_id"])


def new_run(server: MlflowServer, experiment: str, user: str = "ann") -> tuple[str, Path]:
    """Create a run with an artifact; return its id, and the artifact's file."""
    info = call(server, "runs/create", user, experiment_id=experiment)["run"]["info"]
    folder = info["artifact_uri"].removeprefix("mlflow-artifacts:/")
    artifact = f"api/2.0/mlflow-artifacts/artifacts/{folder}/a.txt"
    server.ask(user, "PUT", artifact, data="x").raise_for_status()
    file = server.folder / "data" / "artifacts" / folder / "a.txt"
    assert file.exists()
    return info["run_id"], file


def new_model(server: MlflowServer, experiment: str, run: str) -> tuple[str, Path]:
    """Create a logged model with a file; return its id, and the file."""
    body = {"experiment_id": experiment, "name": "m", "source_run_id": run}
    response = server.ask("ann", "POST", f"{API}/logged-models", json=body)
    response.raise_for_status()
    info = response.json()["model"]["info"]
    folder = info["artifact_uri"].removeprefix("mlflow-artifacts:/")
    artifact = f"api/2.0/mlflow-artifacts/artifacts/{folder}/model.ubj"
    server.ask("ann", "PUT", artifact, data="x").raise_for_status()
    return info["model_id"], server.folder / "data" / "artifacts" / folder / "model.ubj"


def age(server: MlflowServer, days: int) -> None:
    """Move all deletions into the past."""
    with sqlite3.connect(server.folder / "data" / "mlflow.db") as database:
        for table, column in (
            ("runs", "deleted_time"),
            ("experiments", "last_update_time"),
            ("logged_models", "last_updated_timestamp_ms"),
        ):
            change = f"UPDATE {table} SET {column} = {column} - ? WHERE lifecycle_stage = 'deleted'"  # noqa: S608
            database.execute(change, (days * DAY_MS,))


def create(server: MlflowServer, name: str) -> requests.Response:
    return server.ask("ann", "POST", f"{API}/experiments/create", json={"name": name})


def test_an_experiment_s_name_in_use_is_explained(server: MlflowServer) -> None:
    deleted = new_experiment(server, "deleted")
    call(server, "experiments/delete", experiment_id=deleted)
    other = new_experiment(server, "other")
    rename = {"experiment_id": other, "new_name": "deleted"}
    renamed = server.ask("ann", "POST", f"{API}/experiments/update", json=rename)
    for response in (create(server, "deleted"), renamed):
        assert response.status_code == 400
        content = response.json()
        assert content["error_code"] == "RESOURCE_ALREADY_EXISTS"
        assert f"restore_experiment('{deleted}')" in content["message"]
        assert "30 days after its deletion" in content["message"]
        assert "SQL" not in response.text
    assert create(server, "other").json()["message"] == (
        "an experiment named 'other' exists: use it, or choose another name"
    )
    call(server, "registered-models/create", name="bdt")
    registered = server.ask("ann", "POST", f"{API}/registered-models/create", json={"name": "bdt"})
    assert registered.json()["message"] == "Registered Model (name=bdt) already exists."
    # Another user's experiments have names of their own.
    assert new_experiment(server, "deleted", "bob")
    call(server, "experiments/restore", experiment_id=deleted)


def test_what_was_deleted_long_ago_is_removed_with_its_artifacts(
    server: MlflowServer, capfd: pytest.CaptureFixture[str]
) -> None:
    # A whole experiment, a run, a model: removed.
    experiment = new_experiment(server, "agc")
    run, file = new_run(server, experiment)
    _, model_file = new_model(server, experiment, run)
    call(server, "experiments/delete", experiment_id=experiment)
    active = new_experiment(server, "active")
    deleted_run, deleted_file = new_run(server, active)
    call(server, "runs/delete", run_id=deleted_run)
    deleted_model, deleted_model_file = new_model(server, active, deleted_run)
    server.ask("ann", "DELETE", f"{API}/logged-models/{deleted_model}").raise_for_status()
    of_bob = new_experiment(server, "agc", "bob")
    _, file_of_bob = new_run(server, of_bob, "bob")
    call(server, "experiments/delete", "bob", experiment_id=of_bob)
    # What is not deleted, was restored, or has a registered model: kept.
    _, active_file = new_run(server, active)
    restored = new_experiment(server, "restored")
    restored_run, restored_file = new_run(server, restored)
    call(server, "experiments/delete", experiment_id=restored)
    call(server, "runs/restore", run_id=restored_run)
    registered = new_experiment(server, "registered")
    registered_run, registered_file = new_run(server, registered)
    registered_model, registered_model_file = new_model(server, registered, registered_run)
    call(server, "registered-models/create", name="kept")
    source = f"models:/{registered_model}"
    origin = {"run_id": registered_run, "model_id": registered_model}
    call(server, "model-versions/create", name="kept", source=source, **origin)
    call(server, "experiments/delete", experiment_id=registered)
    # A location in another workspace, as if a user could set it: an error, and the rest goes on.
    moved_run, _ = new_run(server, active)
    call(server, "runs/delete", run_id=moved_run)
    _, other_file_of_bob = new_run(server, new_experiment(server, "victim", "bob"), "bob")
    location = other_file_of_bob.parent.relative_to(server.folder / "data" / "artifacts")
    with sqlite3.connect(server.folder / "data" / "mlflow.db") as database:
        change = "UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?"
        database.execute(change, (f"mlflow-artifacts:/{location}", moved_run))
    age(server, 31)
    recent_run, recent_file = new_run(server, active)
    call(server, "runs/delete", run_id=recent_run)

    assert server.collect_garbage() == 1

    log = capfd.readouterr().out
    removed = [file, model_file, deleted_file, deleted_model_file, file_of_bob]
    assert not [path for path in removed if path.exists()]
    kept = [active_file, restored_file, registered_file, registered_model_file, recent_file]
    kept += [other_file_of_bob]
    assert all(path.exists() for path in kept)
    assert not file.parents[2].exists(), "the experiment's folder"
    assert f"removed: user-ann: experiment {experiment}, 'agc'" in log
    assert f"removed: user-ann: run {deleted_run}" in log
    assert f"removed: user-ann: model {deleted_model}" in log
    assert f"removed: user-bob: experiment {of_bob}, 'agc'" in log
    reason = f"its run {restored_run} is not removed"
    assert f"kept: user-ann: experiment {restored}, 'restored': {reason}" in log
    reason = "version 1 of 'kept' was created from it"
    assert f"kept: user-ann: run {registered_run}: {reason}" in log
    assert f"kept: user-ann: experiment {registered}, 'registered': {reason}" in log
    assert recent_run not in log
    failure = "its artifacts are outside of the workspace"
    assert f"failed: user-ann: run {moved_run}: {failure}" in log
    assert log.count("failed: ") == 1
    # The name is free again, and nothing deleted comes back with it.
    again = new_experiment(server, "agc")
    assert call(server, "runs/search", experiment_ids=[again]) == {}
