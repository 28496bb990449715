"""The arithmetic of limits for each user."""

from typing import Any

import pytest
from coffea_shoppe_gateway import limits
from coffea_shoppe_gateway.limits import GIB

SMALL = limits.Limits(clusters=2, cores=4, memory=8 * GIB)


def use(workers: int, cores: float = 1, memory: float = 1 * GIB) -> limits.Use:
    return limits.Use(workers, cores, memory)


def test_the_first_clusters_start() -> None:
    assert limits.refusal(SMALL, 0, use(1)) == ""
    assert limits.refusal(SMALL, 1, use(1)) == ""


def test_a_cluster_too_many_is_refused_with_the_remedy() -> None:
    assert "2 of at most 2" in limits.refusal(SMALL, 2, use(1))
    assert "stop_cluster" in limits.refusal(SMALL, 2, use(1))


def test_a_worker_above_the_limit_is_refused() -> None:
    assert "8 cores is above your limit of 4" in limits.refusal(SMALL, 0, use(1, cores=8))
    assert "16.0 GiB is above" in limits.refusal(SMALL, 0, use(1, memory=16 * GIB))


@pytest.mark.parametrize(
    ("others", "scaled", "granted"),
    [
        ([], use(3), 3),
        ([], use(9), 4),
        ([use(3)], use(3), 1),
        ([use(4)], use(2), 0),
        ([], use(9, cores=0.5, memory=4 * GIB), 2),
        ([use(2, cores=0.5)], use(9, cores=1.5), 2),
    ],
)
def test_workers_are_granted_as_far_as_the_sum_goes(others: Any, scaled: Any, granted: int) -> None:
    assert limits.granted(SMALL, others, scaled) == granted


def test_zero_means_no_limit() -> None:
    none = limits.Limits(0, 0, 0)
    assert limits.refusal(none, 99, use(1, cores=99)) == ""
    assert limits.granted(none, [use(99)], use(99)) == 99


def test_the_resource_of_a_user_comes_before_the_gateways_limits() -> None:
    status = {"quota": {"dask": {"clusters": 5, "memoryGiB": 0}}}
    assert limits.limits_in(status, SMALL) == limits.Limits(clusters=5, cores=4, memory=0)
    assert limits.limits_in({}, SMALL) == SMALL
    assert limits.limits_in({"quota": {}}, SMALL) == SMALL
