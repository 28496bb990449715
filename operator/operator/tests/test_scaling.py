"""How many replicas there are for how long requests wait."""

import pytest
from coffea_shoppe_contract.claims import TRITON_ADMIN
from coffea_shoppe_operator import services
from coffea_shoppe_operator.models import Queue, Replicas
from coffea_shoppe_operator.scaling import MAXIMUM, MINIMUM, QUIET_S, WAIT, Rule, Scaling
from test_services import NOW, SETTINGS, Memory, verify

RULE = {MINIMUM: "1", MAXIMUM: "3", WAIT: "50"}
LOOK_S = 15


class World:
    """A Deployment whose replicas come at once, and Triton's counts."""

    def __init__(self, annotations: dict[str, str], count: int = 1) -> None:
        self.annotations, self.count, self.late = annotations, count, 0
        self.requests, self.seconds, self.asked = 0, 0.0, 0
        self.memory = Memory()
        facility = services.Facility(SETTINGS, self.memory)
        facility.keys(NOW)
        self.scaling = Scaling(SETTINGS, "triton", keys=facility.keys, cluster=self, server=self)
        self.now = NOW

    def read_replicas(self, namespace: str, name: str) -> Replicas | None:
        if name != "triton" or not self.count:
            return None
        return Replicas(self.count, self.count - self.late, self.annotations)

    def write_replicas(self, namespace: str, name: str, count: int) -> None:
        assert (namespace, name) == (SETTINGS.namespace, "triton")
        self.count = count

    def queue(self, token: str) -> Queue:
        verified = verify(self.memory, token.encode(), self.now, TRITON_ADMIN)
        assert verified.user == "operator"
        self.asked += 1
        return Queue(self.requests, self.seconds)

    def pass_by(self, seconds: float, *, requests: int, wait: float) -> None:
        """Let time pass in which each request waits so many seconds."""
        for _ in range(int(seconds / LOOK_S)):
            self.requests += requests
            self.seconds += requests * wait
            self.now += LOOK_S
            self.scaling.reconcile(self.now)


def test_replicas_come_one_by_one_up_to_the_most_while_requests_wait() -> None:
    world = World(RULE)
    world.pass_by(LOOK_S, requests=100, wait=0.2)
    assert world.count == 1, "the first look has nothing to compare with"
    world.pass_by(LOOK_S, requests=100, wait=0.2)
    assert world.count == 2
    world.late = 1
    world.pass_by(4 * LOOK_S, requests=100, wait=0.2)
    assert world.count == 2, "the new one has not come yet"
    world.late = 0
    world.pass_by(4 * LOOK_S, requests=100, wait=0.2)
    assert world.count == 3
    world.pass_by(10 * LOOK_S, requests=100, wait=0.2)
    assert world.count == 3


def test_replicas_go_after_a_quiet_time_and_stay_while_there_is_something_to_do() -> None:
    world = World(RULE, count=3)
    world.pass_by(2 * QUIET_S, requests=100, wait=0.04)
    assert world.count == 3, "neither much nor little"
    world.pass_by(QUIET_S + 2 * LOOK_S, requests=100, wait=0.01)
    assert world.count == 2
    world.pass_by(3 * QUIET_S, requests=0, wait=0)
    assert world.count == 1


def test_counts_that_start_anew_change_nothing() -> None:
    world = World(RULE)
    world.pass_by(2 * LOOK_S, requests=100, wait=0.01)
    world.requests = world.seconds = 0
    world.pass_by(LOOK_S, requests=10, wait=3)
    assert world.count == 1
    world.pass_by(LOOK_S, requests=10, wait=3)
    assert world.count == 2


@pytest.mark.parametrize(("count", "expected"), [(1, 2), (7, 4), (3, 3)])
def test_the_limits_hold_whatever_there_was(count: int, expected: int) -> None:
    world = World({MINIMUM: "2", MAXIMUM: "4", WAIT: "50"}, count=count)
    world.pass_by(LOOK_S, requests=0, wait=0)
    assert world.count == expected


def test_without_a_rule_or_a_deployment_nothing_is_asked() -> None:
    for world in (World({}), World(RULE, count=0)):
        world.pass_by(4 * LOOK_S, requests=100, wait=1)
        assert world.asked == 0
    assert Rule.parse(RULE) == Rule(1, 3, 0.05)
