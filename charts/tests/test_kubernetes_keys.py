"""Kubernetes' own keys: each takes effect in each component, and a misspelt one is refused."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from rendering import (
    ALONE,
    CHARTS,
    WITH_ALL_CONTAINERS,
    HelmError,
    Manifest,
    containers,
    merged,
    nested,
    pod_specs,
    template,
)
from shoppe_ci import descriptions, schema, shapes

PODS = [
    (chart, path)
    for chart in sorted(ALONE)
    for path, changes in schema.overrides_of(CHARTS / chart).items()
    if changes.get("shape") == "pod"
]
"""Chart, and the dotted path of the component's keys in its values."""

COMPONENTS: dict[tuple[str, str], str] = {
    ("servicex", "app"): "servicex",
    ("servicex", "controller"): "servicex-controller",
    ("servicex", "transformer"): "transformer",
    ("operator", "operator"): "operator",
    ("operator", "api"): "api",
    ("xcache", ""): ALONE["xcache"]["instances"][0]["name"],
    ("jupyterhub", "hub"): "hub",
    ("jupyterhub", "proxy.chp"): "proxy",
    ("jupyterhub", "proxy.traefik"): "autohttps",
    ("jupyterhub", "scheduling.userScheduler"): "user-scheduler",
    ("dask-gateway", "gateway"): "gateway",
    ("dask-gateway", "controller"): "controller",
    ("dask-gateway", "traefik"): "traefik",
}
"""The component's label, where it is not the chart's name."""


