"""`doctor --cluster` names what a cluster lacks before anything is installed."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import http_server
import pytest
import yaml
from click.testing import CliRunner
from coffea_shoppe_operator import models
from coffea_shoppe_preflight import before_install
from coffea_shoppe_preflight.findings import Cause
from coffea_shoppe_preflight.objects import DEFAULT_CLASS
from coffea_shoppe_preflight.settings import Settings
from coffea_shoppe_preflight.snapshot import Snapshot
from http_server import Request, Response, serving
from shoppe_ci import cli, release

DEFAULT = {"storageclass.kubernetes.io/is-default-class": "true"}
GROUPS = {
    "v1": "ConfigMap Namespace PersistentVolumeClaim Pod Secret Service ServiceAccount",
    "apps/v1": "Deployment StatefulSet",
    "batch/v1": "CronJob Job",
    "networking.k8s.io/v1": "NetworkPolicy",
    "rbac.authorization.k8s.io/v1": "ClusterRole ClusterRoleBinding Role RoleBinding",
    "apiextensions.k8s.io/v1": "CustomResourceDefinition",
}
OF_CLUSTER = {"Namespace", "ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"}


class Cluster:
    """An API server with the lists by path, and what may not be created."""

    def __init__(self) -> None:
        self.version = "v1.36.3"
        self.forbidden: set[str] = set()
        ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
        self.lists: dict[str, list[Any]] = {
            "storageclasses": [{"metadata": {"name": "fast", "annotations": DEFAULT}}],
            "kube-system/pods": [ready],
        }

    def respond(self, request: Request) -> tuple[int, object]:
        path = request.path.partition("?")[0]
        if request.method == "POST":
            attributes = json.loads(request.body)["spec"]["resourceAttributes"]
            allowed = attributes["resource"] not in self.forbidden
            return 201, {"status": {"allowed": allowed}}
        if path == "/version":
            return 200, {"gitVersion": self.version}
        for version, kinds in GROUPS.items():
            if path in (f"/api/{version}", f"/apis/{version}"):
                resources = [
                    {"kind": kind, "name": kind.lower() + "s", "namespaced": kind not in OF_CLUSTER}
                    for kind in kinds.split()
                ]
                return 200, {"resources": resources}
        for ending, items in self.lists.items():
            if path.endswith(ending):
                return 200, {"items": items}
        return 200, {"items": []}

    @contextmanager
    def kubeconfig(self, folder: Path) -> Iterator[Path]:
        with serving(self.respond) as url:
            file = folder / "kubeconfig"
            file.write_text(yaml.safe_dump(http_server.kubeconfig(url, "x")))
            yield file


def doctor(cluster: Cluster, folder: Path, values: dict[str, Any] | None = None) -> tuple[int, str]:
    """Return exit status and output."""
    file = folder / "values.yaml"
    file.write_text(yaml.safe_dump(values or {}))
    with cluster.kubeconfig(folder) as kubeconfig:
        arguments = ["--cluster", str(file), "--kubeconfig", str(kubeconfig), "--no-registry"]
        outcome = CliRunner().invoke(cli.main, ["doctor", *arguments])
    assert outcome.exception is None or isinstance(outcome.exception, SystemExit), outcome.exception
    return outcome.exit_code, outcome.output


def test_a_cluster_that_has_everything(tmp_path: Path) -> None:
    status, output = doctor(Cluster(), tmp_path)
    assert status == 0, output
    assert {"✓ cluster works", "✓ dns works", "✓ operator works"} <= set(output.splitlines())


def test_all_that_is_lacking_is_named_at_once(tmp_path: Path) -> None:
    cluster = Cluster()
    cluster.version = "v1.27.4"
    cluster.forbidden = {"roles"}
    (old, *_) = models.definitions()
    old["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"].pop("status")
    quota = {"metadata": {"name": "small", "namespace": "shoppe"}, "status": {"hard": {"pods": 3}}}
    cluster.lists = {
        "customresourcedefinitions": [old],
        "resourcequotas": [quota],
        "leases": [{"metadata": {"name": "n1"}, "spec": {"renewTime": "2126-01-01T00:00:00Z"}}],
    }
    status, output = doctor(cluster, tmp_path, {"global": {"storageClass": "slow"}})
    assert status == 1
    for words in (
        "✗ cluster broken: Kubernetes is too old: v1.27.4",
        "✗ objectstore broken: storage class is missing: claim",
        "needs class 'slow'; the cluster has none",
        "✗ operator broken: definition of a resource is of an old release: facilityusers",
        "✗ cluster broken: namespace's quota is exceeded: shoppe/small leaves 3 of pods",
        "✗ cluster broken: right to install is missing: to create roles in shoppe",
        "✗ nodes broken: clock is wrong: that of node n1",
        "✗ dns broken: names are not resolved",
    ):
        assert words in output, output


def test_definitions_that_an_administrator_must_apply(tmp_path: Path) -> None:
    values = {"operator": {"crds": {"create": False}}}
    status, output = doctor(Cluster(), tmp_path, values)
    assert status == 1
    assert "✗ operator broken: definition of a resource is missing: facilityusers" in output
    cluster = Cluster()
    cluster.lists["customresourcedefinitions"] = models.definitions()
    assert doctor(cluster, tmp_path, values)[0] == 0


def test_what_may_not_be_asked_is_not_missing(tmp_path: Path) -> None:
    """A right to discover kinds, or a list that times out, is not a kind that is not there."""
    cluster = Cluster()
    usual = cluster.respond

    def respond(request: Request) -> tuple[int, object]:
        return (403, {}) if request.path == "/apis/batch/v1" else usual(request)

    cluster.respond = respond  # type: ignore[method-assign]
    status, output = doctor(cluster, tmp_path)
    assert status == 0
    assert "? cluster not checked: this may not be looked at: the rights to install" in output
    assert "does not know" not in output


def test_without_a_cluster_it_says_so(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text("{}")
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text("{}")
    outcome = CliRunner().invoke(
        cli.main, ["doctor", "--cluster", str(values), "--kubeconfig", str(kubeconfig)]
    )
    assert outcome.exit_code == 1
    assert "no cluster responds" in str(outcome.output) + str(outcome.exception)


@pytest.mark.parametrize(
    ("quantity", "number"),
    [("500m", 0.5), ("2", 2), (3, 3), ("1Gi", 2**30), ("1.5G", 1.5e9), ("1e3", 1000)],
)
def test_quantities(quantity: str | int, number: float) -> None:
    assert before_install.bytes_or_cores(quantity) == pytest.approx(number)


def test_images_in_a_registry() -> None:
    """The registry wants a token, which it gives to everybody."""

    def respond(request: Request) -> tuple[int, object]:
        return (200 if request.path.endswith("/there") else 404), b""

    with serving(respond) as url:
        name = f"{url.removeprefix('http://')}/hep/mlflow"
        assert list(before_install.image("mlflow", f"{name}:there", "http")) == []
        (finding,) = before_install.image("mlflow", f"{name}:away", "http")
    assert (finding.component, finding.cause) == ("mlflow", Cause.IMAGE_MISSING)
    (finding,) = before_install.image("mlflow", f"{name}:there", "http")
    assert "does not respond" in finding.detail


@pytest.mark.parametrize("challenge", ["Basic", "Bearer", 'Bearer realm="{url}/token"'])
def test_a_registry_that_demands_a_login_says_nothing_of_an_image(challenge: str) -> None:
    def respond(request: Request) -> Response:
        return 401, {}, {"WWW-Authenticate": challenge.format(url=url)}

    with serving(respond) as url:
        name = f"{url.removeprefix('http://')}/hep/mlflow:there"
        assert list(before_install.image("mlflow", name, "http")) == []


OF_CLASS = ".storageclass.storage.k8s.io/"


def release_with(claims: int) -> list[dict[str, Any]]:
    """Return a StatefulSet of two pods, each with claims of 10 GiB, and other kinds with pods."""
    claim = {"spec": {"resources": {"requests": {"storage": "10Gi"}}}}
    template = {"spec": {"containers": [{"image": "ghcr.io/x/a:1"}]}}
    spec = {"replicas": 2, "template": template, "volumeClaimTemplates": [claim] * claims}
    job = {"jobTemplate": {"spec": {"template": template}}}
    return [
        {"kind": kind, "metadata": {"name": kind.lower()}, "spec": content}
        for kind, content in (("StatefulSet", spec), ("DaemonSet", spec), ("CronJob", job))
    ]


@pytest.mark.parametrize(
    ("hard", "scoped", "expected"),
    [
        ({"requests.storage": "19Gi"}, False, ["requests.storage"]),
        ({"requests.storage": "20Gi"}, False, []),
        ({"persistentvolumeclaims": 1}, False, ["persistentvolumeclaims"]),
        ({f"ssd{OF_CLASS}requests.storage": "19Gi"}, False, [f"ssd{OF_CLASS}requests.storage"]),
        ({f"ssd{OF_CLASS}persistentvolumeclaims": 2}, False, []),
        ({f"tape{OF_CLASS}requests.storage": "1Gi"}, False, []),
        ({"pods": 1}, False, ["pods"]),
        ({"pods": 1}, True, []),
        # Others have used more than there is, of something that the release does not need.
        ({"services.nodeports": -1}, False, []),
    ],
)
def test_quotas_count_what_the_release_needs(
    hard: dict[str, Any], scoped: bool, expected: list[str]
) -> None:
    quota = {
        "metadata": {"name": "small", "namespace": "shoppe"},
        "spec": {"scopes": ["Terminating"]} if scoped else {},
        "status": {"hard": hard},
    }
    settings = Settings(release="shoppe", namespace="shoppe", namespaces=[], components=[])
    default = {"metadata": {"name": "ssd", "annotations": {DEFAULT_CLASS: "true"}}}
    snapshot = Snapshot(quotas=[quota], storage_classes=[{"metadata": {"name": "tape"}}, default])
    findings = before_install.quotas(release_with(1), snapshot, settings)
    assert [each.detail.split(" of ")[1].split(",")[0] for each in findings] == expected


def test_images_of_all_kinds_with_pods_are_looked_for() -> None:
    for manifest in release_with(0):
        assert list(before_install.images([manifest])) == ["ghcr.io/x/a:1"]


def test_the_images_are_those_of_the_release() -> None:
    manifests = [m for m in yaml.safe_load_all(release.render()) if m]
    images = before_install.images(manifests)
    assert "mlflow" in images.values()
    assert all(image.startswith("ghcr.io/coffea-shoppe/") for image in images)
