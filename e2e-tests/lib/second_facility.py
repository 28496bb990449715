"""A second facility in the cluster, in namespaces of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shoppe_ci import release
from shoppe_ci.cluster import Cluster

BESIDE: dict[str, Any] = {"jupyterhub": {"proxy": {"service": {"nodePorts": {"http": 30081}}}}}
"""The first facility has the port of the demonstration."""


@contextmanager
def second_facility(
    cluster: Cluster,
    name: str,
    *values: dict[str, Any],
    chart: Path = release.UMBRELLA,
    pin_images: bool = True,
) -> Iterator[None]:
    """Install the release `name` in the namespace `name`; remove both at the end.

    Without `pin_images`, the chart and the values name the images.
    """
    every = (release.demo_values(), BESIDE, *values)
    try:
        release.install(cluster, chart, *every, name=name, namespace=name, pin_images=pin_images)
        yield
    finally:
        release.uninstall(cluster, name=name, namespace=name)
        cluster.kubectl("delete", "namespace", name, "--wait=false")
