"""Prometheus metrics of the gateway: what became of Dask clusters, without their users."""

from dask_gateway_server.models import ClusterStatus
from prometheus_client import CollectorRegistry, Counter

EVENTS = ("created", "stopped", "failed")


class ClusterEvents:
    """Counts Dask clusters that were created, and that ended, since the gateway started."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._clusters = Counter(
            "shoppe_gateway_clusters",
            "Dask clusters that were created, that stopped, and that failed.",
            ["event"],
            registry=self.registry,
        )
        for event in EVENTS:
            self._clusters.labels(event)  # exported from the start, as zero

    def created(self) -> None:
        """Count a cluster that Kubernetes has accepted."""
        self._clusters.labels("created").inc()

    def ended(self, status: int | None) -> None:
        """Count a cluster by the status of its end; None for one that was deleted before."""
        self._clusters.labels("failed" if status == ClusterStatus.FAILED else "stopped").inc()
