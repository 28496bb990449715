"""Prometheus metrics of the operator: conditions of users, and its own work."""

import threading
from collections import Counter as Tally
from collections.abc import Iterable, Sequence

from prometheus_client import Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import REGISTRY, Collector, CollectorRegistry

from coffea_shoppe_operator.conditions import Condition


class Metrics(Collector):
    """The metrics of one operator; users are counted at each scrape."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._lock = threading.Lock()
        self._users: dict[str, tuple[tuple[str, str], ...]] = {}
        self.seconds = Histogram(
            "shoppe_operator_reconcile_seconds",
            "Time of one reconciliation of a user.",
            buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10),
            registry=registry,
        )
        self.failures = Counter(
            "shoppe_operator_failures",
            "Failures of work for users and services; failed work is tried again.",
            ["what"],
            registry=registry,
        )
        for task in ("measure", "reconcile", "remove", "scale", "serve", "services"):
            self.failures.labels(task)  # exported from the start, as zero
        registry.register(self)

    def record(self, name: str, conditions: Sequence[Condition]) -> None:
        """Remember a user's conditions."""
        with self._lock:
            self._users[name] = tuple((entry.type, entry.status) for entry in conditions)

    def forget(self, name: str) -> None:
        """Forget a user."""
        with self._lock:
            self._users.pop(name, None)

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Count the users by condition."""
        with self._lock:
            users = list(self._users.values())
        tally = Tally(condition for conditions in users for condition in conditions)
        family = GaugeMetricFamily(
            "shoppe_users",
            "Users by condition (Ready, or a service's) and its status.",
            labels=["condition", "status"],
        )
        for (kind, status), count in sorted(tally.items()):
            family.add_metric([kind, status], count)
        yield family
