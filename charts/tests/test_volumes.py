"""Volumes grow by values; what a claim cannot do is refused by name before anything changes."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from api_server import api_server
from rendering import ALONE, CHARTS, NAMESPACE, RELEASE, HelmError, Manifest, pod_specs, template
from shoppe_ci import toolchain

CLAIMS = {
    ("objectstore", "persistence"): "shoppe-objectstore",
    ("postgresql", "persistence"): "shoppe-postgresql",
    ("postgresql", "backup"): "shoppe-postgresql-backup",
    ("xcache", "persistence"): f"shoppe-{ALONE['xcache']['instances'][0]['name']}",
    ("mlflow", "persistence"): "shoppe-mlflow",
    ("servicex", "persistence"): "shoppe-servicex",
}
"""Chart and path of the keys: the chart's claim."""


def claim(size: str, *, name: str = "shoppe-objectstore", **spec: Any) -> Manifest:
    """Return a claim that is bound to a volume of this size."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "standard",
            "resources": {"requests": {"storage": size}},
            **spec,
        },
        "status": {"capacity": {"storage": size}},
    }


def storage_class(*, grows: bool) -> Manifest:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "standard"},
        "allowVolumeExpansion": grows,
    }


def upgrade(
    folder: Path, values: Manifest, *objects: Manifest, chart: str = "objectstore"
) -> tuple[str, list[Manifest]]:
    """Render an upgrade in a cluster that has these objects; return the refusal, and objects."""
    with api_server(list(objects)) as text:
        (folder / "kubeconfig").write_text(text)
        command = [str(toolchain.program("helm")), "template", RELEASE, str(CHARTS / chart)]
        done = subprocess.run(
            [*command, "--namespace", NAMESPACE, "--is-upgrade", "--dry-run=server", "-f", "-"],
            input=yaml.safe_dump(values),
            env={"KUBECONFIG": str(folder / "kubeconfig"), "HOME": str(folder)},
            capture_output=True,
            text=True,
            check=False,
        )
    return done.stderr, [m for m in yaml.safe_load_all(done.stdout) if m]


def size(value: str, **more: Any) -> Manifest:
    return {"persistence": {"size": value, **more}}


@pytest.mark.parametrize(("chart", "path"), CLAIMS)
def test_a_volume_is_a_claim_of_the_chart_that_outlives_the_release(chart: str, path: str) -> None:
    keys = {
        "size": "77Gi",
        "storageClass": "marked",
        "accessModes": ["ReadWriteMany"],
        "annotations": {"mark": "marked"},
    }
    manifests = template(chart, {**ALONE[chart], path: keys})
    name = CLAIMS[chart, path]
    (claim,) = (
        m
        for m in manifests
        if m["kind"] == "PersistentVolumeClaim" and m["metadata"]["name"] == name
    )
    spec = claim["spec"]
    assert spec["resources"]["requests"]["storage"] == "77Gi"
    assert spec["storageClassName"] == "marked"
    assert spec["accessModes"] == ["ReadWriteMany"]
    kept = {"helm.sh/resource-policy": "keep", "mark": "marked"}
    assert claim["metadata"]["annotations"] == kept
    assert name in mounted(manifests)
    assert not [m for m in manifests if "volumeClaimTemplates" in m.get("spec", {})]


def mounted(manifests: list[Manifest]) -> set[str]:
    """Return the claims that pods mount."""
    return {
        volume["persistentVolumeClaim"]["claimName"]
        for _, _, spec in pod_specs(manifests)
        for volume in spec.get("volumes", ())
        if "persistentVolumeClaim" in volume
    }


@pytest.mark.parametrize(("chart", "path"), CLAIMS)
def test_an_existing_claim_takes_the_place_of_the_chart_s(chart: str, path: str) -> None:
    values = {**ALONE[chart], path: {"existingClaim": "theirs"}}
    if chart == "xcache":
        values["instances"] = ALONE[chart]["instances"][:1]
    manifests = template(chart, values)
    names = [m["metadata"]["name"] for m in manifests if m["kind"] == "PersistentVolumeClaim"]
    assert CLAIMS[chart, path] not in names
    assert "theirs" in mounted(manifests)
    assert CLAIMS[chart, path] not in mounted(manifests)


def test_each_cache_may_have_a_volume_of_its_own() -> None:
    instances = [
        {"name": "xcache", "preset": "atlas"},
        {"name": "cms", "preset": "cms", "persistence": {"size": "5Ti"}},
        {"name": "small", "preset": "cms", "persistence": {"enabled": False, "size": "1Gi"}},
    ]
    manifests = template("xcache", {"instances": instances})
    sizes = {
        m["metadata"]["name"]: m["spec"]["resources"]["requests"]["storage"]
        for m in manifests
        if m["kind"] == "PersistentVolumeClaim"
    }
    assert sizes == {"shoppe-xcache": "10Gi", "shoppe-cms": "5Ti"}
    assert mounted(manifests) == set(sizes)


def test_caches_do_not_share_a_claim() -> None:
    instances = ALONE["xcache"]["instances"]
    values = {"instances": instances, "persistence": {"existingClaim": "theirs"}}
    with pytest.raises(HelmError, match="another cache has the claim theirs"):
        template("xcache", values)
    values["instances"] = [
        {**instances[0], "persistence": {"existingClaim": "others"}},
        *instances[1:],
    ]
    assert mounted(template("xcache", values)) == {"theirs", "others"}


def test_switching_dumps_off_changes_the_pod_alone() -> None:
    manifests = template("postgresql", {**ALONE["postgresql"], "backup": {"enabled": False}})
    assert mounted(manifests) == {"shoppe-postgresql"}


@pytest.mark.parametrize(
    ("values", "objects"),
    [
        (size("20Gi"), [claim("20Gi")]),
        (size("40Gi"), [claim("20Gi"), storage_class(grows=True)]),
        # The class is not read where nothing grows: not everybody may.
        (size("0.5Ti"), [claim("512Gi")]),
        (size("20Gi", storageClass="standard"), [claim("20Gi")]),
        # An expansion that never succeeded is taken back.
        (size("30Gi"), [{**claim("90Gi"), "status": {"capacity": {"storage": "20Gi"}}}]),
        (size("1Gi", existingClaim="theirs"), [claim("20Gi")]),
        (size("1Gi", enabled=False), [claim("20Gi")]),
    ],
)
def test_what_a_claim_can_do_is_done(
    tmp_path: Path, values: Manifest, objects: list[Manifest]
) -> None:
    refusal, manifests = upgrade(tmp_path, values, *objects)
    assert "invalid values" not in refusal
    assert manifests, refusal
    for manifest in manifests:
        if manifest["kind"] == "PersistentVolumeClaim":
            # The class that the cluster chose stays.
            assert manifest["spec"]["storageClassName"] == "standard"


@pytest.mark.parametrize(
    ("values", "objects", "named"),
    [
        (
            size("5Gi"),
            [claim("20Gi")],
            "objectstore.persistence.size is 5Gi, but the claim shoppe-objectstore has 20Gi, and "
            "volumes do not shrink: set 20Gi, or move the data to another claim",
        ),
        (
            size("40Gi"),
            [claim("20Gi"), storage_class(grows=False)],
            "objectstore.persistence.size is 40Gi, but the claim shoppe-objectstore has 20Gi of "
            'the class "standard", which does not allow expansion: set 20Gi, or move',
        ),
        (size("40Gi"), [claim("20Gi")], "does not allow expansion"),
        (
            size("20Gi", storageClass="fast"),
            [claim("20Gi")],
            'objectstore.persistence.storageClass (or global.storageClass) is "fast", but the '
            'claim shoppe-objectstore is of the class "standard", and a claim keeps its class',
        ),
        (
            {**size("20Gi"), "global": {"storageClass": "fast"}},
            [claim("20Gi")],
            "a claim keeps its class",
        ),
        (
            size("20Gi", accessModes=["ReadWriteMany"]),
            [claim("20Gi")],
            "objectstore.persistence.accessModes are ReadWriteMany, but the claim",
        ),
    ],
)
def test_what_a_claim_cannot_do_is_refused_with_the_way_out(
    tmp_path: Path, values: Manifest, objects: list[Manifest], named: str
) -> None:
    refusal, manifests = upgrade(tmp_path, values, *objects)
    assert manifests == []
    assert named in refusal
