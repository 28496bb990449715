"""A facility of many users: all of them soon ready, and then nothing is written."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from coffea_shoppe_contract.names import resource_name
from coffea_shoppe_contract.resources import API_GROUP, API_VERSION, FACILITY_USERS
from shoppe_ci import diagnostics, release
from shoppe_ci.cluster import Cluster
from shoppe_ci.engine import Engine
from shoppe_ci.errors import ShoppeError
from shoppe_ci.wait import eventually

pytestmark = [pytest.mark.part("load"), pytest.mark.timeout(900)]

USERS, FEW = 500, 40
READY_S = 120
"""What is promised on two cores."""
MEMORY_MIB = 200
QUIET_S = 75
"""More than two rounds of the operator's look at every user."""
KILLS = 3
DEAD_S = 150
"""More than it takes to find out that a watch is dead (70 s), and then to look at a user."""
LABEL = "coffea-shoppe.dev/test=many"


@contextmanager
def crowd(facility: Cluster, count: int) -> Iterator[float]:
    """So many users; yields when they began to be made, and removes them at the end."""
    start = time.monotonic()
    key, value = LABEL.split("=")
    facility.apply(
        *(
            {
                "apiVersion": f"{API_GROUP}/{API_VERSION}",
                "kind": "FacilityUser",
                "metadata": {
                    "name": resource_name(f"crowd{number}"),
                    "namespace": "shoppe",
                    "labels": {key: value},
                },
                "spec": {"username": f"crowd{number}", "data": "remove"},
            }
            for number in range(count)
        )
    )
    try:
        yield start
    finally:
        facility.kubectl(
            "-n", "shoppe", "delete", FACILITY_USERS, "-l", LABEL, "--timeout=300s", timeout=320
        )


def _conditions(facility: Cluster) -> list[dict[str, str]]:
    found = facility.get(FACILITY_USERS, "-n", "shoppe", "-l", LABEL)["items"]
    return [
        {one["type"]: one["status"] for one in user.get("status", {}).get("conditions", ())}
        for user in found
    ]


def _versions(facility: Cluster, *what: str) -> dict[str, str]:
    found = facility.get(*what)["items"]
    return {one["metadata"]["name"]: one["metadata"]["resourceVersion"] for one in found}


def _written(facility: Cluster) -> tuple[dict[str, str], ...]:
    """Return the versions of all that the operator writes for these users."""
    secrets = [
        {name: v for name, v in _versions(facility, "secrets", "-n", namespace).items()
         if name.startswith("shoppe-user-crowd")}
        for namespace in ("shoppe", "shoppe-dask")
    ]  # fmt: skip
    users = _versions(facility, FACILITY_USERS, "-n", "shoppe", "-l", LABEL)
    return (*secrets, users)


def await_ready(facility: Cluster, count: int, start: float, within: float = READY_S) -> float:
    """Wait until so many users are ready, and return the seconds since the start."""
    services = ("Ready", "ObjectStore", "MLflow", "ServiceX", "Dask", "Triton")
    ready = dict.fromkeys(services, "True")
    eventually(
        lambda: _conditions(facility) == [ready] * count,
        f"{count} users are ready",
        timeout=max(within - (time.monotonic() - start), 1),
        every=2,
    )
    return time.monotonic() - start


def assert_quiet(facility: Cluster, count: int) -> None:
    """Nothing is written for these users any more."""
    before = _written(facility)
    assert [len(part) for part in before] == [count] * 3
    time.sleep(QUIET_S)  # that nothing happens can only be waited for
    assert _written(facility) == before


def test_all_are_ready_soon_and_then_nothing_is_written(
    facility: Cluster, figure: Callable[[str], None]
) -> None:
    with crowd(facility, USERS) as start:
        took = await_ready(facility, USERS, start)
        assert_quiet(facility, USERS)
        memory = {
            name: mib
            for name, mib in diagnostics.memory_mib(facility).items()
            if "shoppe-operator" in name
        }
        figure(f"{USERS} users ready after {took:.0f} s; operator: {memory} MiB")
        assert 0 < sum(memory.values()) < MEMORY_MIB


