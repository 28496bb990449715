"""The hub's user is the user of every service, for as long as nobody says otherwise."""

import json
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from coffea_shoppe_contract.api import KEYS_PATH, REVOCATIONS_PATH
from coffea_shoppe_contract.names import resource_name, secret_name
from coffea_shoppe_contract.resources import FACILITY_USERS, USER_LABEL
from coffea_shoppe_identity import RefusedError, VerificationData, Verifier
from lib.fixtures import administrator, new_user, passing_user, run_code
from shoppe_ci.cluster import Cluster
from shoppe_ci.errors import ShoppeError
from shoppe_ci.facility import User
from shoppe_ci.wait import eventually

ISSUER = "coffea-shoppe:shoppe:shoppe"
REVOKED_S = 60
"""What is promised."""

SERVICES = ("api", "dask-gateway", "mlflow", "s3", "servicex", "triton", "triton-grpc", "xcache")


def verifier(facility: Cluster, audience: str) -> Verifier:
    """Return what a service would verify with: the published keys and revocations."""

    def published() -> VerificationData:
        base = "/api/v1/namespaces/shoppe/services/shoppe-api:http/proxy"
        paths = (KEYS_PATH, REVOCATIONS_PATH)
        return VerificationData.parse(
            *(json.loads(facility.kubectl("get", "--raw", base + p)) for p in paths)
        )

    found = Verifier(published, issuer=ISSUER, audience=audience)
    assert found.refresh()
    return found


@pytest.fixture(scope="module")
def leaver(facility: Cluster) -> Iterator[User]:
    yield from passing_user(facility, "leaver.identity@example.org")


def test_a_notebook_and_its_workers_hold_tokens_that_services_accept(
    ann: User, facility: Cluster
) -> None:
    printed = run_code(
        ann,
        "import coffea_shoppe as shoppe\n"
        "print(shoppe.status())\n"
        "from dask_gateway import Gateway\n"
        "cluster = Gateway().new_cluster(); cluster.scale(1); client = cluster.get_client()\n"
        "client.wait_for_workers(1, timeout=180)\n"
        "print(client.submit(lambda: shoppe.token('servicex')).result())\n"
        "print(client.run_on_scheduler(lambda: shoppe.token('servicex')))\n"
        "def log():\n"
        "    import mlflow\n"
        "    with mlflow.start_run() as run: mlflow.log_metric('x', 1)\n"
        "    return run.info.run_id\n"
        "import mlflow; print(mlflow.get_run(client.submit(log).result()).data.metrics)\n"
        "print(shoppe.token('servicex')); print(shoppe.token('mlflow'))\n"
        "cluster.shutdown()",
    )
    *told, on_worker, on_scheduler, logged, mine, for_mlflow = printed.splitlines()
    assert logged == "{'x': 1.0}"
    assert told[0].startswith(f"{ann.name}, tokens valid until")
    healthy = {line.split()[0] for line in told[1:] if " healthy " in line}
    assert healthy == set(SERVICES), told
    service = verifier(facility, "servicex")
    for token in (mine, on_worker, on_scheduler):
        assert service.verify(token).user == ann.name
    with pytest.raises(RefusedError, match="for 'mlflow', not for 'servicex'"):
        service.verify(for_mlflow)
    assert verifier(facility, "mlflow").verify(for_mlflow).user == ann.name


def test_no_token_is_in_the_environment_or_readable_by_another_user(ann: User, bob: User) -> None:
    code = "import os; print(sum('eyJ' in value for value in os.environ.values()))"
    assert run_code(ann, code, fresh=True).split() == ["0"]
    mine = "import coffea_shoppe; print(coffea_shoppe.token('api'))"
    assert run_code(bob, mine) != run_code(ann, mine)


def test_users_are_counted_for_prometheus(ann: User, facility: Cluster) -> None:
    pods = ("pods", "-n", "shoppe", "-l", "app.kubernetes.io/component=operator")
    (pod,) = facility.get(*pods)["items"]
    path = f"/api/v1/namespaces/shoppe/pods/{pod['metadata']['name']}:9090/proxy/metrics"

    def counted() -> bool:
        text = facility.kubectl("get", "--raw", path)
        line = next(line for line in text.splitlines() if 'condition="Ready",status="True"' in line)
        users = facility.get(FACILITY_USERS, "-n", "shoppe")["items"]
        assert resource_name(ann.name) in [user["metadata"]["name"] for user in users]
        return float(line.split()[-1]) == len(users)

    eventually(counted, "all users are counted", timeout=60, every=2)


