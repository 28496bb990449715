"""Clusters with rules of their own: without a cluster's administrator, OpenShift, drains."""

from typing import Any

import pytest
from rendering import ALONE, HelmError, Manifest, merged, pod_specs, template

CLUSTER_WIDE = {"CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding", "Namespace"}
ROLES = {"Role", "RoleBinding"}
WITHOUT: Manifest = {
    "operator": {"crds": {"create": False}, "rbac": {"create": False}},
    "servicex": {"rbac": {"create": False}},
    "preflight": {"rbac": {"create": False, "clusterWide": False}},
}


def names(manifests: list[Manifest]) -> set[tuple[str, str]]:
    return {(m["kind"], m["metadata"]["name"]) for m in manifests}


def of_charts(manifests: list[Manifest], *charts: str) -> list[Manifest]:
    label = "app.kubernetes.io/name"
    return [m for m in manifests if m["metadata"]["labels"][label] in charts]


def test_what_an_administrator_of_the_cluster_applies_is_left_out_and_nothing_else() -> None:
    usual, without = template("coffea-shoppe"), template("coffea-shoppe", WITHOUT)
    ours = of_charts(without, "operator", "servicex", "mlflow", "triton", "objectstore", "xcache")
    assert not {m["kind"] for m in ours} & (CLUSTER_WIDE | ROLES)
    missing = [m for m in usual if (m["kind"], m["metadata"]["name"]) not in names(without)]
    wide = {"ClusterRole", "ClusterRoleBinding"}
    assert {m["kind"] for m in missing} == {"CustomResourceDefinition", *ROLES, *wide}
    assert {m["kind"] for m in missing if m not in of_charts(usual, "coffea-shoppe")} == {
        "CustomResourceDefinition",
        *ROLES,
    }
    assert missing == of_charts(missing, "operator", "servicex", "coffea-shoppe")


def test_a_namespace_has_no_cluster_wide_object_without_the_gateway() -> None:
    services = {"global": {"services": {"dask-gateway": {"enabled": False}}}}
    kinds = {m["kind"] for m in template("coffea-shoppe", merged(WITHOUT, services))}
    assert not kinds & CLUSTER_WIDE
    assert {m["kind"] for m in template("coffea-shoppe", services)} & CLUSTER_WIDE


def test_accounts_stay_for_roles_that_somebody_else_binds() -> None:
    usual, without = template("operator"), template("operator", WITHOUT["operator"])
    accounts = {pair for pair in names(usual) if pair[0] == "ServiceAccount"}
    assert accounts
    assert accounts <= names(without)


OPENSHIFT: Manifest = {
    "global": {"podSecurityContext": {"runAsUser": None, "runAsGroup": None, "fsGroup": None}}
}
ASSIGNED = {"runAsUser", "runAsGroup", "fsGroup"}


@pytest.mark.parametrize("chart", [*ALONE, "coffea-shoppe"])
def test_no_pod_asks_for_a_user_where_the_cluster_assigns_one(chart: str) -> None:
    values = merged(ALONE.get(chart, {}), OPENSHIFT)
    pods = list(pod_specs(template(chart, values)))
    for name, _, spec in pods:
        assert not ASSIGNED & spec["securityContext"].keys(), name
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        for container in spec["containers"]:
            assert not ASSIGNED & container["securityContext"].keys(), name
    for name, _, spec in pod_specs(template(chart, ALONE.get(chart))):
        assert spec["securityContext"]["runAsUser"] == 1000, name


def test_a_component_s_own_security_context_takes_precedence() -> None:
    own: Any = {"mlflow": {"podSecurityContext": {"runAsUser": 2000}}}
    users = {
        name: spec["securityContext"].get("runAsUser")
        for name, _, spec in pod_specs(template("coffea-shoppe", merged(OPENSHIFT, own)))
    }
    assert users["shoppe-mlflow"] == 2000
    assert users["shoppe-triton"] is None


@pytest.mark.parametrize(
    ("chart", "part"),
    [("triton", ""), ("servicex", "app"), ("operator", "api"), ("dask-gateway", "traefik")],
)
def test_a_drain_leaves_pods_that_a_budget_keeps(chart: str, part: str) -> None:
    keys: Manifest = {"pdb": {"enabled": True, "minAvailable": "50%"}}
    values = merged(ALONE[chart], {part: keys} if part else keys)
    manifests = template(chart, values)
    (budget,) = (m for m in manifests if m["kind"] == "PodDisruptionBudget")
    assert budget["spec"].pop("minAvailable") == "50%"
    (pod,) = (pod for name, pod, _ in pod_specs(manifests) if name == budget["metadata"]["name"])
    (deployment,) = (
        m
        for m in manifests
        if m["kind"] == "Deployment" and m["metadata"]["name"] == budget["metadata"]["name"]
    )
    assert deployment["metadata"].get("namespace") == budget["metadata"].get("namespace")
    selected = budget["spec"]["selector"]["matchLabels"]
    assert selected.items() <= pod["metadata"]["labels"].items()
    assert not [m for m in template(chart, ALONE[chart]) if m["kind"] == "PodDisruptionBudget"]


@pytest.mark.parametrize(
    ("budget", "named"),
    [
        ({"minAvailable": "half"}, "at '/pdb/minAvailable'"),
        ({"min": 1}, "additional properties 'min' not allowed"),
        ({}, "triton.pdb.enabled is true: set one of triton.pdb.minAvailable and"),
        ({"minAvailable": 1, "maxUnavailable": 1}, "triton.pdb.enabled is true: set one of"),
    ],
)
def test_a_budget_that_kubernetes_would_refuse_is_refused_by_its_key(
    budget: Manifest, named: str
) -> None:
    with pytest.raises(HelmError) as refused:
        template("triton", {**ALONE["triton"], "pdb": {"enabled": True, **budget}})
    assert named in str(refused.value)
