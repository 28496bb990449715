"""One user's flood of every server leaves the servers to others, and ends none of them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from lib.fixtures import run_code
from shoppe_ci import flood, origin, overload
from shoppe_ci.cluster import Cluster
from shoppe_ci.facility import User
from shoppe_ci.probes import TIMEOUT_S

pytestmark = [pytest.mark.part("overload"), pytest.mark.timeout(900)]

FLOOD_S = 120
"""Longer than any limit of time on heads and bodies."""
KINDS = {kind.__name__ for kind in flood.KINDS}


@pytest.fixture(scope="module")
def outcome(
    data_origin: Cluster, samples: list[tuple[Path, str, str, int]], ann: User, bob: User
) -> overload.Outcome:
    url = origin.publish(data_origin, samples[0][0])
    return overload.measure(
        data_origin,
        run_code,
        sender=bob,
        user=ann,
        addresses=overload.hosts(url),
        names=list(overload.SERVERS),
        seconds=FLOOD_S,
    )


def test_every_server_is_flooded_in_every_way(
    outcome: overload.Outcome, figure: Callable[[str], None]
) -> None:
    assert outcome.sent.keys() == overload.SERVERS.keys()
    for server, kinds in outcome.sent.items():
        assert kinds.keys() == KINDS
        connections = {kind: tally["connections"] for kind, tally in kinds.items()}
        assert all(connections.values()), f"{server}: {connections}"
        sent = sum(tally["bytes"] for tally in kinds.values()) / 1e6
        figure(f"{server}: {sum(connections.values())} connections, {sent:.0f} MB sent")


def test_every_request_of_another_user_succeeds_within_its_client_s_timeout(
    outcome: overload.Outcome, figure: Callable[[str], None]
) -> None:
    for server, row in overload.rows(outcome).items():
        figure(f"{server}: {row}")
    assert {name: use.problems for name, use in outcome.quiet.items() if use.problems} == {}
    assert {name: use.problems for name, use in outcome.loaded.items() if use.problems} == {}
    slowest = {name: use.slowest for name, use in outcome.loaded.items()}
    assert max(slowest.values()) < TIMEOUT_S, slowest


def test_no_container_is_killed_or_restarted(
    outcome: overload.Outcome, figure: Callable[[str], None]
) -> None:
    largest = sorted(outcome.memory.items(), key=lambda entry: -entry[1])[:8]
    figure(", ".join(f"{pod} {mebibytes:.0f} MiB" for pod, mebibytes in largest))
    assert outcome.restarted == {}
