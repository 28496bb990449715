"""A facility from a bundle: its chart, its images by digest, from the site's registry alone."""

from pathlib import Path

import pytest
from lib.second_facility import second_facility
from shoppe_ci import bundle, images, release
from shoppe_ci import cluster as clusters
from shoppe_ci.cluster import Cluster
from shoppe_ci.engine import Engine

NAME = "offline"
REGISTRY = "registry.site.example"
"""The site's registry, as pods name it; no such host is on the internet."""

pytestmark = [pytest.mark.part("offline"), pytest.mark.alone, pytest.mark.timeout(1200)]


def test_a_facility_is_installed_from_a_bundle(
    facility: Cluster, engine: Engine, tmp_path: Path
) -> None:
    port = clusters.ensure_registry(engine)
    bundle.create(engine, release.package(tmp_path), port, sboms=False, key=None)
    pushed = bundle.push(tmp_path, bundle.Registry(f"127.0.0.1:{port}/mirror", plain_http=True))
    *pushed_images, pushed_chart = pushed
    assert len(pushed_images) == bundle.verify(tmp_path)
    assert pushed_chart.startswith("oci://")
    clusters.connect_registry(engine, facility, REGISTRY)
    (chart,) = tmp_path.glob("*.tgz")
    digests = release.read_values([tmp_path / "values.yaml"])
    registry = {"global": {"imageRegistry": f"{REGISTRY}/mirror"}}
    with second_facility(facility, NAME, *digests, registry, chart=chart, pin_images=False):
        pods = facility.get("pods", "-A", "-l", f"app.kubernetes.io/instance={NAME}")["items"]
        used = {
            container["image"]
            for pod in pods
            for container in [*pod["spec"]["containers"], *pod["spec"].get("initContainers", ())]
        }
    assert all(name.startswith(f"{REGISTRY}/mirror/coffea-shoppe/") for name in used), used
    assert all("@sha256:" in name for name in used), used
    # Those of users' pods are in pods that come later.
    later = {"analysis", "notebook", "base", "build"}
    present = {name.rpartition("/")[2].partition("@")[0] for name in used}
    assert present | later == set(images.declared())
