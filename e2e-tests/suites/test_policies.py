"""NetworkPolicies, enforced: pods reach what the documentation lists, and nothing else.

On a node whose network enforces none, an agent of the tests does (`lib.enforcement`); where
kind's own network is used, it does so itself.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
from coffea_shoppe_contract.names import resource_name, secret_name
from coffea_shoppe_contract.resources import DASK_SCHEDULER, DASK_WORKER, USER_LABEL
from lib.enforcement import enforced, pods, reached
from lib.fixtures import dask_cluster, passing_user
from lib.policies import STRANGERS, Pod, documented
from shoppe_ci.cluster import Cluster
from shoppe_ci.engine import Engine
from shoppe_ci.facility import User
from shoppe_ci.wait import eventually

RELEASE, NAMESPACE = "shoppe", "shoppe"
COMPONENT = "app.kubernetes.io/component"
OTHERS = "another user's dask-scheduler"
WORKER_PORT = 8786
"""What a worker's pod declares, and the documentation lists; it listens at one of its choice."""


@pytest.fixture(scope="module")
def nell(facility: Cluster) -> Iterator[User]:
    yield from passing_user(facility, "nell.networks")


@pytest.fixture(scope="module")
def worker_port(nell: User) -> Iterator[int]:
    """A Dask cluster of the user's, with a worker, which listens at this port."""
    with dask_cluster(nell, workers=1) as (_, (address,)):
        yield int(address.rpartition(":")[2])


@pytest.fixture(scope="module")
def strangers(facility: Cluster) -> Iterator[None]:
    """A pod of somebody else's in the release's namespace, and one in another."""
    restricted = {
        "runAsNonRoot": True,
        "runAsUser": 1000,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    image = facility.get("pods", "-n", NAMESPACE, "-l", f"{COMPONENT}=hub")["items"][0]
    container = {
        "name": "idle",
        "image": image["spec"]["containers"][0]["image"],
        "command": ["sleep", "infinity"],
        "securityContext": restricted,
    }
    elsewhere = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "elsewhere"}}
    made: list[dict[str, Any]] = [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
        }
        for name, namespace in zip(STRANGERS, (NAMESPACE, "elsewhere"), strict=True)
    ]
    facility.apply(elsewhere, *made)
    for one in made:
        where = one["metadata"]
        facility.kubectl(
            *("-n", where["namespace"], "wait", "--for=condition=Ready", "--timeout=60s"),
            f"pod/{where['name']}",
        )
    yield
    facility.kubectl("delete", "namespace", "elsewhere", "--timeout=60s")
    facility.kubectl("-n", NAMESPACE, "delete", "pod", STRANGERS[0])


@pytest.fixture(scope="module")
def otto(facility: Cluster) -> Iterator[Pod]:
    """The scheduler of another user's cluster."""
    for user in passing_user(facility, "otto.networks"):
        own = (COMPONENT, DASK_SCHEDULER), (USER_LABEL, own_name(user))
        with dask_cluster(user, workers=0):
            yield next(p for p in pods(facility) if all(p.labels.get(k) == v for k, v in own))


def own_name(user: User) -> str:
    return resource_name(user.name)


def release(facility: Cluster, user: User) -> dict[str, Pod]:
    """Return the release's pods by component, the user's own, and the strangers."""
    found: dict[str, Pod] = {}
    for pod in pods(facility):
        component = pod.labels.get(COMPONENT, "")
        whose = pod.labels.get(USER_LABEL)
        if pod.name in STRANGERS:
            found[pod.name] = pod
        elif pod.labels.get("app.kubernetes.io/instance") == RELEASE and whose in (
            None,
            own_name(user),
        ):
            name = {"singleuser-server": "user"}.get(component, component)
            found[name] = pod
    return found


@pytest.mark.alone
@pytest.mark.usefixtures("strangers")
def test_pods_reach_what_is_documented_and_nothing_else(
    facility: Cluster,
    engine: Engine,
    nell: User,
    worker_port: int,
    otto: Pod,
    figure: Callable[[str], None],
) -> None:
    everybody = release(facility, nell)
    worker = everybody["dask-worker"]
    everybody["dask-worker"] = replace(worker, ports={"worker": worker_port})
    assert {"hub", "user", "dask-worker", "postgresql", *STRANGERS} <= set(everybody)
    targets = {
        (name, port)
        for name, pod in (everybody | {OTHERS: otto}).items()
        for port in set(pod.ports.values())
        if name not in STRANGERS
    }
    actual_port = {("dask-worker", WORKER_PORT): worker_port}
    wanted = {
        (source, target, actual_port.get((target, port), port))
        for source, target, port in documented(everybody, NAMESPACE)
        if source in everybody and source != target  # what stays in a pod meets no policy
    }
    # The scheduler of somebody else reaches, and is reached, as this user's, but for those.
    between = (DASK_SCHEDULER, DASK_WORKER)
    for source, target, port in list(wanted):
        if source in between and target in between:
            continue
        if DASK_SCHEDULER in (source, target):
            first, second = (
                OTHERS if name == DASK_SCHEDULER else name for name in (source, target)
            )
            wanted.add((first, second, port))
    everybody[OTHERS] = otto
    assert {(target, port) for _, target, port in wanted} <= targets
    ours = facility.source == "source"
    figure(f"policies are enforced by {'the tests' if ours else 'the network'}")
    if ours:
        # Without the agent the way is free: what is refused below is so by the policies.
        free = reached(engine, facility, everybody, targets)
        assert ("stranger", "postgresql", 5432) in free
        assert wanted <= free, "documented, and nobody listens"
    with enforced(engine, facility) if ours else nullcontext():
        actual = reached(engine, facility, everybody, targets)
    actual = {(source, target, port) for source, target, port in actual if source != target}
    assert sorted(actual - wanted) == [], "reached, and not documented"
    assert sorted(wanted - actual) == [], "documented, and not reached"


@pytest.mark.alone
def test_a_user_s_policy_that_was_opened_by_hand_is_closed_again(
    facility: Cluster, nell: User
) -> None:
    where = ("networkpolicy", "-n", f"{NAMESPACE}-dask", secret_name(nell.name))

    def rules() -> list[dict[str, object]]:
        found: list[dict[str, object]] = facility.get(*where)["spec"]["ingress"]
        return found

    before = rules()
    everything: list[dict[str, object]] = [{}]
    assert before != everything
    kind, *rest = where
    facility.kubectl(
        "patch", kind, *rest, "--type=merge", "-p", json.dumps({"spec": {"ingress": everything}})
    )
    eventually(lambda: rules() == before, "the policy is as it was", timeout=60, every=1)
