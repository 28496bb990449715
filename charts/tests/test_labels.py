from typing import Any

from rendering import RELEASE, pod_specs

ALWAYS = {
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/component",
    "app.kubernetes.io/part-of",
    "app.kubernetes.io/managed-by",
}


def test_every_object_is_labelled(manifests: list[Any]) -> None:
    for manifest in manifests:
        labels = manifest["metadata"]["labels"]
        assert set(labels) >= ALWAYS, manifest["metadata"]["name"]
        assert labels["app.kubernetes.io/instance"] == RELEASE
        assert labels["app.kubernetes.io/part-of"] == "coffea-shoppe"


def test_pods_carry_no_chart_version(manifests: list[Any]) -> None:
    for name, pod, _ in pod_specs(manifests):
        assert "helm.sh/chart" not in pod["metadata"]["labels"], name


def test_selectors_match_their_pods_and_stay_the_same(manifests: list[Any]) -> None:
    for manifest in manifests:
        if manifest["kind"] in ("Deployment", "StatefulSet"):
            selector = manifest["spec"]["selector"]["matchLabels"]
            labels = manifest["spec"]["template"]["metadata"]["labels"]
            assert selector.items() <= labels.items()
            assert set(selector) == {
                f"app.kubernetes.io/{k}" for k in ("name", "instance", "component")
            }


def test_every_service_finds_pods(manifests: list[Any]) -> None:
    pods = [pod["metadata"]["labels"] for _, pod, _ in pod_specs(manifests)]
    for manifest in manifests:
        if manifest["kind"] == "Service":
            selector = manifest["spec"]["selector"]
            assert any(selector.items() <= labels.items() for labels in pods), manifest["metadata"]


def test_names_are_unique(manifests: list[Any]) -> None:
    names = [(m["kind"], m["metadata"].get("namespace"), m["metadata"]["name"]) for m in manifests]
    assert len(names) == len(set(names))
