"""A facility of many users: all of them soon ready, and then nothing is written."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from coffea_shoppe_contract import identity
from shoppe_ci import diagnostics, release
from shoppe_ci.cluster import Cluster
from shoppe_ci.wait import eventually

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

USERS, FEW = 500, 40
READY_S = 120
"""What is promised on two cores."""
MEMORY_MIB = 200
QUIET_S = 75
"""More than two rounds of the operator's look at every user."""
LABEL = "coffea-shoppe.dev/test=many"


@contextmanager
def crowd(facility: Cluster, count: int) -> Iterator[float]:
    """So many users; yields when they began to be made, and removes them at the end."""
    start = time.monotonic()
    key, value = LABEL.split("=")
    facility.apply(
        *(
            {
                "apiVersion": f"{identity.GROUP}/{identity.VERSION}",
                "kind": "FacilityUser",
                "metadata": {
                    "name": identity.resource_name(f"crowd{number}"),
                    "namespace": "shoppe",
                    "labels": {key: value},
                },
                "spec": {"username": f"crowd{number}", "data": "remove"},
            }
            for number in range(count)
        )
    )
    yield start
    facility.kubectl(
        "-n", "shoppe", "delete", identity.USERS, "-l", LABEL, "--timeout=300s", timeout=320
    )


def _conditions(facility: Cluster) -> list[dict[str, str]]:
    found = facility.get(identity.USERS, "-n", "shoppe", "-l", LABEL)["items"]
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
    users = _versions(facility, identity.USERS, "-n", "shoppe", "-l", LABEL)
    return (*secrets, users)


def await_ready(facility: Cluster, count: int, start: float) -> float:
    """Wait until so many users are ready, and return the seconds since the start."""
    ready = {"Ready": "True", "ObjectStore": "True", "MLflow": "True"}
    eventually(
        lambda: _conditions(facility) == [ready] * count,
        f"{count} users are ready",
        timeout=max(READY_S - (time.monotonic() - start), 1),
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
    facility: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    with crowd(facility, USERS) as start:
        took = await_ready(facility, USERS, start)
        assert_quiet(facility, USERS)
        memory = {
            name: mib
            for name, mib in diagnostics.memory_mib(facility).items()
            if "shoppe-operator" in name
        }
        with capsys.disabled():
            print(f"\n{USERS} users ready after {took:.0f} s; operator: {memory} MiB")
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


def _still(facility: Cluster) -> bool:
    before = _written(facility)
    time.sleep(5)
    return _written(facility) == before
