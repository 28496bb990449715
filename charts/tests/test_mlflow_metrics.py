"""MLflow's server counts what it does; the exporter beside it serves the counts."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
import requests
from coffea_shoppe_contract.names import workspace_name
from mlflow.entities import Param
from mlflow_server import MlflowServer, token
from prometheus_client.parser import text_string_to_metric_families
from rendering import containers, pod_specs
from shoppe_ci.wait import eventually

WITH_LOGIN = {"auth": {"api": "http://api"}}
API = "api/2.0/mlflow"
USER = "ann.counted"


@pytest.fixture(scope="module")
def server(running_mlflow: MlflowServer) -> MlflowServer:
    running_mlflow.welcome(USER)
    return running_mlflow


@pytest.fixture(scope="module")
def metrics(server: MlflowServer) -> Iterator[str]:
    with server.exporting() as url:
        eventually(lambda: requests.get(url, timeout=5).ok, "the exporter serves", every=0.1)
        yield url


def counts(url: str) -> Counter[tuple[str, str]]:
    """Return the counters, by operation and status."""
    response = requests.get(url, timeout=10)
    response.raise_for_status()
    return Counter(
        {
            (sample.labels["operation"], sample.labels["status"]): int(sample.value)
            for family in text_string_to_metric_families(response.text)
            for sample in family.samples
        }
    )


def increase(url: str, before: Counter[tuple[str, str]], least: int) -> Counter[tuple[str, str]]:
    """Return what was counted since; waits for `least` counts of operations with a name.

    A worker counts a request after it has sent the response.
    """

    def since() -> Counter[tuple[str, str]] | None:
        done = counts(url) - before
        named = sum(number for (operation, _), number in done.items() if operation != "other")
        return done if named >= least else None

    return eventually(since, f"{least} requests are counted", every=0.1)


def test_the_calls_of_mlflow_s_client_are_counted_by_what_they_do(
    server: MlflowServer, metrics: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", token(USER))
    monkeypatch.setattr(mlflow.tracking._tracking_service.utils, "_tracking_uri", None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    monkeypatch.setenv("MLFLOW_WORKSPACE", workspace_name(USER))
    client = mlflow.MlflowClient(server.url, server.url)
    file = tmp_path / "figure.txt"
    file.write_text("a figure")
    before = counts(metrics)
    run = client.create_run(client.create_experiment("counted")).info.run_id
    client.log_metric(run, "auc", 0.9)
    client.log_param(run, "depth", 3)
    client.log_batch(run, params=[Param("width", "4")])
    client.log_artifact(run, str(file))
    downloaded = client.download_artifacts(run, "figure.txt", str(tmp_path))
    assert Path(downloaded).read_text() == "a figure"
    client.create_registered_model("counted")
    client.create_model_version("counted", f"runs:/{run}/figure.txt", run)
    done = increase(metrics, before, 7)
    assert {operation: done[operation, "2xx"] for operation, _ in done} == {
        "run_created": 1,
        "metrics_or_params_logged": 3,
        "artifact_stored": 1,
        "artifact_read": 1,
        "model_registered": 1,
        "other": done["other", "2xx"],
    }
    assert done["other", "2xx"] >= 2


def test_what_is_refused_counts_as_refused(server: MlflowServer, metrics: str) -> None:
    before = counts(metrics)
    path = f"{server.url}/{API}/runs/create"
    assert requests.post(path, json={}, timeout=60).status_code == 401
    absent = {"experiment_id": "-1"}
    assert not server.ask(USER, "POST", f"{API}/runs/create", json=absent).ok
    compressed = {"Content-Encoding": "gzip"}
    assert server.ask(USER, "POST", f"{API}/runs/create", headers=compressed).status_code == 415
    assert increase(metrics, before, 3) == {("run_created", "4xx"): 3}


def test_the_metrics_name_no_user_and_are_not_served_to_users(
    server: MlflowServer, metrics: str
) -> None:
    server.ask(USER, "GET", f"{API}/{USER}")
    text = requests.get(metrics, timeout=10).text
    assert "shoppe_mlflow_requests_total" in text
    assert USER not in text
    assert "shoppe_mlflow_requests_total" not in server.ask(USER, "GET", "metrics").text


def ports(manifests: list[Any]) -> dict[str, int]:
    """Return the ports of MLflow's Service."""
    (service,) = [m for m in manifests if m["kind"] == "Service"]
    return {port["name"]: port["port"] for port in service["spec"]["ports"]}


def ingress(manifests: list[Any]) -> list[Any]:
    (policy,) = [m for m in manifests if m["kind"] == "NetworkPolicy"]
    return list(policy["spec"]["ingress"])


def test_the_exporter_reads_what_the_server_writes_and_writes_nothing(render: Any) -> None:
    manifests = render("mlflow", WITH_LOGIN)
    by_name = dict(containers(manifests))
    server, exporter = by_name["shoppe-mlflow/mlflow"], by_name["shoppe-mlflow/exporter"]
    environment = {entry["name"]: entry.get("value") for entry in server["env"]}
    folder = environment["PROMETHEUS_MULTIPROC_DIR"]
    assert f"--folder={folder}" in exporter["args"]
    (mount,) = exporter["volumeMounts"]
    assert mount == {"name": "metrics", "mountPath": folder, "readOnly": True}
    assert {"name": "metrics", "mountPath": folder} in server["volumeMounts"]
    (_, pod, spec) = next(entry for entry in pod_specs(manifests) if entry[0] == "shoppe-mlflow")
    assert {"name": "metrics", "emptyDir": {}} in spec["volumes"]
    assert pod["metadata"]["annotations"]["prometheus.io/port"] == "9090"
    assert [port["containerPort"] for port in exporter["ports"]] == [9090]
    assert ports(manifests) == {"http": 5000, "metrics": 9090}


def test_without_a_login_there_are_no_metrics(render: Any) -> None:
    manifests = render("mlflow", {"auth": {"enabled": False}})
    assert "shoppe-mlflow/mlflow" in dict(containers(manifests))
    assert "shoppe-mlflow/exporter" not in dict(containers(manifests))
    assert ports(manifests) == {"http": 5000}
    assert [rule["ports"] for rule in ingress(manifests)] == [[{"port": "http"}]]


@pytest.mark.parametrize("peers", [[], [{"podSelector": {"matchLabels": {"app": "vm"}}}]])
def test_a_facility_chooses_who_reads_the_metrics(render: Any, peers: list[Any]) -> None:
    rules = ingress(render("mlflow", {**WITH_LOGIN, "networkPolicy": {"monitoring": peers}}))
    readers = [rule["from"] for rule in rules if rule["ports"] == [{"port": "metrics"}]]
    assert readers == ([peers] if peers else [])
    assert rules[0]["ports"] == [{"port": "http"}]
