"""Clean-up, with a clock that the tests set."""

from pathlib import Path

import pytest
from coffea_shoppe_servicex.backend import Backend
from coffea_shoppe_servicex.errors import (
    LeaseLostError,
    NotFoundError,
)
from coffea_shoppe_servicex.models import LATE_UPLOAD_S
from coffea_shoppe_servicex.objects import ObjectPrefix
from servicex_helpers import (
    ANN,
    BOB,
    CONTENT,
    Clock,
    changed,
    finish,
    object_path,
    store,
    stored,
    submit,
    take,
)


def test_no_object_is_left_that_no_file_names(
    backend: Backend, clock: Clock, tmp_path: Path
) -> None:
    request = submit(backend)
    first = take(backend)
    lost = store(backend, first)
    clock.now += 200
    backend.queue.expire_leases()
    clock.now += 200
    second = take(backend)
    kept = store(backend, second)
    assert lost != kept
    finish(backend, second)
    assert stored(backend, request) == [kept], "an earlier attempt's goes with the later one's end"
    # The lost one comes back, and stores what it had.
    path = tmp_path / "results" / "ann" / request / lost
    path.write_bytes(b"late")
    assert backend.housekeeping.remove_orphans() == [], "not before it can be no more"
    clock.now += LATE_UPLOAD_S + 1
    assert backend.housekeeping.remove_orphans() == [lost]
    assert stored(backend, request) == [kept]


def test_what_comes_late_to_a_deleted_request_is_removed_too(
    backend: Backend, clock: Clock, tmp_path: Path
) -> None:
    request = submit(backend)
    key = backend.requests.get(ANN, request).access_key
    lease = take(backend)
    name = store(backend, lease)
    backend.requests.delete(ANN, request)
    prefix = ObjectPrefix("ann", request)
    assert backend.context.store.sizes(prefix) == {}
    assert backend.requests.by_access_key(key) is None
    assert backend.requests.owned_by(ANN) == []
    with pytest.raises(NotFoundError):
        backend.requests.get(ANN, request)
    with pytest.raises(LeaseLostError):
        finish(backend, lease)
    late = tmp_path / "results" / "ann" / request / name
    late.parent.mkdir(exist_ok=True)
    late.write_bytes(b"late")
    assert backend.housekeeping.remove_expired() == 0, "not before it can be no more"
    clock.now += LATE_UPLOAD_S + 1
    assert backend.housekeeping.remove_expired() == 1
    assert backend.context.store.sizes(prefix) == {}


def test_results_go_when_their_time_is_over(backend: Backend, clock: Clock) -> None:
    request = submit(backend)
    finish(backend, take(backend))
    clock.now += backend.context.settings.limits.retention_s - 1
    assert backend.housekeeping.remove_expired() == 0
    clock.now += 2
    assert backend.housekeeping.remove_expired() == 1
    with pytest.raises(NotFoundError):
        backend.requests.get(ANN, request)


def test_the_oldest_go_of_a_user_who_holds_too_much(backend: Backend, clock: Clock) -> None:
    limits = backend.context.settings.limits.model_copy(update={"bytes_per_user": 25})
    small = changed(backend, limits=limits)
    requests = []
    for number in range(3):
        requests.append(submit(small, title=f"t{number}"))
        finish(small, take(small))
        clock.now += 1
    other = submit(small, BOB)
    finish(small, take(small))
    assert small.housekeeping.remove_expired() == 1
    assert [one.id for one in small.requests.owned_by(ANN)] == requests[:0:-1]
    assert [one.id for one in small.requests.owned_by(BOB)] == [other]


def test_an_object_that_replaced_a_result_later_counts_with_its_size(
    backend: Backend, clock: Clock
) -> None:
    limits = backend.context.settings.limits.model_copy(update={"bytes_per_user": 1000})
    limited = changed(backend, limits=limits)
    first = submit(limited)
    lease = take(limited)
    path = object_path(limited, lease)
    finish(limited, lease)
    reused = submit(limited)
    clock.now += 1
    latest = submit(limited, title="latest")
    finish(limited, take(limited))
    # The presigned URL of the upload is still valid.
    path.write_bytes(bytes(1000))
    clock.now += LATE_UPLOAD_S + 1
    assert limited.housekeeping.remove_orphans() == []
    for identifier in first, reused:
        assert limited.requests.get(ANN, identifier).bytes == 1000
        assert [file.bytes for file in limited.requests.files(ANN, identifier)] == [1000]
    assert limited.requests.get(ANN, latest).bytes == len(CONTENT)
    assert limited.housekeeping.remove_expired() == 2
    assert [request.id for request in limited.requests.owned_by(ANN)] == [latest]


def test_an_overdue_request_ends(backend: Backend, clock: Clock) -> None:
    request = submit(backend)
    clock.now += backend.context.settings.limits.request_deadline_s + 1
    backend.housekeeping.end_overdue()
    assert backend.requests.get(ANN, request).status == "Fatal"
    assert "Overdue" in backend.requests.get(ANN, request).reason
