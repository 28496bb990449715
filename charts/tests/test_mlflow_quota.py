"""MLflow stores artifacts within their user's quota, whichever way they are uploaded."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pytest
import requests
from coffea_shoppe_contract.names import workspace_name
from mlflow_server import MlflowServer, token
from shoppe_ci.wait import eventually

API = "api/2.0/mlflow"
LIMIT, ELSEWHERE = 3_000_000, 1_000_000
"""Of Ann, in bytes; Bob has no limit."""


@pytest.fixture(scope="module")
def server(running_mlflow: MlflowServer) -> Iterator[MlflowServer]:
    for user in ("ann.quota", "bob.quota"):
        running_mlflow.welcome(user)
    yield running_mlflow
    running_mlflow.quotas.clear()


def artifacts(server: MlflowServer, user: str, name: str) -> str:
    """Make a run; return the path of its artifacts."""
    made = server.ask(user, "POST", f"{API}/experiments/create", json={"name": name}).json()
    info = server.ask(user, "POST", f"{API}/runs/create", json=made).json()["run"]["info"]
    folder = info["artifact_uri"].removeprefix("mlflow-artifacts:/")
    return f"api/2.0/mlflow-artifacts/artifacts/{folder}"


def chunks(size: int) -> Iterator[bytes]:
    """Yield so many bytes: a body whose size is not announced."""
    for start in range(0, size, 100_000):
        yield bytes(min(100_000, size - start))


def test_uploads_beyond_the_quota_are_refused_with_the_numbers(server: MlflowServer) -> None:
    server.quotas["ann.quota"] = {"limit": LIMIT, "elsewhere": ELSEWHERE}
    folder = artifacts(server, "ann.quota", "limited")
    first = server.ask("ann.quota", "PUT", f"{folder}/first.bin", data=bytes(1_500_000))
    assert first.ok, first.text
    ways: dict[str, Callable[[], requests.Response]] = {
        "announced": lambda: server.ask(
            "ann.quota", "PUT", f"{folder}/second.bin", data=bytes(600_000)
        ),
        "chunked": lambda: server.ask(
            "ann.quota", "PUT", f"{folder}/second.bin", data=chunks(600_000)
        ),
        "another path": lambda: server.ask(
            "ann.quota", "PUT", f"ajax-{folder}/second.bin", data=bytes(600_000)
        ),
        "a name with a line break": lambda: server.ask(
            "ann.quota", "PUT", f"{folder}/second%0A.bin", data=bytes(600_000)
        ),
    }
    for way, upload in ways.items():
        refused = upload()
        assert refused.status_code == 413, way
        assert refused.json()["error_code"] == "RESOURCE_EXHAUSTED"
        message = refused.json()["message"]
        assert "would exceed your quota of 0.003 GB" in message
        assert "0.0015 GB of artifacts in MLflow and 0.001 GB in your bucket" in message
    # What fits is taken, in the same ways; an empty file of MLflow's client has no size.
    for name, content in (("a.bin", bytes(200_000)), ("b.bin", chunks(200_000)), ("c", chunks(0))):
        fitting = server.ask("ann.quota", "PUT", f"{folder}/{name}", data=content)
        assert fitting.ok, fitting.text
    # Another user's uploads are that user's own.
    other = artifacts(server, "bob.quota", "unlimited")
    assert server.ask("bob.quota", "PUT", f"{other}/x.bin", data=bytes(2 * LIMIT)).ok


def test_space_that_is_free_again_can_be_used_at_once(server: MlflowServer) -> None:
    server.quotas["ann.again"] = {"limit": 1_000_000, "elsewhere": 0}
    server.welcome("ann.again")
    folder = artifacts(server, "ann.again", "again")
    assert server.ask("ann.again", "PUT", f"{folder}/x.bin", data=bytes(900_000)).ok
    assert server.ask("ann.again", "DELETE", f"{folder}/x.bin").ok
    server.quotas["ann.again"] = {"limit": 1_100_000, "elsewhere": 200_000}

    def uploaded() -> bool:
        response = server.ask("ann.again", "PUT", f"{folder}/y.bin", data=bytes(900_000))
        return bool(response.ok)

    eventually(uploaded, "the space counts as free", timeout=20)


def test_parts_are_not_uploaded_past_the_quota(server: MlflowServer) -> None:
    """Their URLs lead to the store itself.  The client uploads the file to MLflow then."""
    server.quotas["ann.parts"] = {"limit": LIMIT, "elsewhere": 0}
    server.welcome("ann.parts")
    path = artifacts(server, "ann.parts", "parts").replace("/artifacts/", "/mpu/create/", 1)
    response = server.ask("ann.parts", "POST", path, json={"path": "x.bin", "num_parts": 3})
    assert response.status_code == 501
    assert response.json()["message"].startswith("Multipart upload is not supported")


def test_mlflow_s_own_client_shows_the_refusal(
    server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.quotas["ann.client"] = {"limit": 5_000_000, "elsewhere": 0}
    server.welcome("ann.client")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", token("ann.client"))
    monkeypatch.setattr(mlflow.tracking._tracking_service.utils, "_tracking_uri", None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    monkeypatch.setenv("MLFLOW_WORKSPACE", workspace_name("ann.client"))
    large, small = tmp_path / "large.bin", tmp_path / "small.bin"
    large.write_bytes(os.urandom(50_000_000))
    small.write_bytes(b"small")
    client = mlflow.MlflowClient()
    run = client.create_run(client.create_experiment("client")).info.run_id
    with pytest.raises(requests.HTTPError, match=r"would exceed your quota of 0\.005 GB"):
        client.log_artifact(run, str(large))
    client.log_artifact(run, str(small))
    (tmp_path / "empty").touch()
    client.log_artifact(run, str(tmp_path / "empty"))
    assert {file.path for file in client.list_artifacts(run)} == {"small.bin", "empty"}
