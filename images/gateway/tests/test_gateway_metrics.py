"""Counters of Dask clusters: a real gateway, an API in memory."""

import socket
from functools import partial
from pathlib import Path

import pytest
import requests
from aiohttp import encode_basic_auth
from coffea_shoppe_gateway.metrics import EVENTS
from dask_gateway_server.models import ClusterStatus
from gateway_helpers import Gateway, eventually, run_with_gateway
from prometheus_client import generate_latest

ENDED = "2026-01-01T00:00:00Z"


def counts(gateway: Gateway) -> list[float | None]:
    """Return how many clusters were created, stopped, failed."""
    registry, name = gateway.backend.events.registry, "shoppe_gateway_clusters_total"
    return [registry.get_sample_value(name, {"event": event}) for event in EVENTS]


async def end(gateway: Gateway, name: str, phase: str) -> None:
    """Let a cluster's resource say that it has ended, and wait until the gateway has seen it."""
    resource = gateway.resource(name)
    resource["status"] = {"phase": phase, "completionTime": ENDED}
    await gateway.api.put("daskclusters", resource)
    status = ClusterStatus.from_name(phase)
    seen = gateway.backend.clusters
    await eventually(lambda: seen[name].status == status, f"the gateway sees {phase}")


def test_clusters_are_counted_by_what_became_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def steps(gateway: Gateway) -> None:
        assert counts(gateway) == [0, 0, 0]
        first, second, third = [await gateway.started("ann") for _ in range(3)]
        assert counts(gateway) == [3, 0, 0]
        await end(gateway, first, "Stopped")
        assert counts(gateway) == [3, 1, 0]
        await end(gateway, second, "Failed")
        assert counts(gateway) == [3, 1, 1]
        # Whatever else happens to a cluster that has ended, it is counted once.
        await gateway.api.put("daskclusters", gateway.resource(first))
        await end(gateway, third, "Stopped")
        assert counts(gateway) == [3, 2, 1]

    limits = {"clusters": 3, "cores": 8, "memoryGiB": 16}
    run_with_gateway(tmp_path, monkeypatch, steps, limits=limits)


def test_a_refused_cluster_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def steps(gateway: Gateway) -> None:
        assert (await gateway.start("ann", image="mine:1"))[0] == 422
        gateway.api.refusals["POST", "daskclusters"] = (403, "exceeded quota")
        headers = {"Authorization": encode_basic_auth("ann", "any")}
        async with gateway.client.post("/api/v1/clusters/", json={}, headers=headers) as response:
            assert response.status >= 400
        assert counts(gateway) == [0, 0, 0]
        gateway.api.refusals.clear()
        await gateway.started("ann")
        assert counts(gateway) == [1, 0, 0]

    run_with_gateway(tmp_path, monkeypatch, steps)


def test_clusters_that_had_ended_before_the_gateway_started_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def steps(gateway: Gateway) -> None:
        old = await gateway.started("ann")
        await end(gateway, old, "Stopped")
        resource = gateway.resource(old)
        for name, phase in (("earlier", "Failed"), ("running", "Running")):
            metadata = {**resource["metadata"], "name": name}
            await gateway.api.put(
                "daskclusters",
                {**resource, "metadata": metadata, "status": {"phase": phase}},
                "ADDED",
            )
        names = {f"{resource['metadata']['namespace']}.{name}" for name in ("earlier", "running")}
        await eventually(lambda: names <= gateway.backend.clusters.keys(), "it sees them")
        assert counts(gateway) == [1, 1, 0]
        # One that it found running has ended since.
        await end(gateway, f"{resource['metadata']['namespace']}.running", "Failed")
        assert counts(gateway) == [1, 1, 1]

    run_with_gateway(tmp_path, monkeypatch, steps)


def is_gone(gateway: Gateway, name: str) -> bool:
    return name not in gateway.backend.clusters


def test_a_deleted_cluster_has_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def steps(gateway: Gateway) -> None:
        running, ended = [await gateway.started("ann") for _ in range(2)]
        await end(gateway, ended, "Failed")
        assert counts(gateway) == [2, 0, 1]
        for name in (ended, running):
            resource = gateway.resource(name)
            await gateway.api.put("daskclusters", resource, "DELETED")
            await eventually(partial(is_gone, gateway, name), "it is gone")
        assert counts(gateway) == [2, 1, 1]

    run_with_gateway(tmp_path, monkeypatch, steps)


def test_prometheus_reads_counters_that_name_no_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    async def steps(gateway: Gateway) -> None:
        await gateway.started("ann")
        text = generate_latest(gateway.backend.events.registry).decode()
        response = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=10)
        assert response.text == text
        assert 'shoppe_gateway_clusters_total{event="created"} 1.0' in text
        assert "ann" not in text

    run_with_gateway(tmp_path, monkeypatch, steps, metrics_port=port)
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{port}/metrics", timeout=10)
