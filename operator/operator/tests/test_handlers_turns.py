"""Handlers of one resource have their turns, each with the resource as it is then."""

import threading
from typing import Any

import kopf
import pytest
from coffea_shoppe_operator import handlers
from coffea_shoppe_operator.conditions import ready
from coffea_shoppe_operator.metrics import Metrics
from coffea_shoppe_operator.models import ServedModel, ServedModelStatus
from coffea_shoppe_operator.serving import UNAVAILABLE
from prometheus_client import CollectorRegistry

BODY = kopf.Body({"metadata": {"name": "ann.bdt", "namespace": "shoppe", "uid": "u"}, "spec": {}})
METADATA = BODY.metadata
TIMEOUT_S = 60


class Cluster:
    """The API server, with one ServedModel."""

    def __init__(self) -> None:
        self.version = "2"
        self.status: dict[str, Any] = {}
        self.deleted = False

    def read_resource(self, *_: str) -> dict[str, Any]:
        metadata = dict(METADATA) | ({"deletionTimestamp": "now"} if self.deleted else {})
        spec = {"username": "ann", "name": "bdt", "model": f"models:/bdt/{self.version}"}
        return {"metadata": metadata, "spec": spec, "status": dict(self.status)}

    def write_status(self, _: str, plural: str, name: str, status: dict[str, Any]) -> None:
        assert (plural, name) == ("servedmodels", "ann.bdt")
        self.status |= status


class Serving:
    """Serves a model as slowly as a test wants; `served` are versions before and after."""

    def __init__(self) -> None:
        self.served: list[tuple[str, str]] = []
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.reason = "Served"

    def reconcile(self, model: ServedModel, _: float) -> ServedModelStatus:
        self.begun.set()
        assert self.go_on.wait(TIMEOUT_S)
        version = model.spec.model.rpartition("/")[2]
        self.served.append((model.status.version, version))
        conditions = [ready(self.reason == "Served", self.reason, "its message")]
        return ServedModelStatus(version=version, conditions=conditions)


class Facility:
    """The parts that the handlers use, and the handlers as kopf calls them."""

    def __init__(self) -> None:
        self.cluster, self.serving = Cluster(), Serving()
        self.turns = handlers.Turns(self.cluster, ServedModel, "servedmodels")
        self.metrics = Metrics(CollectorRegistry())

    def serve(self, *, wait: bool) -> None:
        arguments: Any = (self.serving, self.turns, self.metrics, METADATA)
        handlers.serve_model(*arguments, wait=wait)

    def start(self, *, wait: bool) -> threading.Thread:
        thread = threading.Thread(target=self.serve, kwargs={"wait": wait}, daemon=True)
        thread.start()
        return thread


@pytest.fixture
def facility() -> Facility:
    return Facility()


def test_a_change_beside_the_timer_starts_from_what_the_timer_did(facility: Facility) -> None:
    timer = facility.start(wait=False)
    assert facility.serving.begun.wait(TIMEOUT_S)
    facility.cluster.version = "1"
    change = facility.start(wait=True)
    facility.serving.go_on.set()
    timer.join(TIMEOUT_S)
    change.join(TIMEOUT_S)
    assert facility.serving.served == [("", "2"), ("2", "1")]
    assert facility.cluster.status["version"] == "1"


def test_the_timer_leaves_the_work_to_a_change_beside_it(facility: Facility) -> None:
    change = facility.start(wait=True)
    assert facility.serving.begun.wait(TIMEOUT_S)
    facility.serve(wait=False)
    assert facility.serving.served == []
    facility.serving.go_on.set()
    change.join(TIMEOUT_S)
    facility.serve(wait=False)
    assert facility.serving.served == [("", "2"), ("2", "2")]


def test_a_removal_waits_for_the_turn_before_it_and_is_the_last(facility: Facility) -> None:
    timer = facility.start(wait=False)
    assert facility.serving.begun.wait(TIMEOUT_S)
    removed = threading.Event()

    def remove() -> None:
        with facility.turns.take_last(METADATA):
            assert facility.serving.served, "the timer has ended"
            removed.set()

    thread = threading.Thread(target=remove, daemon=True)
    thread.start()
    facility.cluster.deleted = True
    facility.serving.go_on.set()
    thread.join(TIMEOUT_S)
    timer.join(TIMEOUT_S)
    assert removed.is_set()
    facility.serve(wait=True)
    assert len(facility.serving.served) == 1, "a timer that comes late serves nothing"


def test_a_service_that_is_away_is_reported_and_tried_again(facility: Facility) -> None:
    facility.serving.go_on.set()
    facility.serving.reason = UNAVAILABLE
    with pytest.raises(kopf.TemporaryError, match="its message"):
        facility.serve(wait=True)
    assert facility.cluster.status["conditions"][0]["reason"] == UNAVAILABLE
    facility.serving.reason = "Served"
    facility.serve(wait=True)
    assert facility.cluster.status["conditions"][0]["reason"] == "Served"
