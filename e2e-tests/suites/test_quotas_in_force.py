"""What a user may use: told, counted, and not exceeded."""

import json
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from coffea_shoppe_contract.names import resource_name
from coffea_shoppe_contract.resources import FACILITY_USERS
from lib.fixtures import GROUP, administrator, passing_user, run_code
from shoppe_ci.cluster import Cluster
from shoppe_ci.facility import User
from shoppe_ci.wait import eventually

MEASURED_S = 150
"""What is stored is measured twice a minute, and a user is looked at as often."""
PUT = (
    "import coffea_shoppe as shoppe\n"
    "store = shoppe.storage()\n"
    "def put(name, size):\n"
    "    try:\n"
    "        with store.open(name, 'wb') as file: file.write(b'x' * size)\n"
    "        return 'stored'\n"
    "    except OSError as error:\n"
    "        return 'refused' if 'ACCESS_DENIED' in str(error) else str(error)\n"
)


@pytest.fixture(scope="module")
def carl(facility: Cluster) -> Iterator[User]:
    yield from passing_user(facility, "carl.quota@example.org")


def set_quota(facility: Cluster, user: User, **quota: object) -> None:
    """Give a user a quota of the user's own, and wait until it is in force.

    None takes a service's part back.
    """
    name = resource_name(user.name)
    patch = json.dumps({"spec": {"quota": quota}})
    words = ("-n", "shoppe", "patch", FACILITY_USERS, name, "--type=merge", "-p", patch)
    facility.kubectl(*words)
    eventually(
        lambda: all(
            (effective_quota(facility, user)[service] == part) is (part is not None)
            for service, part in quota.items()
        ),
        f"the quota of {user.name} is in force",
        timeout=60,
    )


def effective_quota(facility: Cluster, user: User) -> dict[str, object]:
    """Return what a user may use."""
    name = resource_name(user.name)
    found: dict[str, object] = facility.get(FACILITY_USERS, name, "-n", "shoppe")["status"]["quota"]
    return found


def conditions(facility: Cluster, user: User) -> dict[str, str]:
    """Return the reasons of a user's conditions."""
    name = resource_name(user.name)
    held = facility.get(FACILITY_USERS, name, "-n", "shoppe")["status"]["conditions"]
    return {one["type"]: one["reason"] for one in held}


def test_a_user_s_own_quota_is_told_and_kept(carl: User, facility: Cluster) -> None:
    every = ("Ready", "ObjectStore", "MLflow", "ServiceX", "Dask", "Triton")
    eventually(
        lambda: conditions(facility, carl) == dict.fromkeys(every, "Ready"),
        "all services are the user's",
        timeout=60,
    )
    own = {"clusters": 1, "cores": 1, "memoryGiB": 4}
    set_quota(facility, carl, dask=own, triton={"models": 3})
    printed = run_code(
        carl,
        "import time\n"
        "import coffea_shoppe as shoppe\n"
        "from dask_gateway import Gateway\n"
        "gateway = Gateway(); time.sleep(10)\n"  # the gateway looks limits up as often
        "cluster = gateway.new_cluster(); cluster.scale(3); client = cluster.get_client()\n"
        "client.wait_for_workers(1, timeout=180); time.sleep(20)\n"
        "print(client.scheduler_info()['n_workers'])\n"
        "try: gateway.new_cluster()\n"
        "except Exception as error: print(error)\n"
        "print(shoppe.status())\n"
        "cluster.shutdown()",
    )
    workers, refused, *status = printed.splitlines()
    assert workers == "1", "three were asked for, and one core is what there is"
    assert "you have 1 of at most 1 Dask clusters" in refused
    told = [line.strip() for line in status]
    assert "clusters 1 of 1, cores 1 of 1, memory 1.5 of 4 GiB" in told, printed
    assert "models 0 of 3" in told, printed


def test_a_bucket_that_holds_too_much_is_read_and_emptied_only(
    carl: User, facility: Cluster
) -> None:
    set_quota(facility, carl, objectStore={"gigabytes": 0.002})
    assert run_code(carl, PUT + "print(put('large', 3_000_000))").strip() == "stored"

    def full() -> bool:
        return conditions(facility, carl)["ObjectStore"] == "Full"

    eventually(full, "the bucket is told to be full", timeout=MEASURED_S, every=2)
    printed = run_code(
        carl,
        f"{PUT}print(put('more', 10)); print(len(store.cat('large'))); print(shoppe.status())\n"
        "store.rm('large'); print(store.exists('large'))",
    )
    refused, size, *status, left = printed.splitlines()
    assert (refused, size, left) == ("refused", "3000000", "False")
    assert any("stored 0.003 of 0.002 GB" in line for line in status), printed
    assert any("ObjectStore" in line and "NOT ready" in line for line in status), printed
    eventually(lambda: not full(), "the bucket is open again", timeout=MEASURED_S, every=2)
    assert run_code(carl, PUT + "print(put('more', 10))").strip() == "stored"
    set_quota(facility, carl, objectStore={"gigabytes": 0})


def test_a_group_of_the_hub_decides(carl: User, facility: Cluster) -> None:
    usual = {"clusters": 2, "cores": 8, "memoryGiB": 16}
    set_quota(facility, carl, dask=None)
    eventually(
        lambda: effective_quota(facility, carl)["dask"] == usual,
        "the facility's own quota is in force",
        timeout=60,
    )
    boss = administrator(facility)
    boss.hub("POST", f"/groups/{GROUP}")
    joined = boss.hub("POST", f"/groups/{GROUP}/users", json={"users": [carl.name]})
    assert joined.ok, joined.text
    carl.stop()
    carl.spawn()
    assert effective_quota(facility, carl)["dask"] == {**usual, "clusters": 3}
    boss.hub("DELETE", f"/groups/{GROUP}/users", json={"users": [carl.name]})
    left = boss.hub("GET", f"/users/{quote(carl.name)}").json()["groups"]
    assert left == []
