"""The release's NetworkPolicies allow what docs/reference/connections.md lists, no more."""

from typing import Any

import pytest
import yaml
from coffea_shoppe_contract.names import resource_name, secret_name
from coffea_shoppe_contract.resources import DASK_SCHEDULER, DASK_WORKER, USER_LABEL
from coffea_shoppe_operator.adapters.dask import dask_policy
from coffea_shoppe_operator.models import Settings
from lib.policies import STRANGERS, Pod, allowed, documented, policies_for, selected
from rendering import ALONE, NAMESPACE, RELEASE, settings_of, template

DASK = f"{NAMESPACE}-dask"
SERVERS = ("Deployment", "StatefulSet")
"""Jobs end by themselves, and nothing connects to them."""


def maps(manifests: list[Any]) -> dict[str, dict[str, str]]:
    """Return the ConfigMaps by their names."""
    return {m["metadata"]["name"]: m["data"] for m in manifests if m["kind"] == "ConfigMap"}


def dask_pods(manifests: list[Any], user: str) -> dict[str, Pod]:
    """Return the pods of a user's Dask cluster."""
    dask = settings_of(manifests, "gateway")
    found = {}
    for kind, ports in (
        (DASK_SCHEDULER, {"scheduler": 8786, "dashboard": 8787, "api": 8788}),
        (DASK_WORKER, {"worker": 8786}),
    ):
        labels = {**dask["labels"], "gateway.dask.org/instance": dask["instance"]}
        labels["app.kubernetes.io/component"] = kind
        labels[USER_LABEL] = resource_name(user)
        found[kind] = Pod(kind, DASK, labels, ports)
    return found


def of_user(manifests: list[Any], user: str) -> Any:
    """Return the policy that the operator creates for a user."""
    settings = Settings.model_validate(
        yaml.safe_load(maps(manifests)[f"{RELEASE}-operator"]["operator.yaml"])
    )
    assert settings.dask and settings.dask.pods
    name, resource = secret_name(user), resource_name(user)
    return dask_policy(name, resource, settings.dask.pods, settings.labels)


def pods(manifests: list[Any]) -> dict[str, Pod]:
    """Return the release's pods, those of users and Dask clusters, and two strangers."""
    found = {}
    for manifest in manifests:
        if manifest["kind"] in SERVERS:
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
    hub = settings_of(manifests, "hub")
    user = {**hub["userLabels"], "app.kubernetes.io/component": "singleuser-server"}
    found["user"] = Pod("user", NAMESPACE, user, {"notebook-port": 8888})
    found |= dask_pods(manifests, "ann")
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
    return [*found, of_user(manifests, "ann"), of_user(manifests, "bob")]


def test_the_policies_allow_what_the_table_lists_and_no_more(
    manifests: list[Any], policies: list[Any]
) -> None:
    everybody = pods(manifests)
    servers = [manifest for manifest in manifests if manifest["kind"] in SERVERS]
    assert len(servers) + 5 == len(everybody)
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


def test_dask_pods_reach_those_of_their_own_user_alone(
    manifests: list[Any], policies: list[Any]
) -> None:
    anns, bobs = (dask_pods(manifests, user) for user in ("ann", "bob"))
    for source in DASK_SCHEDULER, DASK_WORKER:
        for target in DASK_SCHEDULER, DASK_WORKER:
            for port in anns[target].ports.values():
                assert allowed(policies, anns[source], anns[target], port)
                assert not allowed(policies, anns[source], bobs[target], port)
    # The user's function in a transformer is the same user's, and no part of a cluster.
    own = {**anns[DASK_WORKER].labels, "app.kubernetes.io/name": "servicex"}
    transformer = Pod("transformer", DASK, own)
    assert not allowed(policies, transformer, anns[DASK_SCHEDULER], 8786)


def test_without_an_operator_dask_pods_reach_one_another() -> None:
    alone = template("dask-gateway", ALONE["dask-gateway"])
    rules = [m for m in alone if m["kind"] == "NetworkPolicy"]
    for rule in rules:
        rule["metadata"].setdefault("namespace", NAMESPACE)
    own = dask_pods(alone, "ann")
    worker, scheduler = own[DASK_WORKER], own[DASK_SCHEDULER]
    assert allowed(rules, worker, scheduler, 8786)
    assert not allowed(rules, Pod("stranger", "elsewhere"), scheduler, 8786)