@pytest.fixture
def two_operators(facility: Cluster) -> Iterator[None]:
    """A second operator beside the first; one again afterwards."""
    words = ("-n", "shoppe", "scale", "deployment/shoppe-operator")
    facility.kubectl(*words, "--replicas=2")
    release.wait_ready(facility)
    yield
    facility.kubectl(*words, "--replicas=1")
    release.wait_ready(facility)


@pytest.mark.usefixtures("two_operators")
def test_two_operators_converge_and_then_write_nothing(facility: Cluster) -> None:
    with crowd(facility, FEW) as start:
        await_ready(facility, FEW, start)
        # The second one may have had the last word on a user or two.
        eventually(lambda: _still(facility), "both are done", timeout=60, every=5)
        assert_quiet(facility, FEW)


def test_an_api_server_that_is_killed_amid_them_is_survived(
    facility: Cluster, engine: Engine
) -> None:
    with crowd(facility, FEW) as start:
        for _ in range(KILLS):
            engine.run("exec", facility.node_id, "pkill", "-9", "kube-apiserver")
            eventually(
                lambda: responds(facility),
                "the API server responds again",
                timeout=120,
                every=1,
            )
        # The operator has waited ever longer between two looks: this one has to come by a watch.
        latecomer(facility)
        await_ready(facility, FEW, start, within=READY_S + KILLS * 60)
        eventually(lambda: _still(facility), "the operator is done", timeout=60, every=5)
        assert_quiet(facility, FEW)


def latecomer(facility: Cluster) -> None:
    """Have one more user made, and removed again."""
    where = ("-n", "shoppe", "latecomer")
    facility.apply(
        {
            "apiVersion": f"{API_GROUP}/{API_VERSION}",
            "kind": "FacilityUser",
            "metadata": {"name": "latecomer", "namespace": "shoppe"},
            "spec": {"username": "latecomer", "data": "remove"},
        }
    )
    eventually(
        lambda: facility.get(FACILITY_USERS, *where).get("status", {}).get("conditions"),
        "the operator sees a user who comes afterwards",
        timeout=READY_S,
        every=2,
    )
    facility.kubectl("delete", FACILITY_USERS, *where, "--timeout=60s")


def responds(facility: Cluster) -> bool:
    """Return whether the API server is ready."""
    try:
        return facility.kubectl("get", "--raw", "/readyz") == "ok"
    except ShoppeError:
        return False


def connections(facility: Cluster, engine: Engine) -> tuple[str, set[str]]:
    """Return the operator's address, and the ports of its connections to the API server."""
    label = "app.kubernetes.io/component=operator"
    (pod,) = facility.get("pods", "-n", "shoppe", "-l", label)["items"]
    address = pod["status"]["podIP"]
    # Its summary, on stderr, would stand in the middle of a line.
    listing = f"conntrack -L -p tcp -s {address} --dport 443 2>/dev/null"
    listed = engine.run("exec", facility.node_id, "sh", "-c", listing)
    return address, set(re.findall(r"ESTABLISHED src=\S+ dst=\S+ sport=(\d+)", listed))


@pytest.fixture
def silence(facility: Cluster, engine: Engine) -> Iterator[set[str]]:
    """Whatever the operator and the API server say to one another is lost, without a word."""
    address, ports = connections(facility, engine)
    rules = [
        (chain, "-p", "tcp", *match)
        for port in ports
        for chain, *match in (
            ("INPUT", "-s", address, "--sport", port, "-j", "DROP"),
            ("OUTPUT", "-d", address, "--dport", port, "-j", "DROP"),
        )
    ]
    for rule in rules:
        engine.run("exec", facility.node_id, "iptables", "-I", *rule)
    yield ports
    for rule in rules:
        engine.run("exec", facility.node_id, "iptables", "-D", *rule)


def test_watches_that_are_dropped_without_a_word_are_made_anew(
    facility: Cluster, engine: Engine, silence: set[str]
) -> None:
    assert silence, "the operator watches"
    with crowd(facility, 1) as start:
        # It must be found out first that the watch is dead.
        await_ready(facility, 1, start, within=DEAD_S)
    assert connections(facility, engine)[1] - silence, "they are other ones"


def _still(facility: Cluster) -> bool:
    before = _written(facility)
    time.sleep(5)
    return _written(facility) == before
