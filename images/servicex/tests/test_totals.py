"""Totals of what has ended: each end counts once, and no removal takes it back."""

import contextlib
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from coffea_shoppe_servicex.backend import Backend
from coffea_shoppe_servicex.database import File, Request, transaction
from coffea_shoppe_servicex.errors import LeaseLostError
from coffea_shoppe_servicex.finders import LookupFailedError
from coffea_shoppe_servicex.models import END_STATES, END_STATUSES, Lease
from coffea_shoppe_servicex.objects import FolderStore
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from servicex_helpers import (
    ANN,
    BOB,
    CONTENT,
    DONE,
    Clock,
    changed,
    finish,
    look_up,
    store,
    submit,
    take,
    unchanged,
)
from sqlalchemy import select

SIZE = len(CONTENT)


def totals(backend: Backend) -> dict[str, int]:
    """Return the totals that are not zero: `NAME STATUS` → value."""
    return {
        f"{name} {status}".strip(): total
        for name, by_status in backend.workload.totals().items()
        for status, total in by_status.items()
        if total
    }


def refuse(backend: Backend, lease: Lease, *, retry: bool = False) -> None:
    """Report a failed attempt."""
    backend.queue.fail(lease.file, lease.attempt, reason="X", message="x", retry=retry)


def test_nothing_that_has_not_ended_counts(backend: Backend) -> None:
    submit(backend, files=2)
    take(backend)
    assert totals(backend) == {}


def test_each_end_of_a_request_counts_under_its_name(backend: Backend, clock: Clock) -> None:
    submit(backend, files=2)
    finish(backend, take(backend))
    assert totals(backend) == {"files done": 1, "delivered_bytes": SIZE}
    finish(backend, take(backend))
    expected = {"files done": 2, "delivered_bytes": 2 * SIZE, "requests complete": 1}
    assert totals(backend) == expected
    submit(backend, title="failed", files=2)
    refuse(backend, take(backend))
    finish(backend, take(backend), b"")
    expected |= {"files done": 3, "files failed": 1, "requests failed": 1}
    assert totals(backend) == expected
    canceled = submit(backend, title="canceled", files=3)
    finish(backend, take(backend))
    take(backend)
    for _ in range(2):
        backend.requests.cancel(ANN, canceled)
    expected |= {"files done": 4, "delivered_bytes": 3 * SIZE}
    expected |= {"files canceled": 2, "requests canceled": 1}
    assert totals(backend) == expected
    submit(backend, title="late", files=2)
    clock.now += backend.context.settings.limits.request_deadline_s + 1
    for _ in range(2):
        backend.housekeeping.end_overdue()
    assert totals(backend) == expected | {"files canceled": 4, "requests failed": 2}


def test_a_bad_dataset_counts_as_such(backend: Backend) -> None:
    submit(backend, file_list=None, did="xrootd://root://origin//*.root")

    def find(name: str) -> Any:
        raise LookupFailedError("does_not_exist", f"{name} does not exist")

    assert backend.datasets.look_up(find, unchanged)
    assert totals(backend) == {"requests bad_dataset": 1}


def test_a_reused_result_counts_as_such_and_delivers_nothing(backend: Backend) -> None:
    submit(backend)
    finish(backend, take(backend))
    once = {"files done": 1, "delivered_bytes": SIZE, "requests complete": 1}
    assert totals(backend) == once
    again = submit(backend)
    assert backend.requests.get(ANN, again).status == "Complete"
    assert totals(backend) == once | {"requests reused": 1}


def test_a_file_counts_once_however_often_it_is_tried_and_reported(
    backend: Backend, clock: Clock
) -> None:
    submit(backend)
    lost = take(backend)
    clock.now += 200
    assert backend.queue.expire_leases() == 1
    clock.now += 200
    interrupted = take(backend)
    refuse(backend, interrupted, retry=True)
    clock.now += 200
    last = take(backend)
    assert totals(backend) == {}
    finish(backend, last)
    for late in (lost, interrupted, last):
        with pytest.raises(LeaseLostError):
            finish(backend, late)
        with pytest.raises(LeaseLostError):
            refuse(backend, late)
    assert totals(backend) == {"files done": 1, "delivered_bytes": SIZE, "requests complete": 1}


def test_a_file_whose_transformers_were_all_lost_counts_as_failed(
    backend: Backend, clock: Clock
) -> None:
    submit(backend)
    for _ in range(backend.context.settings.limits.attempts):
        take(backend)
        clock.now += 200
        backend.queue.expire_leases()
        clock.now += 200
    assert totals(backend) == {"files failed": 1, "requests failed": 1}


def test_incomplete_results_count_as_complete_where_they_pass_for_it(backend: Backend) -> None:
    lax = changed(backend, fail_closed=False)
    submit(lax)
    refuse(lax, take(lax))
    assert totals(backend) == {"files failed": 1, "requests complete": 1}


