"""`helm test`: a pod that may read, and knows where everything is."""

import json
from typing import Any

import pytest
import yaml
from coffea_shoppe_preflight.objects import expected_definitions
from coffea_shoppe_preflight.settings import Settings
from lib.policies import Pod, allowed
from rendering import NAMESPACE, RELEASE, merged, template

HOOK = "helm.sh/hook"


def settings(values: dict[str, Any] | None = None) -> Settings:
    """Return what the preflight of a facility with these values reads."""
    (text,) = (
        manifest["data"]["preflight.yaml"]
        for manifest in template("coffea-shoppe", values)
        if "preflight.yaml" in manifest.get("data", {})
    )
    return Settings.model_validate(yaml.safe_load(text))


def repr_of(rule: dict[str, Any]) -> str:
    return json.dumps(rule, sort_keys=True)


def of_preflight(values: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    return [
        manifest
        for manifest in template("coffea-shoppe", values)
        if manifest["metadata"]["labels"].get("app.kubernetes.io/component") == "preflight"
    ]


def test_the_test_is_one_pod_whose_log_helm_shows() -> None:
    """Helm reads the log of a pod for each hook of a test, by the hook's name."""
    tests = [
        manifest
        for manifest in template("coffea-shoppe")
        if "test" in (manifest["metadata"].get("annotations") or {}).get(HOOK, "")
    ]
    (pod,) = tests
    assert (pod["kind"], pod["metadata"]["name"]) == ("Pod", f"{RELEASE}-preflight")
    annotations = pod["metadata"]["annotations"]
    # With hook-succeeded the log would be gone before Helm reads it.
    assert annotations["helm.sh/hook-delete-policy"] == "before-hook-creation"
    assert pod["spec"]["restartPolicy"] == "Never"
    assert pod["spec"]["activeDeadlineSeconds"] < 300


def test_it_only_reads() -> None:
    roles = [m for m in of_preflight() if m["kind"] in ("Role", "ClusterRole")]
    assert {role["metadata"].get("namespace") for role in roles} == {
        *(NAMESPACE, f"{NAMESPACE}-dask", "kube-node-lease", None),
    }
    for role in roles:
        for rule in role["rules"]:
            question = rule["resources"] == ["localsubjectaccessreviews"]
            assert rule["verbs"] == (["create"] if question else ["list"])
            assert "secrets" not in rule["resources"]


def test_it_can_be_switched_off_and_have_roles_of_an_administrator() -> None:
    assert of_preflight({"preflight": {"enabled": False}}) == []
    for rbac, kinds in (
        ({}, {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}),
        ({"clusterWide": False}, {"Role", "RoleBinding"}),
        ({"create": False}, set()),
    ):
        manifests = of_preflight({"preflight": {"rbac": rbac}})
        others = {"ConfigMap", "Pod", "ServiceAccount"}
        assert {manifest["kind"] for manifest in manifests} == kinds | others


def test_it_looks_at_every_component() -> None:
    facility = settings()
    assert facility.namespaces == [NAMESPACE, f"{NAMESPACE}-dask"]
    assert {*facility.components} == {*facility.addresses, "postgresql"}
    assert {*facility.databases} == {"mlflow", "servicex"}
    assert {*facility.buckets} == {"service-mlflow", "service-servicex", "service-triton"}
    assert {*facility.definitions} == {*expected_definitions()}
    assert facility.cluster_wide


def test_it_has_the_secrets_of_databases_and_buckets_and_no_other() -> None:
    (pod,) = (m for m in of_preflight() if m["kind"] == "Pod")
    sources = [
        source["secret"]
        for volume in pod["spec"]["volumes"]
        for source in volume.get("projected", {}).get("sources", ())
    ]
    assert {secret["name"] for secret in sources} == {
        *(f"{RELEASE}-postgresql-mlflow", f"{RELEASE}-postgresql-servicex"),
        *(f"{RELEASE}-mlflow-s3", f"{RELEASE}-servicex-s3", f"{RELEASE}-triton-s3"),
    }
    assert all(secret["optional"] for secret in sources)


def test_what_the_facility_lacks_is_not_looked_at() -> None:
    off = {name: {"enabled": False} for name in ("servicex", "triton", "mlflow")}
    external = {"enabled": False, "url": "https://mlflow.example.org", "token": "none"}
    values = {"global": {"services": {**off, "mlflow": external}}}
    facility = settings(values)
    assert not {*facility.components} & {*off}
    assert not {*facility.addresses} & {"servicex", "triton"}
    assert facility.addresses["mlflow"] == ["https://mlflow.example.org"]
    assert not facility.databases and not facility.buckets


LOGIN = {
    "GenericOAuthenticator": {
        "token_url": "https://iam.example.org/token",
        "userdata_url": "https://iam.example.org/userinfo",
        "oauth_callback_url": "https://facility.example.org/hub/oauth_callback",
    }
}


def test_it_knows_the_identity_provider_and_the_external_address() -> None:
    values = {"jupyterhub": {"hub": {"config": LOGIN}}}
    facility = settings(values)
    assert facility.identity_providers == [
        *("https://iam.example.org/token", "https://iam.example.org/userinfo"),
    ]
    assert facility.external_urls == ["https://facility.example.org"]
    assert settings(merged(values, {"preflight": {"externalUrl": False}})).external_urls == []
    assert settings().identity_providers == settings().external_urls == []


def test_it_knows_the_caches_origins_that_everybody_may_read() -> None:
    credentials = {"secret": "cms-proxy", "kind": "proxy", "certificates": "grid-cas"}
    cache = {
        "instances": [
            {"name": "xcache", "preset": "atlas"},
            {"name": "cms", "preset": "cms", "credentials": credentials},
            {"name": "xcache-own", "preset": "generic", "origin": "origin.example.org:1094"},
        ],
        "metrics": {"origins": ["other.example.org:1094"]},
    }
    assert settings({"xcache": cache}).origins == [
        *("origin.example.org:1094", "other.example.org:1094"),
    ]


def test_it_asks_for_the_rights_that_the_operators_roles_have() -> None:
    (account,) = settings().accounts
    roles = {
        (role["metadata"]["name"], role["metadata"].get("namespace", NAMESPACE)): role["rules"]
        for role in template("coffea-shoppe")
        if role["kind"] == "Role"
    }
    assert account.name == f"{RELEASE}-operator"
    for namespace, rules in account.rules.items():
        wish = roles[f"{RELEASE}-operator-users", namespace]
        wish = wish + roles.get((f"{RELEASE}-operator", namespace), [])
        assert sorted(rules, key=repr_of) == sorted(wish, key=repr_of)
    assert {*account.rules} == {NAMESPACE, f"{NAMESPACE}-dask"}


@pytest.mark.parametrize(("target", "port"), [("postgresql", 5432), ("objectstore", 7070)])
def test_policies_let_it_in(target: str, port: int) -> None:
    manifests = template("coffea-shoppe")
    policies = [m for m in manifests if m["kind"] == "NetworkPolicy"]
    for policy in policies:
        policy["metadata"].setdefault("namespace", NAMESPACE)
    (server,) = (
        m["spec"]["template"]
        for m in manifests
        if m["kind"] == "StatefulSet"
        and m["metadata"]["labels"]["app.kubernetes.io/component"] == target
    )
    ports = {
        each["name"]: each["containerPort"]
        for container in server["spec"]["containers"]
        for each in container.get("ports", ())
    }
    its = Pod(target, NAMESPACE, server["metadata"]["labels"], ports)
    (pod,) = (m for m in of_preflight() if m["kind"] == "Pod")
    preflight = Pod("preflight", NAMESPACE, pod["metadata"]["labels"])
    assert allowed(policies, preflight, its, port)
    assert not allowed(policies, preflight, its, 7080)
