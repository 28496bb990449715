"""Addresses that the commands of ci/ use, compared with the release's Services and pods."""

from typing import Any

import pytest
from rendering import RELEASE, template
from shoppe_ci import overload
from shoppe_ci.gate.hops import HOPS, Hop


@pytest.fixture(scope="module")
def facility() -> list[Any]:
    return template("coffea-shoppe")


@pytest.fixture(scope="module")
def service_ports(facility: list[Any]) -> set[tuple[str, int]]:
    """Name and port of each Service."""
    return {
        (manifest["metadata"]["name"], port["port"])
        for manifest in facility
        if manifest["kind"] == "Service"
        for port in manifest["spec"]["ports"]
    }


@pytest.mark.parametrize("name", overload.SERVERS)
def test_a_flooded_server_is_one_of_the_release(
    service_ports: set[tuple[str, int]], name: str
) -> None:
    server = overload.SERVERS[name]
    assert (f"{RELEASE}-{server.service}", server.port) in service_ports


@pytest.mark.parametrize("hop", HOPS, ids=lambda hop: hop.name)
def test_the_gate_reads_counters_of_the_release(facility: list[Any], hop: Hop) -> None:
    ports = {
        port["containerPort"]
        for manifest in facility
        if manifest["kind"] in ("Deployment", "StatefulSet")
        and manifest["metadata"]["labels"]["app.kubernetes.io/component"] == hop.endpoint.component
        for container in manifest["spec"]["template"]["spec"]["containers"]
        for port in container.get("ports", ())
    }
    assert hop.endpoint.port in ports
