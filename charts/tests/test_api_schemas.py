"""What the API of Kubernetes refuses in an object fails every test that renders it."""

from pathlib import Path

import pytest
import yaml
from lib.api_schemas import VERSIONS, refusals
from rendering import CHARTS, Manifest, check, template, templates
from shoppe_ci.paths import ROOT

EXAMPLES = {
    "Deployment": """
        apiVersion: apps/v1
        kind: Deployment
        metadata: {name: a}
        spec:
          selector: {matchLabels: {app: a}}
          template:
            metadata: {labels: {app: a}}
            spec:
              containers:
                - {name: a, image: a, ports: [{name: http, containerPort: 80}]}
        """,
    "FacilityUser": """
        apiVersion: coffea-shoppe.dev/v1alpha1
        kind: FacilityUser
        metadata: {name: ann}
        spec: {username: ann, groups: [cms], data: keep}
        """,
    "DaskCluster": """
        apiVersion: gateway.dask.org/v1alpha1
        kind: DaskCluster
        metadata: {name: a}
        spec: {anything: {goes: here}}
        """,
}


def example(kind: str, before: str = "", after: str = "") -> Manifest:
    """Return an object of a kind, one part of whose text is changed."""
    text = EXAMPLES[kind]
    assert not before or text.count(before) == 1
    manifest: Manifest = yaml.safe_load(text.replace(before, after) if before else text)
    return manifest


@pytest.fixture(scope="module")
def crds() -> list[Manifest]:
    """What defines the facility's own kinds, and those of Dask."""
    manifests = template("coffea-shoppe")
    return [m for m in manifests if m["kind"] == "CustomResourceDefinition"]


@pytest.mark.parametrize("kind", EXAMPLES)
def test_what_is_right_is_accepted(crds: list[Manifest], kind: str) -> None:
    assert refusals(example(kind), crds) == []


@pytest.mark.parametrize(
    ("kind", "before", "after", "refusal"),
    [
        ("Deployment", "containerPort", "containerport", "('containerport' was unexpected)"),
        ("Deployment", "selector", "selectors", "'selector' is a required property"),
        ("Deployment", "{matchLabels: {app: a}}", "null", "'selector' is a required property"),
        ("Deployment", "80", "'80'", "containers[0].ports[0].containerPort: '80' is not of type"),
        ("Deployment", "image: a", "image: [a]", "containers[0].image: ['a'] is not of type"),
        ("Deployment", "{labels: {app: a}}", "{labels: {app: 1}}", "template.metadata.labels.app"),
        ("Deployment", "Deployment", "Deploiment", "no kind Deploiment in apps/v1"),
        ("Deployment", "apps/v1", "apps/v2", "no kind Deployment in apps/v2"),
        ("Deployment", "apps/v1", "apps.example/v1", "no kind Deployment in apps.example/v1"),
        ("FacilityUser", "groups", "group", "('group' was unexpected)"),
        ("FacilityUser", "[cms]", "cms", "$.spec.groups: 'cms' is not of type 'array'"),
        ("FacilityUser", "keep", "keeep", "$.spec.data: 'keeep' is not one of"),
        ("FacilityUser", "username: ann, ", "", "'username' is a required property"),
        ("FacilityUser", "{name: ann}", "{nam: ann}", "$.metadata: Additional properties"),
        (
            "FacilityUser",
            "v1alpha1",
            "v1alpha2",
            "no kind FacilityUser in coffea-shoppe.dev/v1alpha2",
        ),
        ("DaskCluster", "spec: {", "spek: {", "('spek' was unexpected)"),
    ],
)
def test_what_is_wrong_is_refused_by_its_field(
    crds: list[Manifest], kind: str, before: str, after: str, refusal: str
) -> None:
    refused = refusals(example(kind, before, after), crds)
    assert len([line for line in refused if refusal in line]) == len(VERSIONS), refused


def test_a_kind_that_the_release_does_not_define_is_refused() -> None:
    line, _ = refusals(example("FacilityUser"))
    assert "no kind FacilityUser in coffea-shoppe.dev/v1alpha1" in line


def test_each_version_has_its_own_kinds() -> None:
    policy = {"kind": "ValidatingAdmissionPolicy", "metadata": {"name": "a"}}
    (line,) = refusals({"apiVersion": "admissionregistration.k8s.io/v1", **policy})
    assert f"(Kubernetes {VERSIONS[0]})" in line


def test_what_a_component_makes_later_is_checked_too() -> None:
    manifests = template("coffea-shoppe")
    assert [made["kind"] for made in templates(manifests)] == ["Pod"]
    for manifest in manifests:
        text = manifest.get("data", {}).get("transformer.yaml", "")
        if manifest["kind"] == "ConfigMap" and text:
            manifest["data"]["transformer.yaml"] = text.replace("volumeMounts", "mounts")
    with pytest.raises(AssertionError, match="'mounts' was unexpected"):
        check(manifests)


@pytest.mark.parametrize("field", ["containerPort", "containerport"])
def test_a_test_that_renders_a_wrong_object_fails(tmp_path: Path, field: str) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "Chart.yaml").write_text("apiVersion: v2\nname: a\nversion: 0.1.0\n")
    manifest = example("Deployment", "containerPort", field)
    (tmp_path / "templates" / "deployment.yaml").write_text(yaml.safe_dump(manifest))
    if field == "containerPort":
        assert template(str(tmp_path)) == [manifest]
    else:
        with pytest.raises(AssertionError, match="'containerport' was unexpected"):
            template(str(tmp_path))


@pytest.mark.parametrize(
    "file",
    [*CHARTS.glob("*/ci/*.yaml"), *(ROOT / "e2e-tests" / "values").glob("*.yaml")],
    ids=lambda file: f"{file.parts[-3]}/{file.name}",
)
def test_values_of_tests_render(file: Path) -> None:
    chart = file.parts[-3] if file.is_relative_to(CHARTS) else "coffea-shoppe"
    assert template(chart, yaml.safe_load(file.read_text()))
