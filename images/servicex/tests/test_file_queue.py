"""The queue of files: leases, retries, failures and fair share."""

import pytest
from coffea_shoppe_servicex.backend import Backend
from coffea_shoppe_servicex.errors import (
    LeaseLostError,
)
from servicex_helpers import ANN, BOB, DONE, Clock, changed, finish, store, submit, take


def test_a_request_ends_once_all_its_files_have(backend: Backend) -> None:
    request = submit(backend, files=2)
    assert backend.requests.get(ANN, request).status == "Running"
    finish(backend, take(backend))
    found = backend.requests.get(ANN, request)
    assert (found.status, found.files, found.completed) == ("Running", 2, 1)
    finish(backend, take(backend))
    found = backend.requests.get(ANN, request)
    assert (found.status, found.completed, found.failed, found.bytes) == ("Complete", 2, 0, 20)
    assert backend.queue.lease("transformer", memory=4000) is None


def test_a_file_is_had_by_one_transformer_at_a_time(backend: Backend) -> None:
    submit(backend)
    take(backend)
    assert backend.queue.lease("another", memory=4000) is None


def test_a_lost_transformer_s_file_goes_to_another_and_counts_once(
    backend: Backend, clock: Clock
) -> None:
    request = submit(backend)
    first = take(backend)
    clock.now += backend.context.settings.limits.lease_s - 1
    assert backend.queue.expire_leases() == 0
    backend.queue.renew(first.file, first.attempt)
    clock.now += backend.context.settings.limits.lease_s - 1
    assert backend.queue.expire_leases() == 0, "a renewed lease is good for longer"
    clock.now += 2
    assert backend.queue.expire_leases() == 1
    clock.now += 60
    second = take(backend)
    assert (second.file, second.attempt) == (first.file, 2)
    for late in (
        lambda: backend.queue.renew(first.file, first.attempt),
        lambda: backend.queue.upload_url(first.file, first.attempt),
        lambda: finish(backend, first),
        lambda: backend.queue.fail(first.file, 1, reason="X", message="x", retry=False),
    ):
        with pytest.raises(LeaseLostError):
            late()
    finish(backend, second)
    with pytest.raises(LeaseLostError):
        finish(backend, second)
    found = backend.requests.get(ANN, request)
    assert (found.status, found.completed, found.failed) == ("Complete", 1, 0)


def test_what_was_lost_too_often_has_failed(backend: Backend, clock: Clock) -> None:
    request = submit(backend)
    for _ in range(backend.context.settings.limits.attempts):
        take(backend)
        clock.now += 200
        backend.queue.expire_leases()
        clock.now += 200
    found = backend.requests.get(ANN, request)
    assert (found.status, found.failed) == ("Fatal", 1)
    assert "TransformerLost" in found.reason
    assert "3 times" in found.reason


def test_memory_doubles_after_it_ran_out_up_to_the_limit(backend: Backend, clock: Clock) -> None:
    request = submit(backend)
    used = []
    while backend.requests.get(ANN, request).status == "Running":
        lease = take(backend)
        used.append(lease.memory)
        backend.queue.fail(
            *(lease.file, lease.attempt), reason="OutOfMemory", message="used more", retry=True
        )
        clock.now += 100
        small = backend.queue.lease("small", memory=lease.memory)
        assert small is None, "one with less memory does not get it again"
    assert used == [1000, 2000, 3000]
    assert backend.requests.get(ANN, request).status == "Fatal"


def test_a_user_s_mistake_is_not_tried_again_but_an_outage_is(
    backend: Backend, clock: Clock
) -> None:
    request = submit(backend, files=2)
    mistake, outage = take(backend), take(backend)
    response = {"message": "no branch 'x'", "reason": "MissingBranch"}
    backend.queue.fail(mistake.file, 1, **response, retry=False, log="the log")
    backend.queue.fail(outage.file, 1, reason="CannotRead", message="away", retry=True)
    assert backend.queue.lease("transformer", memory=4000) is None, "not at once"
    clock.now += 10
    finish(backend, take(backend))
    found = backend.requests.get(ANN, request)
    assert (found.status, found.completed, found.failed) == ("Fatal", 1, 1)
    reason = "1 of 2 files failed; MissingBranch: no branch 'x' [its log ends: the log]"
    assert found.reason == reason
    assert [file.log for file in backend.requests.files(ANN, request)] == ["the log", ""]


