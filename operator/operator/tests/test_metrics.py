"""What Prometheus is told."""

from coffea_shoppe_operator import builders
from coffea_shoppe_operator.metrics import Metrics
from prometheus_client import CollectorRegistry, generate_latest


def test_users_are_counted_by_condition_and_forgotten_when_gone() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    ready = builders.ready(True, "Ready", "")
    for name, stored in (("ann", True), ("bob", False), ("cleo", True)):
        metrics.seen(name, [ready, builders.condition("ObjectStore", stored, "Some", "")])

    def users(condition: str, status: str) -> float | None:
        labels = {"condition": condition, "status": status}
        return registry.get_sample_value("shoppe_users", labels)

    assert users("Ready", "True") == 3
    assert users("ObjectStore", "True") == 2
    assert users("ObjectStore", "False") == 1
    metrics.seen("bob", [ready, builders.condition("ObjectStore", True, "Ready", "")])
    metrics.gone("ann")
    metrics.gone("ann")
    assert users("Ready", "True") == 2
    assert users("ObjectStore", "False") is None


def test_failures_are_there_from_the_start() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.failures.labels("reconcile").inc()
    text = generate_latest(registry).decode()
    assert 'shoppe_operator_failures_total{what="reconcile"} 1.0' in text
    assert 'shoppe_operator_failures_total{what="remove"} 0.0' in text
