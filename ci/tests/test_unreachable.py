"""Calls that do not reach the API server are repeated, all others fail at once."""

from pathlib import Path

import pytest
from shoppe_ci import cluster, toolchain, unreachable
from shoppe_ci.errors import ShoppeError

OPENAPI = 'error validating "STDIN": error validating data: failed to download openapi: unknown'
REFUSED = "The connection to the server 127.0.0.1:6443 was refused - did you specify the right host"
HELM = "helm: Kubernetes cluster unreachable: Get https://127.0.0.1:6443/version: EOF"


class Server:
    """Fails with each of the given reasons in turn, then succeeds."""

    def __init__(self, *reasons: str) -> None:
        self.reasons = list(reasons)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.reasons:
            raise ShoppeError(self.reasons.pop(0))
        return "applied"


def test_a_server_that_starts_is_called_again() -> None:
    server = Server(OPENAPI, REFUSED, HELM)
    assert unreachable.repeated(server, delay=0) == "applied"
    assert server.calls == 4


def test_a_refusal_is_final() -> None:
    server = Server('namespaces "shoppe" is forbidden', OPENAPI)
    with pytest.raises(ShoppeError, match="forbidden"):
        unreachable.repeated(server, delay=0)
    assert server.calls == 1


def test_a_refused_connection_inside_a_pod_is_no_reason_to_run_a_command_again() -> None:
    server = Server("curl: (7) Failed to connect to 10.0.0.1 port 80: Connection refused")
    with pytest.raises(ShoppeError, match="Connection refused"):
        unreachable.repeated(server, delay=0)
    assert server.calls == 1


def test_the_last_reason_is_reported() -> None:
    server = Server(REFUSED, REFUSED, OPENAPI, REFUSED)
    with pytest.raises(ShoppeError, match="failed to download openapi"):
        unreachable.repeated(server, attempts=3, delay=0)
    assert server.calls == 3


def test_kubectl_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(
        f"#!/bin/sh\ncat > {tmp_path}/stdin\n"
        f"test -e {tmp_path}/up && exit 0\n"
        f"touch {tmp_path}/up\necho '{OPENAPI}'\nexit 1\n"
    )
    kubectl.chmod(0o755)
    monkeypatch.setattr(toolchain, "program", lambda name: kubectl)
    monkeypatch.setattr(unreachable, "DELAY_S", 0.0)
    made = cluster.Cluster("test", "node", 0, "source")
    made.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shoppe"}})
    assert "name: shoppe" in (tmp_path / "stdin").read_text()
