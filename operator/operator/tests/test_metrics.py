"""What Prometheus is told."""

from coffea_shoppe_operator.conditions import condition, ready
from coffea_shoppe_operator.metrics import Metrics
from prometheus_client import CollectorRegistry, generate_latest


def test_users_are_counted_by_condition_and_forgotten_when_gone() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    is_ready = ready(True, "Ready", "")
    for name, stored in (("ann", True), ("bob", False), ("cleo", True)):
        metrics.record(name, [is_ready, condition("ObjectStore", stored, "Some", "")])

    def users(kind: str, status: str) -> float | None:
        labels = {"condition": kind, "status": status}
        return registry.get_sample_value("shoppe_users", labels)

    assert users("Ready", "True") == 3
    assert users("ObjectStore", "True") == 2
    assert users("ObjectStore", "False") == 1
    metrics.record("bob", [is_ready, condition("ObjectStore", True, "Ready", "")])
    metrics.forget("ann")
    metrics.forget("ann")
    assert users("Ready", "True") == 2
    assert users("ObjectStore", "False") is None


def test_failures_are_there_from_the_start() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.failures.labels("reconcile").inc()
    text = generate_latest(registry).decode()
    assert 'shoppe_operator_failures_total{what="reconcile"} 1.0' in text
    assert 'shoppe_operator_failures_total{what="remove"} 0.0' in text
