"""What a facility sets for all components, unless a component sets its own."""

from typing import Any

import pytest
import yaml
from rendering import ALONE, HelmError, Manifest, containers, pod_specs, template

GLOBAL: dict[str, Any] = {
    "imageRegistry": "registry.example.org:5000/mirror",
    "imagePullSecrets": [{"name": "login"}],
    "nodeSelector": {"pool": "services"},
    "tolerations": [{"key": "services", "operator": "Exists"}],
    "priorityClassName": "services",
    "storageClass": "ceph",
}
OWN: dict[str, Any] = {
    "image": {"name": "ghcr.io/others/mlflow", "pullSecrets": ["own", {"name": "second"}]},
    "nodeSelector": {"pool": "own"},
    "tolerations": [{"key": "own", "operator": "Exists"}],
    "priorityClassName": "own",
    "artifactRoot": {"s3": {"bucket": ""}},
    "persistence": {"storageClass": "own"},
}
CHARTS_OF_SERVICES = sorted(ALONE)


@pytest.fixture(scope="module")
def facility() -> list[Manifest]:
    """A facility that sets all, and an MLflow that sets its own."""
    values = {"global": GLOBAL, "mlflow": OWN}
    return [
        m
        for m in template("coffea-shoppe", values)
        if m["metadata"]["labels"]["app.kubernetes.io/name"] in CHARTS_OF_SERVICES
    ]


def test_all_components_have_what_the_facility_sets(facility: list[Manifest]) -> None:
    pods = 0
    for name, pod, spec in pod_specs(facility):
        if pod["metadata"]["labels"]["app.kubernetes.io/name"] == "mlflow":
            continue
        assert spec["nodeSelector"] == GLOBAL["nodeSelector"], name
        # The hub and its proxy also tolerate what z2jh's core pods do.
        assert spec["tolerations"][-1:] == GLOBAL["tolerations"], name
        assert spec["priorityClassName"] == "services", name
        assert spec["imagePullSecrets"] == GLOBAL["imagePullSecrets"], name
        pods += 1
    assert pods > len(CHARTS_OF_SERVICES)
    for name, container in containers(facility):
        if "mlflow" not in name:
            assert container["image"].startswith(f"{GLOBAL['imageRegistry']}/coffea-shoppe/"), name
    classes = {
        m["metadata"]["name"]: m["spec"]["storageClassName"]
        for m in facility
        if m["kind"] == "PersistentVolumeClaim"
    }
    assert classes.pop("shoppe-mlflow") == "own"
    assert classes
    assert set(classes.values()) == {"ceph"}


def test_what_a_component_sets_takes_precedence(facility: list[Manifest]) -> None:
    pods = [
        spec
        for _, pod, spec in pod_specs(facility)
        if pod["metadata"]["labels"]["app.kubernetes.io/name"] == "mlflow"
    ]
    assert len(pods) == 2
    for spec in pods:
        assert spec["nodeSelector"] == OWN["nodeSelector"]
        assert spec["tolerations"] == OWN["tolerations"]
        assert spec["priorityClassName"] == "own"
        assert spec["imagePullSecrets"] == [{"name": "own"}, {"name": "second"}]
        assert spec["containers"][0]["image"].startswith("ghcr.io/others/mlflow:")


def test_pods_that_are_made_later_have_it_too(facility: list[Manifest]) -> None:
    (text,) = (
        m["data"]["transformer.yaml"] for m in facility if "transformer.yaml" in m.get("data", {})
    )
    spec = yaml.safe_load(text)["spec"]
    assert spec["nodeSelector"] == GLOBAL["nodeSelector"]
    assert spec["containers"][0]["image"].startswith(GLOBAL["imageRegistry"])


@pytest.mark.parametrize("chart", ["coffea-shoppe", *CHARTS_OF_SERVICES])
def test_an_unknown_key_is_refused(chart: str) -> None:
    values = {**ALONE.get(chart, {}), "global": {"imageRegistri": "registry.example.org"}}
    with pytest.raises(HelmError) as refused:
        template(chart, values)
    text = str(refused.value)
    # All charts of a facility see `global`; one of them reports it.
    assert text.count("'imageRegistri' not allowed") == 1
    assert "value must be 'imageRegistry'" in text


@pytest.mark.parametrize("chart", CHARTS_OF_SERVICES)
def test_a_chart_alone_takes_the_same_keys(chart: str) -> None:
    values = {**ALONE[chart], "global": GLOBAL}
    specs = [spec for _, _, spec in pod_specs(template(chart, values))]
    assert [spec["priorityClassName"] for spec in specs] == ["services"] * len(specs)
