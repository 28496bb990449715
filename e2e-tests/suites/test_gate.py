"""The release gate: open on the facility, and closed by each service that is broken."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from shoppe_ci import analysis, counters, origin, release
from shoppe_ci.cluster import Cluster
from shoppe_ci.engine import Engine
from shoppe_ci.gate import badge, record
from shoppe_ci.gate import run as gates
from shoppe_ci.gate.hops import HOPS, PROVED
from shoppe_ci.wait import eventually

pytestmark = pytest.mark.part("gate")

EVENTS = analysis.FEWEST_EVENTS
COMPONENTS = {hop.title: hop.endpoint.component for hop in HOPS}


def workload(cluster: Cluster, component: str) -> dict[str, Any]:
    """Return the component's Deployment or StatefulSet."""
    label = "app.kubernetes.io/component"
    (item,) = (
        item
        for item in release.workloads(cluster, release.RELEASE)
        if item["metadata"]["labels"][label] == component
    )
    return item


@contextmanager
def without(cluster: Cluster, component: str) -> Iterator[None]:
    """Scale a component to zero; it runs again afterwards."""
    item = workload(cluster, component)
    meta = item["metadata"]
    words = ["-n", meta["namespace"], "scale", f"{item['kind'].lower()}/{meta['name']}"]
    cluster.kubectl(*words, "--replicas=0")
    try:
        eventually(
            lambda: not counters.ready_pods(cluster, component),
            f"no pod of {component} is ready",
            timeout=120,
        )
        yield
    finally:
        cluster.kubectl(*words, f"--replicas={item['spec']['replicas']}")
        release.wait_ready(cluster)


def test_the_gate_is_open(engine: Engine, data_origin: Cluster, tmp_path: Path) -> None:
    outcome = gates.run(engine, data_origin, tmp_path / "gate", events=EVENTS)
    assert outcome.passed, (outcome.problem, outcome.differences, outcome.hops)
    assert {hop.name for hop in outcome.hops if hop.state == PROVED} == {h.name for h in HOPS}
    assert {section.title for section in outcome.sections} >= {"Fit", "Serve the models"}
    again = record.verified(tmp_path / "gate")
    assert again.images.keys() == outcome.images.keys()
    message = json.loads((tmp_path / "gate" / badge.ENDPOINT).read_text())["message"]
    assert message == "AGC crosses 7 of 7 services"


@pytest.mark.parametrize("title", COMPONENTS)
def test_a_service_that_is_away_closes_the_gate(
    engine: Engine, data_origin: Cluster, tmp_path: Path, title: str
) -> None:
    with without(data_origin, COMPONENTS[title]):
        outcome = gates.run(engine, data_origin, tmp_path / "gate", events=EVENTS)
    assert_closed(outcome, tmp_path / "gate", title)


def assert_closed(outcome: record.Record, folder: Path, title: str) -> None:
    """The badge is red and names the service; its reason and logs are there."""
    assert not outcome.passed
    assert outcome.broken == title, outcome
    message = json.loads((folder / badge.ENDPOINT).read_text())["message"]
    assert message == f"broken: {title}"
    assert any((folder / "logs").iterdir())


def test_an_origin_that_is_away_closes_the_gate(
    engine: Engine, data_origin: Cluster, tmp_path: Path
) -> None:
    origin.scale(data_origin, 0)
    try:
        outcome = gates.run(engine, data_origin, tmp_path / "gate", events=EVENTS)
    finally:
        origin.scale(data_origin, 1)
    assert_closed(outcome, tmp_path / "gate", "XCache")


def test_models_that_are_not_served_close_the_gate(
    engine: Engine, data_origin: Cluster, tmp_path: Path
) -> None:
    """The operator, which serves models, is away."""
    with without(data_origin, "operator"):
        outcome = gates.run(engine, data_origin, tmp_path / "gate", events=EVENTS)
    assert_closed(outcome, tmp_path / "gate", "Triton")
