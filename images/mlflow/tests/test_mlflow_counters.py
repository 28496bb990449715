"""Counters of requests: what they do, how they ended, in whichever process."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from coffea_shoppe_mlflow.counters import REQUESTS, STATUSES, Counters
from coffea_shoppe_mlflow.endpoints import OPERATIONS, OTHER, operation
from coffea_shoppe_mlflow.exporter import registry
from prometheus_client import REGISTRY, CollectorRegistry

API, AJAX = "/api/2.0", "/ajax-api/2.0"
CREATE = "POST", f"{API}/mlflow/runs/create"


@pytest.mark.parametrize(
    ("name", "method", "path"),
    [
        ("run_created", *CREATE),
        ("run_created", "POST", f"{AJAX}/mlflow/runs/create"),
        ("metrics_or_params_logged", "POST", f"{API}/mlflow/runs/log-metric"),
        ("metrics_or_params_logged", "POST", f"{API}/mlflow/runs/log-parameter"),
        ("metrics_or_params_logged", "POST", f"{API}/mlflow/runs/log-batch"),
        ("artifact_stored", "PUT", f"{API}/mlflow-artifacts/artifacts/1/run/a b\n.png"),
        ("artifact_stored", "POST", f"{AJAX}/mlflow/upload-artifact"),
        ("artifact_stored", "POST", f"{API}/mlflow-artifacts/mpu/complete/1/run/a.bin"),
        ("artifact_read", "GET", f"{API}/mlflow-artifacts/artifacts/1/run/a.png"),
        ("artifact_read", "GET", "/get-artifact"),
        ("artifact_read", "GET", "/model-versions/get-artifact"),
        ("artifact_read", "GET", f"{AJAX}/mlflow/logged-models/m-1/artifacts/files"),
        ("model_registered", "POST", f"{API}/mlflow/model-versions/create"),
        # Each of these is close to one of those above.
        (OTHER, "GET", f"{API}/mlflow/runs/create"),
        (OTHER, "POST", f"{API}/mlflow/runs/create/x"),
        (OTHER, "POST", f"{API}/mlflow/runs/create\n"),
        (OTHER, "POST", f"{API}/mlflow/runs/search"),
        (OTHER, "POST", f"{API}/mlflow/runs/log-model"),
        (OTHER, "POST", f"{API}/mlflow-artifacts/mpu/create/1/run/a.bin"),
        (OTHER, "DELETE", f"{API}/mlflow-artifacts/artifacts/1/run/a.png"),
        (OTHER, "GET", f"{API}/mlflow-artifacts/artifacts"),  # a list
        (OTHER, "POST", f"{API}/mlflow/registered-models/create"),
        (OTHER, "BREW", "/ann"),
    ],
)
def test_a_request_is_counted_by_what_it_does(name: str, method: str, path: str) -> None:
    assert operation(method, path) == name


def counts(source: CollectorRegistry = REGISTRY) -> dict[tuple[str, str], float]:
    """Return the counters that are not zero: (operation, status) → value."""
    samples = [sample for metric in source.collect() for sample in metric.samples]
    return {
        (sample.labels["operation"], sample.labels["status"]): sample.value
        for sample in samples
        if sample.name == "shoppe_mlflow_requests_total" and sample.value
    }


def serve(*messages: dict[str, Any] | Exception, path: str = CREATE[1], kind: str = "http") -> Any:
    """Serve a request by an application that sends messages; return the counters' differences."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            if isinstance(message, Exception):
                raise message
            await send(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    sent: list[Any] = []
    before = counts()
    scope = {"type": kind, "path": path} | ({"method": CREATE[0]} if kind == "http" else {})
    failures = [message for message in messages if isinstance(message, Exception)]
    try:
        asyncio.run(Counters(application)(scope, receive, send))
        assert not failures
    except RuntimeError as error:
        assert [error] == failures, "an error is passed on"
    assert sent == [message for message in messages if not isinstance(message, Exception)]
    after = counts()
    return {key: after[key] - before.get(key, 0) for key in after if after[key] != before.get(key)}


def start(status: int) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status}


def body(*, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": b"x", "more_body": more}


@pytest.mark.parametrize(
    ("messages", "status"),
    [
        ([start(200), body()], "2xx"),
        ([start(200), body(more=True), body()], "2xx"),
        ([start(302), {"type": "http.response.body"}], "3xx"),
        ([start(403), body()], "4xx"),
        ([start(503), body()], "5xx"),
        ([RuntimeError("unexpected")], "5xx"),
        ([], "5xx"),
        ([start(200)], "aborted"),
        ([start(200), body(more=True)], "aborted"),
        ([start(200), body(more=True), RuntimeError("the store is gone")], "aborted"),
    ],
)
def test_a_request_is_counted_once_by_how_its_response_ended(
    messages: list[Any], status: str
) -> None:
    assert serve(*messages) == {("run_created", status): 1}


def test_probes_and_other_protocols_are_not_counted() -> None:
    assert serve(start(200), body(), path="/health") == {}
    assert serve({"type": "websocket.close"}, kind="websocket") == {}
    assert serve(start(200), body(), path="/healthy") == {(OTHER, "2xx"): 1}


def test_every_combination_is_exported_from_the_start() -> None:
    samples = [sample.labels for metric in REQUESTS.collect() for sample in metric.samples]
    combinations = {(labels["operation"], labels["status"]) for labels in samples}
    assert combinations == {(name, status) for name in (*OPERATIONS, OTHER) for status in STATUSES}


PROCESS = """
import prometheus_client
from coffea_shoppe_mlflow.counters import REQUESTS
prometheus_client.Counter("library_calls", "Of another library.").inc()
for _ in range({count}):
    REQUESTS.labels("run_created", "2xx").inc()
"""


def python(source: str, **environment: str) -> str:
    """Run a program in a process of its own; return what it prints."""
    return subprocess.run(
        [sys.executable, "-c", source],
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def test_the_exporter_sums_over_processes_and_keeps_those_that_ended(tmp_path: Path) -> None:
    sums = registry(tmp_path)
    assert counts(sums) == {}
    for count in (2, 3):
        python(PROCESS.format(count=count), PROMETHEUS_MULTIPROC_DIR=str(tmp_path))
    assert len(list(tmp_path.glob("counter_*.db"))) == 2
    assert counts(sums) == {("run_created", "2xx"): 5}
    exported = [sample for metric in sums.collect() for sample in metric.samples]
    assert len(exported) == (len(OPERATIONS) + 1) * len(STATUSES), "zeros, and nothing else"


def test_the_exporter_loads_nothing_of_mlflow() -> None:
    loaded = python("import sys, coffea_shoppe_mlflow.exporter; print(*sys.modules)").split()
    assert "prometheus_client" in loaded
    assert {"mlflow", "flask", "sqlalchemy", "fastapi"}.isdisjoint(loaded)