def markers(mark: str) -> dict[str, Any]:
    """Return values of all keys of a pod, whose leaves no other values have."""
    term = {"matchExpressions": [{"key": f"{mark}-affinity", "operator": "Exists"}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    spread = {"maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway"}
    return {
        "nodeSelector": {f"{mark}-node": f"{mark}-node-value"},
        "tolerations": [{"key": f"{mark}-taint", "operator": "Exists"}],
        "affinity": {"nodeAffinity": required},
        "topologySpreadConstraints": [{**spread, "topologyKey": f"{mark}-zone"}],
        "priorityClassName": f"{mark}-priority",
        "podAnnotations": {f"{mark}-annotation": f"{mark}-annotation-value"},
        "podLabels": {f"{mark}-label": f"{mark}-label-value"},
        "podSecurityContext": {"seLinuxOptions": {"user": f"{mark}-pod-user"}},
        "securityContext": {"seLinuxOptions": {"user": f"{mark}-user"}},
        "extraEnv": {
            f"{mark}-number": 1000000,
            f"{mark}-text": f"{mark}-text-value",
            f"{mark}-from": {"valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
        },
        "extraVolumes": [{"name": f"{mark}-volume", "configMap": {"name": f"{mark}-config"}}],
        "extraVolumeMounts": [{"name": f"{mark}-volume", "mountPath": f"/{mark}"}],
        "initContainers": [{"name": f"{mark}-first", "image": f"{mark}-first-image"}],
        "extraContainers": [{"name": f"{mark}-beside", "image": f"{mark}-beside-image"}],
        "serviceAccount": {
            "create": True,
            "name": f"{mark}-account",
            "annotations": {f"{mark}-role": f"{mark}-role-value"},
        },
    }


def leaves(node: Any) -> Iterator[str]:
    """Yield the texts of a tree, and the keys that are markers themselves."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key.startswith("mark"):
                yield key
            yield from leaves(value)
    elif isinstance(node, list):
        for value in node:
            yield from leaves(value)
    elif isinstance(node, str):
        yield node
    else:
        yield json.dumps(node)


def component(chart: str, path: str) -> str:
    return COMPONENTS.get((chart, path), chart)


def pods_of(manifests: list[Manifest], name: str) -> list[Manifest]:
    """Return the pod templates of a component."""
    label = "app.kubernetes.io/component"
    return [pod for _, pod, _ in pod_specs(manifests) if pod["metadata"]["labels"][label] == name]


@pytest.fixture(scope="module")
def marked() -> dict[str, list[Manifest]]:
    """The charts alone, with markers in all components."""
    values: dict[str, Manifest] = {}
    for number, (chart, path) in enumerate(PODS):
        values[chart] = merged(
            values.get(chart, WITH_ALL_CONTAINERS[chart]), nested(path, markers(f"mark{number}"))
        )
    return {chart: template(chart, entries) for chart, entries in values.items()}


def test_the_markers_cover_all_keys() -> None:
    assert set(markers("a")) == set(shapes.keys("pod"))
    assert {chart for chart, _ in PODS} >= set(ALONE)


@pytest.mark.parametrize("number", range(len(PODS)), ids=["/".join(entry) for entry in PODS])
def test_each_leaf_of_a_component_s_keys_is_in_its_pod(
    marked: dict[str, list[Manifest]], number: int
) -> None:
    chart, path = PODS[number]
    values = markers(f"mark{number}")
    account = values.pop("serviceAccount")
    (pod,) = pods_of(marked[chart], component(chart, path))
    present = set(leaves(pod))
    assert [leaf for leaf in leaves(values) if leaf not in present] == []
    assert pod["spec"]["serviceAccountName"] == account["name"]
    made = [m for m in marked[chart] if m["metadata"]["name"] == account["name"]]
    assert [m["kind"] for m in made] == ["ServiceAccount"]
    assert made[0]["metadata"]["annotations"] == account["annotations"]


def test_environment_mounts_and_contexts_are_in_each_container_of_the_chart(
    marked: dict[str, list[Manifest]],
) -> None:
    number = PODS.index(("triton", ""))
    own = 0
    for name, container in containers(marked["triton"]):
        context = container["securityContext"]
        if "/mark" in name:
            assert context["capabilities"] == {"drop": ["ALL"]}
            continue
        assert context["seLinuxOptions"] == {"user": f"mark{number}-user"}
        assert context["readOnlyRootFilesystem"] is True
        names = [variable["name"] for variable in container["env"]]
        assert {f"mark{number}-number", f"mark{number}-text", f"mark{number}-from"} <= set(names)
        assert f"/mark{number}" in [mount["mountPath"] for mount in container["volumeMounts"]]
        own += 1
    assert own == 2


@pytest.mark.parametrize(
    ("chart", "job", "path"),
    [("mlflow", "mlflow-gc", ""), ("operator", "uninstall", "operator")],
)
def test_a_component_s_job_runs_where_the_component_does_and_ends(
    marked: dict[str, list[Manifest]], chart: str, job: str, path: str
) -> None:
    mark = f"mark{PODS.index((chart, path))}"
    (pod,) = pods_of(marked[chart], job)
    assert pod["spec"]["nodeSelector"] == {f"{mark}-node": f"{mark}-node-value"}
    assert f"{mark}-beside" not in set(leaves(pod))


def test_pods_for_users_functions_have_the_transformer_s_keys(
    marked: dict[str, list[Manifest]],
) -> None:
    mark = f"mark{PODS.index(('servicex', 'transformer'))}"
    (text,) = (
        m["data"]["transformer.yaml"]
        for m in marked["servicex"]
        if "transformer.yaml" in m.get("data", {})
    )
    pod = yaml.safe_load(text)
    assert pod["spec"]["priorityClassName"] == f"{mark}-priority"
    assert pod["spec"]["serviceAccountName"] == f"{mark}-account"
    assert f"{mark}-beside" not in set(leaves(pod))


def test_an_own_account_is_the_one_that_has_the_rights(
    marked: dict[str, list[Manifest]],
) -> None:
    mark = f"mark{PODS.index(('operator', 'api'))}"
    bound = {
        subject["name"]
        for m in marked["operator"]
        if m["kind"] == "RoleBinding" and m["metadata"]["name"].startswith("shoppe-api")
        for subject in m["subjects"]
    }
    assert bound == {f"{mark}-account"}


def test_an_account_of_somebody_else_is_not_made() -> None:
    values = {"api": {"serviceAccount": {"create": False, "name": "theirs"}}}
    manifests = template("operator", values)
    accounts = [m["metadata"]["name"] for m in manifests if m["kind"] == "ServiceAccount"]
    assert accounts == ["shoppe-operator", "shoppe-uninstall"]
    (pod,) = pods_of(manifests, "api")
    assert pod["spec"]["serviceAccountName"] == "theirs"


def test_what_the_chart_has_under_a_name_gives_way_and_null_removes() -> None:
    values = {
        "podSecurityContext": {"runAsUser": None, "fsGroup": 2000},
        "securityContext": {"readOnlyRootFilesystem": False},
        "podAnnotations": {"prometheus.io/scrape": "false"},
        "extraEnv": [{"name": "XRD_STREAMTIMEOUT", "value": "120"}],
        "extraVolumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}],
        "extraVolumeMounts": [{"name": "tmp", "mountPath": "/etc/xcache", "subPath": "a"}],
        "initContainers": [
            {"name": "a", "image": "a", "securityContext": {"readOnlyRootFilesystem": False}}
        ],
    }
    (pod,) = pods_of(template("xcache", values), "xcache")
    spec = pod["spec"]
    assert "runAsUser" not in spec["securityContext"]
    assert spec["securityContext"]["fsGroup"] == 2000
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert pod["metadata"]["annotations"]["prometheus.io/scrape"] == "false"
    assert [v for v in spec["volumes"] if v["name"] == "tmp"] == values["extraVolumes"]
    cache = spec["containers"][0]
    environment = {variable["name"]: variable["value"] for variable in cache["env"]}
    assert environment["XRD_STREAMTIMEOUT"] == "120"
    assert environment["XRD_CONNECTIONRETRY"] == "2"
    mounts = [mount for mount in cache["volumeMounts"] if mount["mountPath"] == "/etc/xcache"]
    assert mounts == values["extraVolumeMounts"]
    for container in (cache, spec["initContainers"][0]):
        assert container["securityContext"]["readOnlyRootFilesystem"] is False
        assert container["securityContext"]["allowPrivilegeEscalation"] is False


@pytest.mark.parametrize("chart", sorted(ALONE))
def test_resources_of_each_container_take_any_name(chart: str) -> None:
    text = (CHARTS / chart / "values.yaml").read_text()
    paths = [
        path.removesuffix(".requests.cpu")
        for path, _, _ in descriptions.leaves(yaml.safe_load(text))
        if path.endswith("resources.requests.cpu")
    ]
    assert paths
    values = WITH_ALL_CONTAINERS[chart]
    for number, path in enumerate(paths):
        limits = {"cpu": "1", "ephemeral-storage": "2Gi", f"example.com/mark{number}": 1}
        values = merged(values, nested(path, {"limits": limits}))
    present = set()
    for _, container in containers(template(chart, values)):
        limits = container["resources"]["limits"]
        assert "memory" in limits
        present |= {name for name in limits if "mark" in name}
    # Of jobs during an upgrade, nothing is rendered here.
    assert present == {f"example.com/mark{number}" for number in range(len(paths))}


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"nodeSelecter": {}}, "'nodeSelecter' not allowed"),
        ({"nodeSelecter": {}}, "value must be 'nodeSelector'"),
        ({"resources": {"limit": {}}}, "value must be 'limits'"),
        ({"podLabels": {"app.kubernetes.io/name": "x"}}, "/podLabels/app.kubernetes.io~1name"),
        ({"tolerations": {"key": "x"}}, "/tolerations"),
        ({"extraEnv": {"A": {"value": "x"}}}, "/extraEnv/A"),
        ({"extraVolumes": [{"emptyDir": {}}]}, "missing property 'name'"),
        ({"initContainers": [{"name": "x"}]}, "missing property 'image'"),
        ({"resources": {"limit": {}}}, "'limit' not allowed"),
        ({"image": {"pullPolicy": "Sometimes"}}, "/image/pullPolicy"),
        ({"serviceAccount": {"nam": "x"}}, "'nam' not allowed"),
    ],
)
def test_what_is_no_such_key_is_refused_by_name(values: Manifest, named: str) -> None:
    with pytest.raises(HelmError) as refused:
        template("triton", {**ALONE["triton"], **values})
    assert named in str(refused.value)
