"""Each component installs alone, beside the facility, and is ready."""

from collections.abc import Iterator
from typing import Any

import pytest
from shoppe_ci import release
from shoppe_ci.cluster import Cluster
from shoppe_ci.paths import CHARTS

ALONE: dict[str, dict[str, Any]] = {
    "jupyterhub": {
        "proxy": {"service": {"type": "ClusterIP"}},
        "hub": {"config": {"JupyterHub": {"authenticator_class": "native"}}},
    },
    "dask-gateway": {"gateway": {"auth": {"type": "simple"}}},
    "xcache": {
        "instances": [
            {"name": "any", "preset": "atlas"},
            {"name": "one", "preset": "generic", "origin": "origin.shoppe-origin:1094"},
        ],
    },
}


@pytest.fixture(params=ALONE)
def component(request: pytest.FixtureRequest, facility: Cluster) -> Iterator[str]:
    """A component installed alone; removed at the end."""
    chart = request.param
    name = f"alone-{chart}"
    release.install(facility, CHARTS / chart, ALONE[chart], name=name, namespace=name)
    yield chart
    release.uninstall(facility, name=name, namespace=name)
    facility.kubectl("delete", "namespace", name, "--wait=false")


def test_a_component_is_ready_alone(component: str, facility: Cluster) -> None:
    found = release.workloads(facility, f"alone-{component}")
    assert found
    assert all(item["status"]["readyReplicas"] == item["spec"]["replicas"] for item in found)
