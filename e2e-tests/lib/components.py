"""Components of the facility that are away for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

from shoppe_ci import counters, release
from shoppe_ci.cluster import Cluster
from shoppe_ci.wait import eventually


@contextmanager
def without(cluster: Cluster, component: str) -> Iterator[None]:
    """Scale a component to zero; it runs again afterwards."""
    label = "app.kubernetes.io/component"
    (workload,) = (
        item
        for item in release.workloads(cluster, release.RELEASE)
        if item["metadata"]["labels"][label] == component
    )
    meta = workload["metadata"]
    words = ["-n", meta["namespace"], "scale", f"{workload['kind'].lower()}/{meta['name']}"]
    cluster.kubectl(*words, "--replicas=0")
    try:
        eventually(
            lambda: not counters.ready_pods(cluster, component),
            f"no pod of {component} is ready",
            timeout=120,
        )
        yield
    finally:
        cluster.kubectl(*words, f"--replicas={workload['spec']['replicas']}")
        release.wait_ready(cluster)
