"""Servers with two pods serve on while a drain evicts all of them, one after the other."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from lib.fixtures import passing_user, run_code
from shoppe_ci import overload, testing
from shoppe_ci.cluster import Cluster
from shoppe_ci.diagnostics import is_ready
from shoppe_ci.errors import ShoppeError
from shoppe_ci.facility import User
from shoppe_ci.wait import eventually

pytestmark = [pytest.mark.part("clusters"), pytest.mark.alone, pytest.mark.timeout(900)]

TWO: dict[str, Any] = {"replicas": 2, "pdb": {"enabled": True, "maxUnavailable": 1}}
VALUES = {
    "operator": {"api": TWO},
    "dask-gateway": {"traefik": TWO},
    "servicex": {"app": TWO},
    "triton": TWO,
}
COMPONENTS = {
    "api": "shoppe",
    "servicex": "shoppe",
    "traefik": "shoppe-dask",
    "triton": "shoppe",
}
"""Component → namespace of its pods."""
SERVERS = ("api", "servicex", "s3-gateway", "traefik", "triton")
STOP = "stop-probes"
LONGEST_S = 420
ENOUGH = 20
"""Requests to each server, at least."""


@pytest.fixture(scope="module")
def eve(facility: Cluster) -> Iterator[User]:
    """A user of a facility whose servers have two pods each."""
    with testing.with_values(facility, VALUES):
        yield from passing_user(facility, "eve.evicted")


def serving(facility: Cluster, component: str) -> list[str]:
    """Return the names of a component's pods that are ready and not being deleted."""
    label = f"app.kubernetes.io/component={component}"
    pods = facility.get("pods", "-n", COMPONENTS[component], "-l", label)["items"]
    return [
        pod["metadata"]["name"]
        for pod in pods
        if is_ready(pod) and not pod["metadata"].get("deletionTimestamp")
    ]


def evict(facility: Cluster, component: str, pod: str) -> None:
    """Evict a pod, as a drain of its node does; raises `ShoppeError` where its budget refuses."""
    namespace = COMPONENTS[component]
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod, "namespace": namespace},
    }
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction"
    facility.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction).encode())


def wait_for_two(facility: Cluster, component: str, *, without: set[str]) -> None:
    """Wait until a component has two pods that serve, none of which is one of those."""

    def there_are() -> bool:
        pods = serving(facility, component)
        return len(pods) == 2 and not without.intersection(pods)

    eventually(there_are, f"{component} has two pods again", timeout=180, every=2)


def test_no_request_fails_while_all_pods_are_evicted(
    facility: Cluster, eve: User, figure: Callable[[str], None]
) -> None:
    hosts = {name: overload.hosts("")[name] for name in SERVERS}
    with ThreadPoolExecutor(1) as pool:
        probes = pool.submit(
            run_code, eve, overload.probe_code(hosts, LONGEST_S, until=STOP), fresh=True
        )
        try:
            started = "import os; print(os.path.exists('/tmp/probes.py'))"
            eventually(lambda: "True" in run_code(eve, started), "the probes run", timeout=60)
            first = {component: serving(facility, component) for component in COMPONENTS}
            assert {len(pods) for pods in first.values()} == {2}
            for component, (one, other) in first.items():
                evict(facility, component, one)
                # The budget keeps the other one until there is a new one.
                with pytest.raises(ShoppeError, match="disruption budget"):
                    evict(facility, component, other)
            for component, (one, other) in first.items():
                wait_for_two(facility, component, without={one})
                evict(facility, component, other)
            for component, pods in first.items():
                wait_for_two(facility, component, without=set(pods))
        finally:
            run_code(eve, f"import pathlib; (pathlib.Path.home() / {STOP!r}).touch()")
        uses = overload.uses(probes.result(LONGEST_S))
    assert set(uses) == set(SERVERS)
    for server, use in uses.items():
        figure(f"{server}: {len(use.successes)} requests, interruption {use.interruption:.1f} s")
        assert len(use.successes) >= ENOUGH, server
    assert {server: use.problems for server, use in uses.items() if use.problems} == {}
