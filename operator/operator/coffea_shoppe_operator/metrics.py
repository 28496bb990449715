"""What the operator tells Prometheus: its users' conditions, and its own work."""

import threading
from collections import Counter as Tally
from collections.abc import Iterable, Sequence

from prometheus_client import Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import REGISTRY, Collector, CollectorRegistry

from coffea_shoppe_operator.models import Condition


class Metrics(Collector):
    """The metrics of one operator; users are counted when they are scraped."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._lock = threading.Lock()
        self._users: dict[str, tuple[tuple[str, str], ...]] = {}
        self.seconds = Histogram(
            "shoppe_operator_reconcile_seconds",
            "Time of one look at a user.",
            buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10),
            registry=registry,
        )
        self.failures = Counter(
            "shoppe_operator_failures",
            "Times that something could not be done for a user or a service, and is tried again.",
            ["what"],
            registry=registry,
        )
        for what in ("measure", "reconcile", "remove", "scale", "serve", "services"):
            self.failures.labels(what)  # there from the start, at zero
        registry.register(self)

    def seen(self, name: str, conditions: Sequence[Condition]) -> None:
        """Remember how a user is."""
        with self._lock:
            self._users[name] = tuple((one.type, one.status) for one in conditions)

    def gone(self, name: str) -> None:
        """Forget a user."""
        with self._lock:
            self._users.pop(name, None)

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Count the users by condition."""
        with self._lock:
            held = list(self._users.values())
        tally = Tally(condition for conditions in held for condition in conditions)
        family = GaugeMetricFamily(
            "shoppe_users",
            "Users by condition (Ready, or a service's) and its status.",
            labels=["condition", "status"],
        )
        for (kind, status), count in sorted(tally.items()):
            family.add_metric([kind, status], count)
        yield family
