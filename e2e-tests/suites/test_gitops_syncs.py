"""A chart that is rendered without the cluster and synced again and again, as Argo CD does."""

from collections.abc import Iterator
from typing import Any

import pytest
from lib import gitops
from shoppe_ci import release
from shoppe_ci.cluster import Cluster
from shoppe_ci.paths import CHARTS
from shoppe_ci.wait import eventually

pytestmark = [pytest.mark.part("faults"), pytest.mark.timeout(900)]

NAMESPACE = "gitops"
CHART = CHARTS / "postgresql"
RUNS: dict[str, Any] = {"databases": ["runs"]}
DUMPED: dict[str, Any] = {**RUNS, "backup": {"always": True}}


def rendered(*values: dict[str, Any]) -> str:
    """Return what Argo CD renders."""
    return release.render(*values, chart=CHART, namespace=NAMESPACE)


@pytest.fixture
def namespace(facility: Cluster) -> Iterator[Cluster]:
    release.ensure_namespace(facility, NAMESPACE)
    yield facility
    facility.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def secrets(cluster: Cluster) -> dict[str, dict[str, str]]:
    """Return the Secrets' data by name."""
    listed = cluster.get("secrets", "-n", NAMESPACE)["items"]
    return {secret["metadata"]["name"]: secret["data"] for secret in listed}


def server(cluster: Cluster) -> str:
    """Return the UID of the server's pod, once it is ready."""

    def ready() -> str:
        pod = cluster.get("pod", "shoppe-postgresql-0", "-n", NAMESPACE)
        (status,) = pod["status"]["containerStatuses"]
        return str(pod["metadata"]["uid"]) if status["ready"] else ""

    return eventually(ready, "PostgreSQL is ready", timeout=180)


def dumps(cluster: Cluster) -> list[str]:
    """Return the dumps on the volume."""
    where = ("-n", NAMESPACE, "exec", "shoppe-postgresql-0", "-c", "postgresql", "--")
    return [
        name for name in cluster.kubectl(*where, "ls", "/backup").split() if name.endswith(".dump")
    ]


def test_a_sync_again_changes_no_secret_and_no_pod(namespace: Cluster) -> None:
    assert rendered(RUNS) == rendered(RUNS)
    objects = gitops.sync(namespace, rendered(RUNS), NAMESPACE)
    first, pod = secrets(namespace), server(namespace)
    assert set(first) == {"shoppe-postgresql-runs"}
    # The job has left nothing that may read them.
    assert not namespace.get("roles", "-n", NAMESPACE)["items"]

    gitops.sync(namespace, rendered(RUNS), NAMESPACE, previous=objects)
    assert secrets(namespace) == first
    assert server(namespace) == pod

    # What Helm does before an upgrade is in the output by a value.
    assert dumps(namespace) == []
    objects = gitops.sync(namespace, rendered(DUMPED), NAMESPACE, previous=objects)
    assert secrets(namespace) == first
    assert len(dumps(namespace)) == 1

    # One more database has one more Secret; what is switched off is pruned, and no Secret is.
    more = {**DUMPED, "databases": ["runs", "requests"]}
    objects = gitops.sync(namespace, rendered(more), NAMESPACE, previous=objects)
    second = secrets(namespace)
    assert set(second) - set(first) == {"shoppe-postgresql-requests"}
    assert namespace.get("networkpolicies", "-n", NAMESPACE)["items"]
    open_to_all = {**DUMPED, "networkPolicy": {"enabled": False}}
    gitops.sync(namespace, rendered(open_to_all), NAMESPACE, previous=objects)
    assert not namespace.get("networkpolicies", "-n", NAMESPACE)["items"]
    assert secrets(namespace) == second