def test_no_removal_takes_anything_back(backend: Backend, clock: Clock) -> None:
    deleted = submit(backend)
    submit(backend, title="other")
    submit(backend, BOB)
    for _ in range(3):
        finish(backend, take(backend))
    expected = {"files done": 3, "delivered_bytes": 3 * SIZE, "requests complete": 3}
    open_one = submit(backend, BOB, title="open", files=2)
    backend.requests.delete(ANN, deleted)
    assert totals(backend) == expected
    backend.requests.delete(BOB, open_one)
    expected |= {"files canceled": 2, "requests canceled": 1}
    assert totals(backend) == expected
    for _ in range(2):
        backend.users.remove(ANN.user)
    assert totals(backend) == expected
    clock.now += backend.context.settings.limits.retention_s + 1
    assert backend.housekeeping.remove_expired() == 4
    assert backend.workload.counts() == ({}, {})
    assert totals(backend) == expected


def test_the_requests_of_a_revoked_user_count_as_canceled(backend: Backend, clock: Clock) -> None:
    submit(backend, ANN, files=2)
    submit(backend, BOB)
    for _ in range(2):
        backend.users.revoke_access({ANN.uid: clock.now})
    assert totals(backend) == {"files canceled": 2, "requests canceled": 1}


class _UnavailableStore(FolderStore):
    """A store that removes nothing."""

    def remove_all(self, prefix: Any) -> None:
        raise OSError("the store does not respond")


def test_what_was_rolled_back_does_not_count(backend: Backend) -> None:
    request = submit(backend)
    folder = backend.context.settings.objects.folder
    assert folder
    unavailable = _UnavailableStore(folder, backend.context.settings.s3_gateway)
    with pytest.raises(OSError, match="does not respond"):
        Backend(replace(backend.context, store=unavailable)).requests.delete(ANN, request)
    assert backend.requests.get(ANN, request).status == "Running"
    assert totals(backend) == {}
    backend.requests.delete(ANN, request)
    assert totals(backend) == {"files canceled": 1, "requests canceled": 1}


def test_a_canceled_request_that_is_looked_up_late_counts_once(backend: Backend) -> None:
    submit(backend, file_list=None, did="xrootd://root://origin//*.root")
    (request,) = backend.requests.owned_by(ANN)

    def find(name: str) -> Any:
        backend.requests.cancel(ANN, request.id)
        raise LookupFailedError("does_not_exist", f"{name} does not exist")

    assert backend.datasets.look_up(find, unchanged)
    assert not look_up(backend)
    assert totals(backend) == {"requests canceled": 1}


def in_database(backend: Backend) -> Counter[str]:
    """Return what the rows of requests and files say, in the form of `totals`."""
    counts = Counter[str]()
    with transaction(backend.context.engine) as session:
        requests = {request.id: request for request in session.scalars(select(Request))}
        for request in requests.values():
            reused = request.folder != request.id
            if request.status in END_STATUSES:
                counts[f"requests {'reused' if reused else END_STATUSES[request.status]}"] += 1
        for file in session.scalars(select(File)):
            request = requests[file.request_id]
            if file.state in END_STATES and request.folder == request.id:
                counts[f"files {file.state}"] += 1
                if file.state == "done":
                    counts["delivered_bytes"] += file.bytes
    return counts


STEPS = ["submit", "finish", "report", "fail", "retry", "lose", "cancel", "delete"]
"""What happens in random order; `report` is a result without an object."""


@given(
    st.lists(
        st.tuples(st.sampled_from(STEPS), st.integers(0, 2), st.sampled_from([ANN, BOB])),
        max_size=30,
    )
)
@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_totals_equal_what_ended_in_any_order(
    backend: Backend, clock: Clock, steps: list[tuple[str, int, Any]]
) -> None:
    """Until retention removes it, the rows say the same; the database is that of all examples."""
    before = Counter(totals(backend))
    leases: list[Lease] = []
    for step, number, owner in steps:
        clock.now += 100
        own = backend.requests.owned_by(owner)
        if step == "submit":
            submit(backend, owner, title=f"t{number}", files=number + 1)
        elif step == "lose":
            clock.now += 1000
            backend.queue.expire_leases()
        elif step == "cancel" and own:
            backend.requests.cancel(owner, own[number % len(own)].id)
        elif step == "delete" and own:
            backend.requests.delete(owner, own[number % len(own)].id)
        elif step in ("finish", "report", "fail", "retry"):
            if lease := backend.queue.lease("transformer", memory=4000):
                leases.append(lease)
            # Also leases that have ended: their reports are refused.
            for lease in leases[-1 - number :]:
                with contextlib.suppress(LeaseLostError):
                    if step == "finish":
                        store(backend, lease)
                    if step in ("finish", "report"):
                        backend.queue.complete(lease.file, lease.attempt, DONE)
                    else:
                        refuse(backend, lease, retry=step == "retry")
    assert Counter(totals(backend)) - before == in_database(backend)
    for owner in (ANN, BOB):
        backend.users.remove(owner.user)
    ended = totals(backend)
    clock.now += backend.context.settings.limits.retention_s + 1
    backend.housekeeping.remove_expired()
    assert in_database(backend) == Counter()
    assert totals(backend) == ended