@pytest.mark.part("faults")
def test_secrets_that_were_deleted_come_back(ann: User, facility: Cluster) -> None:
    name = secret_name(ann.name)
    namespaces = ("shoppe", "shoppe-dask")
    for namespace in namespaces:
        facility.kubectl("-n", namespace, "delete", "secret", name)

    def back(namespace: str) -> bool:
        found = facility.get("secret", name, "-n", namespace, "--ignore-not-found")
        return bool(found.get("data"))

    eventually(
        lambda: all(back(namespace) for namespace in namespaces),
        f"the Secret {name} is back in both namespaces",
        timeout=90,
        every=2,
    )


@pytest.mark.alone
def test_a_killed_operator_loses_nothing(ann: User, facility: Cluster) -> None:
    before = facility.get("secret", "shoppe-identity-keys", "-n", "shoppe")["data"]
    selector = ("-n", "shoppe", "-l", "app.kubernetes.io/component in (operator, api)")
    killed = {pod["metadata"]["name"] for pod in facility.get("pods", *selector)["items"]}
    assert len(killed) == 2
    facility.kubectl("delete", "pod", *selector, "--grace-period=0", "--force")

    # For a moment the Deployments' status counts the killed pods as ready.
    def replaced() -> bool:
        pods = facility.get("pods", *selector)["items"]
        ready = {
            pod["metadata"]["name"]
            for pod in pods
            if all(status["ready"] for status in pod["status"]["containerStatuses"])
        }
        return len(ready - killed) == len(killed)

    eventually(replaced, "other pods of the operator and the API are ready", timeout=180)
    assert facility.get("secret", "shoppe-identity-keys", "-n", "shoppe")["data"] == before
    # A pod is ready a moment before the Service leads to it.
    status = (
        "import time, coffea_shoppe as s\n"
        "end = time.monotonic() + 30\n"
        "while True:\n"
        "    try:\n"
        "        print(s.status()); break\n"
        "    except s.FacilityError:\n"
        "        if time.monotonic() > end: raise\n"
        "        time.sleep(1)\n"
    )
    assert "xcache" in run_code(ann, status)


def test_a_disabled_user_is_refused_everywhere_within_a_minute(
    leaver: User, facility: Cluster
) -> None:
    held = run_code(leaver, "import coffea_shoppe as s; print(s.token('s3'))").strip()
    service = verifier(facility, "s3")
    assert service.verify(held)
    resource = resource_name(leaver.name)

    def disable(value: bool) -> None:
        patch = json.dumps({"spec": {"disabled": value}})
        facility.kubectl(
            *("-n", "shoppe", "patch", FACILITY_USERS, resource), "--type=merge", "-p", patch
        )

    disable(True)

    def refused() -> bool:
        service.refresh()
        try:
            service.verify(held)
        except RefusedError as error:
            return "revoked" in str(error)
        return False

    eventually(refused, "the token is refused", timeout=REVOKED_S, every=1)

    def stopped() -> bool:
        label = f"{USER_LABEL}={resource}"
        return not facility.get("pods", "-n", "shoppe", "-l", label)["items"]

    eventually(stopped, "the user's pods are gone", timeout=REVOKED_S, every=2)
    # Nothing new starts, and the user is told why.
    leaver.stop()
    with pytest.raises(ShoppeError, match="is disabled in this facility"):
        leaver.spawn(timeout=60)
    disable(False)
    leaver.spawn()
    again = run_code(leaver, "import coffea_shoppe as s; print(s.token('s3'))").strip()
    assert service.refresh()
    assert service.verify(again).user == leaver.name
    with pytest.raises(RefusedError, match="revoked"):
        service.verify(held)


def test_a_user_whom_the_hub_deletes_is_void_and_comes_back_as_another_one(
    leaver: User, facility: Cluster
) -> None:
    held = run_code(leaver, "import coffea_shoppe as s; print(s.token('s3'))").strip()
    resource = resource_name(leaver.name)
    service = verifier(facility, "s3")
    assert service.verify(held)
    boss = administrator(facility)

    def deleted() -> bool:
        """Return whether the hub has deleted the user; 400 asks to wait for the server's end."""
        response = boss.hub("DELETE", f"/users/{quote(leaver.name)}")
        assert response.status_code in (204, 400), response.text
        return response.status_code == 204

    eventually(deleted, "the hub has stopped the user's server and deletes the user")

    def void() -> bool:
        gone = not facility.get(FACILITY_USERS, "-n", "shoppe", "--ignore-not-found", resource)
        service.refresh()
        try:
            service.verify(held)
        except RefusedError as error:
            return gone and "revoked" in str(error)
        return False

    eventually(void, "the user is gone and the token refused", timeout=REVOKED_S, every=1)
    again = new_user(facility, leaver.name)
    fresh = run_code(again, "import coffea_shoppe as s; print(s.token('s3'))").strip()
    assert service.refresh()
    assert service.verify(fresh).user == leaver.name
    with pytest.raises(RefusedError, match="revoked"):
        service.verify(held)
    leaver.session = again.session
