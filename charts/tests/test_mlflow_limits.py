"""MLflow reads no more of a body than it has memory for, and serves others meanwhile."""

import gzip
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import requests
from coffea_shoppe_contract.api import WORKSPACE_HEADER
from coffea_shoppe_contract.names import workspace_name
from coffea_shoppe_mlflow.server import LARGEST_BODY, LARGEST_OF_NOBODY
from mlflow_server import MlflowServer, token

API = "api/2.0/mlflow"
BLOCK = b" " * 2**20
LARGE = 300
"""Blocks of a body that is larger than what is read."""


@pytest.fixture(scope="module")
def server(running_mlflow: MlflowServer) -> MlflowServer:
    for user in ("ann", "bob"):
        running_mlflow.welcome(user)
    return running_mlflow


@pytest.fixture(scope="module")
def experiment(server: MlflowServer) -> str:
    made = server.ask("ann", "POST", f"{API}/experiments/create", json={"name": "limits"})
    return str(made.json()["experiment_id"])


def sent(server: MlflowServer, path: str, *, announced: bool, blocks: int) -> tuple[int, int]:
    """Send spaces by hand; return the blocks that were taken, and the status (0: none)."""
    parts = urlsplit(server.url)
    body = f"Content-Length: {blocks * len(BLOCK)}" if announced else "Transfer-Encoding: chunked"
    head = [
        f"POST /{path} HTTP/1.1",
        f"Host: {parts.netloc}",
        f"Authorization: Bearer {token('ann')}",
        body,
    ]
    head += ["Content-Type: application/json", f"{WORKSPACE_HEADER}: {workspace_name('ann')}"]
    with socket.create_connection((parts.hostname or "", parts.port or 0), 60) as connection:
        connection.sendall("\r\n".join([*head, "", ""]).encode())
        taken = 0
        try:
            while taken < blocks:
                block = BLOCK if announced else b"%x\r\n%b\r\n" % (len(BLOCK), BLOCK)
                connection.sendall(block)
                taken += 1
            connection.sendall(b"" if announced else b"0\r\n\r\n")
        except OSError:
            pass  # it was refused while we sent
        try:
            answer = connection.recv(64).decode()
        except OSError:
            answer = ""
    return taken, int(answer.split()[1]) if answer else 0


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_that_is_too_large_is_not_read(server: MlflowServer, *, announced: bool) -> None:
    taken, status = sent(server, f"{API}/runs/create", announced=announced, blocks=LARGE)
    # What the network keeps in between counts as taken.
    assert taken < 2 * LARGEST_BODY / len(BLOCK)
    assert status in (0, 413)
    small, status = sent(server, f"{API}/runs/search", announced=announced, blocks=1)
    assert small == 1
    assert status not in (0, 413), "it is read, and is no JSON"


def test_a_large_body_within_the_limit_is_read(server: MlflowServer, experiment: str) -> None:
    body = b'{"experiment_ids": ["%b"]}' % experiment.encode() + BLOCK * 8
    kind = {"Content-Type": "application/json"}
    assert server.ask("ann", "POST", f"{API}/runs/search", data=body, headers=kind).ok


def test_compressed_bodies_are_refused(server: MlflowServer, experiment: str) -> None:
    """OpenTelemetry's are decompressed to any size: 1 MB to 1 GB."""
    path, kind = "v1/traces", {"Content-Type": "application/x-protobuf"}
    headers = {**kind, "x-mlflow-experiment-id": experiment}
    plain = server.ask("ann", "POST", path, data=b"", headers=headers)
    bomb = gzip.compress(b"\0" * 10_000_000)
    packed = server.ask(
        "ann", "POST", path, data=bomb, headers={**headers, "Content-Encoding": "gzip"}
    )
    assert plain.status_code != packed.status_code == 415
    assert "without compression" in packed.json()["message"]


def test_an_artifact_may_be_larger_than_any_other_body(server: MlflowServer) -> None:
    def blocks() -> Iterator[bytes]:
        for _ in range(LARGEST_BODY // len(BLOCK) + 1):
            yield BLOCK

    experiment = {"name": "large artifacts"}
    made = server.ask("ann", "POST", f"{API}/experiments/create", json=experiment).json()
    run = server.ask("ann", "POST", f"{API}/runs/create", json=made).json()["run"]["info"]
    folder = run["artifact_uri"].removeprefix("mlflow-artifacts:/")
    path = f"api/2.0/mlflow-artifacts/artifacts/{folder}/large.bin"
    assert server.ask("ann", "PUT", path, data=blocks()).ok
    assert len(server.ask("ann", "GET", path).content) == LARGEST_BODY + len(BLOCK)
    other = server.ask("bob", "PUT", path, data=b"mine")
    assert other.status_code in (400, 403, 404)


def test_nobody_s_large_body_is_not_read(server: MlflowServer) -> None:
    url = f"{server.url}/{API}/runs/create"
    assert requests.post(url, json={}, timeout=60).status_code == 401
    assert requests.post(url, data=b" " * 2 * LARGEST_OF_NOBODY, timeout=60).status_code == 413
    with pytest.raises(requests.RequestException) as raised:
        requests.post(url, data=(BLOCK for _ in range(LARGE)), timeout=60).raise_for_status()
    response = raised.value.response
    assert response is None or response.status_code == 413
