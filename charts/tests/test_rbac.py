from typing import Any

from rendering import NAMESPACE, pod_specs


def by_kind(manifests: list[Any], *kinds: str) -> list[Any]:
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


def test_cluster_wide_there_is_only_watching(manifests: list[Any]) -> None:
    for role in by_kind(manifests, "ClusterRole"):
        for rule in role["rules"]:
            assert set(rule["verbs"]) <= {"list", "watch"}, role["metadata"]["name"]
            assert "secrets" not in rule["resources"], role["metadata"]["name"]


def test_no_role_has_wildcard_verbs_or_groups(manifests: list[Any]) -> None:
    for role in by_kind(manifests, "Role", "ClusterRole"):
        for rule in role["rules"]:
            assert "*" not in rule["verbs"]
            assert "*" not in rule["apiGroups"]


def test_traefik_cannot_read_the_hubs_secrets(render: Any) -> None:
    manifests = render("coffea-shoppe")
    secrets = by_kind(manifests, "Secret")
    assert secrets
    for secret in secrets:
        assert secret["metadata"].get("namespace", NAMESPACE) == NAMESPACE
    bindings = by_kind(manifests, "RoleBinding", "ClusterRoleBinding")
    of_traefik = [
        binding
        for binding in bindings
        if any(s["name"] == "shoppe-dask-traefik" for s in binding["subjects"])
    ]
    assert [binding["kind"] for binding in of_traefik] == ["RoleBinding"]
    assert of_traefik[0]["metadata"]["namespace"] == f"{NAMESPACE}-dask"


def test_only_pods_that_ask_kubernetes_hold_a_token(manifests: list[Any]) -> None:
    bound = {
        subject["name"]
        for binding in by_kind(manifests, "RoleBinding", "ClusterRoleBinding")
        for subject in binding["subjects"]
    }
    for name, _, spec in pod_specs(manifests):
        if spec["automountServiceAccountToken"]:
            assert spec["serviceAccountName"] in bound, name
        else:
            assert "serviceAccountName" not in spec, name