def test_a_failed_request_tells_of_several_files(backend: Backend) -> None:
    request = submit(backend, files=9)
    for number, lease in enumerate([take(backend) for _ in range(9)]):
        log = f"begin\n\n  one\ntwo\nthree {number}\n"
        failed = {"reason": "MissingTree", "message": f"file {number} has no tree", "log": log}
        backend.queue.fail(lease.file, 1, **failed, retry=False)
    reasons = "; ".join(f"MissingTree: file {number} has no tree" for number in range(1, 5))
    assert backend.requests.get(ANN, request).reason == (
        "9 of 9 files failed; MissingTree: file 0 has no tree [its log ends: one / two / three 0]; "
        f"{reasons}; and 4 more"
    )


def test_incomplete_results_pass_for_complete_ones_where_that_is_asked_for(
    backend: Backend,
) -> None:
    lax = changed(backend, fail_closed=False)
    request = submit(lax)
    lease = take(lax)
    lax.queue.fail(lease.file, 1, reason="X", message="x", retry=False)
    assert lax.requests.get(ANN, request).status == "Complete"


def test_files_are_given_out_to_users_in_turn(backend: Backend) -> None:
    mine, theirs = submit(backend, ANN, files=4), submit(backend, BOB, files=2)
    order = [take(backend).request for _ in range(6)]
    assert order[:4] == [mine, theirs, mine, theirs]
    assert order[4:] == [mine, mine]


def test_a_small_request_does_not_wait_for_the_user_s_own_large_one(backend: Backend) -> None:
    large, small = submit(backend, files=50), submit(backend, title="small")
    assert [take(backend).request for _ in range(3)] == [large, small, large]


def test_shared_transformers_get_no_user_s_function(backend: Backend) -> None:
    source = "ZGVmIHJ1bl9xdWVyeShmKToKICAgIHJldHVybiBmCg=="
    request = submit(backend, codegen="python", selection=source)
    other = submit(backend, codegen="python", selection=source, title="other")
    assert backend.queue.lease("shared", memory=4000) is None
    lease = take(backend, request_id=request)
    assert lease.request == request
    assert backend.queue.lease("own", memory=4000, request_id=request) is None, "and no other's"
    with pytest.raises(LeaseLostError):
        backend.queue.complete(lease.file, 1, DONE, request_id=other)
    store(backend, lease)
    backend.queue.complete(lease.file, 1, DONE, request_id=request)
    assert backend.requests.get(ANN, request).status == "Complete"


def test_a_result_has_the_size_that_the_store_has(backend: Backend) -> None:
    request = submit(backend, files=2)
    for content in b"", bytes(12345):
        finish(backend, take(backend), content)
    assert backend.requests.get(ANN, request).bytes == 12345
    sizes = [file.bytes for file in backend.requests.files(ANN, request)]
    assert sizes == [0, 12345]


def test_a_result_that_is_not_stored_is_none(backend: Backend, clock: Clock) -> None:
    request = submit(backend)
    lease = take(backend)
    backend.queue.complete(lease.file, lease.attempt, DONE)
    assert backend.requests.get(ANN, request).completed == 0
    clock.now += 10
    again = take(backend)
    assert again.attempt == 2
    finish(backend, again)
    assert backend.requests.get(ANN, request).status == "Complete"


def test_a_result_that_is_never_stored_fails(backend: Backend, clock: Clock) -> None:
    request = submit(backend)
    for _ in range(backend.context.settings.limits.attempts):
        lease = take(backend)
        backend.queue.complete(lease.file, lease.attempt, DONE)
        clock.now += 100
    failed = backend.requests.get(ANN, request)
    assert (failed.status, failed.bytes) == ("Fatal", 0)
    assert "MissingResult: its transformer reported a result and stored none" in failed.reason


def test_files_are_read_through_the_cache_and_else_from_their_origin(backend: Backend) -> None:
    cached = changed(backend, cache_prefix="root://cache:1094")
    web, remote = "https://host/b.root", "root://origin//a.root"
    in_cache = "root://cache:1094//root://origin:1094//a.root"
    assert cached.queue.source_urls([remote, web]) == [in_cache, remote, web]
    assert backend.queue.source_urls([remote]) == [remote]


def test_files_are_read_through_the_cache_of_their_origin(backend: Backend) -> None:
    caches = "xcache=root://any:1094,cms=root://cms:1094?origin=cms.example:1094"
    cached = changed(backend, cache_prefix=caches)
    remote = "root://cms.example//store/a.root"
    assert cached.queue.source_urls([remote]) == ["root://cms:1094//store/a.root", remote]
    only = changed(backend, cache_prefix="root://cms:1094?origin=cms.example:1094")
    assert only.queue.source_urls(["root://h//a.root"]) == ["root://h//a.root"]


def test_an_address_that_no_cache_serves_does_not_end_the_queue(backend: Backend) -> None:
    cached = changed(backend, cache_prefix="root://cache:1094")
    for odd in ("root://host", "root://host:port//a.root"):
        assert cached.queue.source_urls([odd]) == [odd]