def dedicated_transformer(manifests: list[Any]) -> Pod:
    """Return a pod that runs a user's function."""
    settings = maps(manifests)[f"{RELEASE}-servicex"]
    pod = yaml.safe_load(settings["transformer.yaml"])
    labels = {**pod["metadata"]["labels"], USER_LABEL: resource_name("ann")}
    namespace = yaml.safe_load(settings["servicex.yaml"])["dedicatedPods"]["namespace"]
    return Pod("dedicated transformer", namespace, labels)


OPENING_USERS_ADDRESSES = (
    *("user", DASK_SCHEDULER, DASK_WORKER, "transformer", "dedicated transformer", "servicex"),
)
METADATA = (
    *("169.254.169.254", "169.254.170.2", "169.254.170.23", "168.63.129.16", "100.100.100.200"),
    *("192.0.0.192", "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254"),
)
DATA = ("188.184.1.1", "2001:1458:201:e000::1", "169.254.20.10", "10.96.0.10")
"""CERN; a node's cache of names; Services within the cluster."""


@pytest.mark.parametrize("name", OPENING_USERS_ADDRESSES)
def test_users_code_reaches_data_anywhere_but_no_cloud_s_metadata(
    manifests: list[Any], policies: list[Any], name: str
) -> None:
    everybody = {**pods(manifests), "dedicated transformer": dedicated_transformer(manifests)}
    reachable = {
        address
        for address in (*METADATA, *DATA)
        if allowed(policies, everybody[name], Pod("outside", "", {}, {}, address), 80)
    }
    assert reachable == set(DATA)


def test_egress_of_users_code_has_one_shape(policies: list[Any]) -> None:
    shapes = [p["spec"]["egress"] for p in policies if "Egress" in p["spec"]["policyTypes"]]
    # Notebooks, Dask pods, transformers in two namespaces, ServiceX' API and its controller.
    assert len(shapes) == 6
    assert all(shape == shapes[0] for shape in shapes)


def test_each_server_has_a_policy(manifests: list[Any], policies: list[Any]) -> None:
    everybody = pods(manifests)
    open_to_all = [
        name
        for name, pod in everybody.items()
        if name not in STRANGERS and not policies_for(policies, "Ingress", pod)
    ]
    assert open_to_all == []


@pytest.mark.parametrize(
    ("server", "metrics", "other_port"), [("triton", (8002, 9090), 8000), ("mlflow", (9090,), 5000)]
)
def test_the_monitoring_alone_reads_metrics_of_users_work(
    manifests: list[Any],
    policies: list[Any],
    server: str,
    metrics: tuple[int, ...],
    other_port: int,
) -> None:
    everybody = pods(manifests)
    prometheus = Pod("prometheus", "monitoring", {"app.kubernetes.io/name": "prometheus"})
    for port in metrics:
        assert allowed(policies, prometheus, everybody[server], port)
        for other in ("user", "dask-worker", *STRANGERS):
            assert not allowed(policies, everybody[other], everybody[server], port)
    assert not allowed(policies, prometheus, everybody[server], other_port)
    assert allowed(policies, everybody["user"], everybody[server], other_port)


@pytest.mark.parametrize(("server", "other_port"), [("gateway", 8000), ("objectstore", 7070)])
def test_the_monitoring_alone_reads_counters(
    manifests: list[Any], policies: list[Any], server: str, other_port: int
) -> None:
    everybody = pods(manifests)
    prometheus = Pod("prometheus", "monitoring", {"app.kubernetes.io/name": "prometheus"})
    assert allowed(policies, prometheus, everybody[server], 9090)
    assert not allowed(policies, prometheus, everybody[server], other_port)
    readers = [
        name for name, pod in everybody.items() if allowed(policies, pod, everybody[server], 9090)
    ]
    assert readers == []


def test_pods_of_other_releases_fetch_keys_where_the_values_name_them(
    manifests: list[Any], policies: list[Any]
) -> None:
    elsewhere = {"matchLabels": {"kubernetes.io/metadata.name": "elsewhere"}}
    verifiers = [{"namespaceSelector": elsewhere}]
    values = {"operator": {"networkPolicy": {"verifiers": verifiers}}}
    open_to = [m for m in template("coffea-shoppe", values) if m["kind"] == "NetworkPolicy"]
    for rendered in open_to:
        rendered["metadata"].setdefault("namespace", NAMESPACE)
    everybody = pods(manifests)

    def reached(rules: list[Any], source: str) -> set[str]:
        return {
            target.name
            for target in everybody.values()
            for port in target.ports.values()
            if target.name not in STRANGERS and allowed(rules, everybody[source], target, port)
        }

    assert reached(open_to, "stranger") - reached(policies, "stranger") == {"api"}
    assert reached(open_to, "neighbour") == reached(policies, "neighbour")


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
