"""The release's NetworkPolicies allow what docs/reference/connections.md lists, no more."""

from typing import Any

import pytest
import yaml
from lib.policies import STRANGERS, Pod, allowed, documented, selected
from rendering import NAMESPACE, RELEASE, pod_specs, template

DASK = f"{NAMESPACE}-dask"


def pods(manifests: list[Any]) -> dict[str, Pod]:
    """Return the release's pods, those of users and Dask clusters, and two strangers."""
    found = {}
    for manifest in manifests:
        if manifest["kind"] in ("Deployment", "StatefulSet"):
            pod = manifest["spec"]["template"]
            ports = {
                port["name"]: port["containerPort"]
                for container in pod["spec"]["containers"]
                for port in container.get("ports", ())
            }
            labels = pod["metadata"]["labels"]
            namespace = manifest["metadata"].get("namespace", NAMESPACE)
            name = labels["app.kubernetes.io/component"]
            found[name] = Pod(name, namespace, labels, ports)
    maps = {m["metadata"]["name"]: m["data"] for m in manifests if m["kind"] == "ConfigMap"}
    hub = yaml.safe_load(maps[f"{RELEASE}-hub"]["settings.yaml"])
    user = {**hub["userLabels"], "app.kubernetes.io/component": "singleuser-server"}
    found["user"] = Pod("user", NAMESPACE, user, {"notebook-port": 8888})
    dask = yaml.safe_load(maps[f"{RELEASE}-dask-gateway"]["settings.yaml"])
    for kind, ports in (
        ("dask-scheduler", {"scheduler": 8786, "dashboard": 8787, "api": 8788}),
        ("dask-worker", {"worker": 8786}),
    ):
        labels = {**dask["labels"], "gateway.dask.org/instance": dask["instance"]}
        labels["app.kubernetes.io/component"] = kind
        found[kind] = Pod(kind, DASK, labels, ports)
    found["neighbour"] = Pod("neighbour", NAMESPACE, {"app": "other"}, {"http": 80})
    found["stranger"] = Pod("stranger", "elsewhere", {"app": "other"}, {"http": 80})
    return found


@pytest.fixture(scope="module")
def manifests() -> list[Any]:
    return template("coffea-shoppe")


@pytest.fixture(scope="module")
def policies(manifests: list[Any]) -> list[Any]:
    found = [m for m in manifests if m["kind"] == "NetworkPolicy"]
    for policy in found:
        policy["metadata"].setdefault("namespace", NAMESPACE)
    return found


def test_the_policies_allow_what_the_table_lists_and_no_more(
    manifests: list[Any], policies: list[Any]
) -> None:
    everybody = pods(manifests)
    assert len(list(pod_specs(manifests))) + 5 == len(everybody)
    actual = {
        (source.name, target.name, port)
        for source in everybody.values()
        for target in everybody.values()
        for port in set(target.ports.values())
        if target.name not in STRANGERS and allowed(policies, source, target, port)
    }
    wanted = documented(everybody, NAMESPACE)
    assert sorted(actual - wanted) == [], "allowed, and not in the table"
    assert sorted(wanted - actual) == [], "in the table, and not allowed"


def test_users_reach_data_anywhere_but_no_cloud_metadata(
    manifests: list[Any], policies: list[Any]
) -> None:
    user = pods(manifests)["user"]
    for address, reached in (("188.184.1.1", True), ("169.254.169.254", False)):
        outside = Pod("outside", "outside", {}, {"http": 80}, address)
        assert allowed(policies, user, outside, 80) is reached


def policy(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": "a"}, "spec": {"podSelector": {}, **spec}}


A, B = Pod("a", "a", {"app": "a"}, {"http": 80}), Pod("b", "b", {"app": "b"}, {"http": 80})


@pytest.mark.parametrize(
    ("rules", "passes"),
    [
        ([], True),
        ([policy(policyTypes=["Ingress"], ingress=[])], False),
        ([policy(policyTypes=["Ingress"], ingress=[{}])], True),
        ([policy(policyTypes=["Egress"], egress=[])], True),  # of the target alone
        ([policy(policyTypes=["Ingress"], ingress=[{"from": [{"podSelector": {}}]}])], False),
        (
            [policy(policyTypes=["Ingress"], ingress=[{"from": [{"namespaceSelector": {}}]}])],
            True,
        ),
        ([policy(policyTypes=["Ingress"], ingress=[{"ports": [{"port": "http"}]}])], True),
        ([policy(policyTypes=["Ingress"], ingress=[{"ports": [{"port": 81}]}])], False),
        # Policies add up: one that allows is enough.
        (
            [
                policy(policyTypes=["Ingress"], ingress=[]),
                policy(policyTypes=["Ingress"], ingress=[{"ports": [{"port": 80}]}]),
            ],
            True,
        ),
    ],
)
def test_the_evaluator_follows_the_api(rules: list[Any], passes: bool) -> None:
    assert allowed(rules, B, A, 80) is passes


def test_the_evaluator_stops_at_what_it_does_not_know() -> None:
    with pytest.raises(NotImplementedError):
        selected({"matchExpressions": []}, {})
