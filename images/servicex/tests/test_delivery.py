"""The life of a request, with a clock that is told the time."""

import json
from pathlib import Path
from typing import Any

import pytest
from coffea_shoppe_servicex.delivery import (
    LATE_S,
    Delivery,
    Lease,
    Owner,
    Quota,
    Result,
    Submission,
)
from coffea_shoppe_servicex.errors import (
    ForbiddenError,
    LeaseLostError,
    NotFoundError,
    QueryError,
)
from coffea_shoppe_servicex.finders import LookupFailedError
from coffea_shoppe_servicex.objects import Place
from servicex_helpers import ANN, BOB, Clock, changed

RAW = json.dumps([{"treename": "Events", "expressions": ["met"]}])
DONE = Result(bytes=10, events=5, read=100, seconds=1.0)


def submit(delivery: Delivery, owner: Owner = ANN, files: int = 1, **more: Any) -> str:
    listed = [f"root://origin//{more.get('title', '')}{number}.root" for number in range(files)]
    asked = {"codegen": "uproot-raw", "selection": RAW, "file-list": listed, **more}
    return delivery.submit(owner, Submission.model_validate(asked)).id


def take(delivery: Delivery, **more: Any) -> Lease:
    found = delivery.lease("worker", memory=more.pop("memory", 4000), **more)
    assert found
    return found


def finish(delivery: Delivery, lease: Lease) -> None:
    delivery.complete(lease.file, lease.attempt, DONE)


def test_a_request_ends_once_all_its_files_have(delivery: Delivery) -> None:
    request = submit(delivery, files=2)
    assert delivery.get(ANN, request).status == "Running"
    finish(delivery, take(delivery))
    found = delivery.get(ANN, request)
    assert (found.status, found.files, found.completed) == ("Running", 2, 1)
    finish(delivery, take(delivery))
    found = delivery.get(ANN, request)
    assert (found.status, found.completed, found.failed, found.bytes) == ("Complete", 2, 0, 20)
    assert delivery.lease("worker", memory=4000) is None


def test_a_file_is_had_by_one_transformer_at_a_time(delivery: Delivery) -> None:
    submit(delivery)
    take(delivery)
    assert delivery.lease("another", memory=4000) is None


def test_a_lost_transformer_s_file_goes_to_another_and_counts_once(
    delivery: Delivery, clock: Clock
) -> None:
    request = submit(delivery)
    first = take(delivery)
    clock.now += delivery.settings.limits.lease_s - 1
    assert delivery.reap() == 0
    delivery.renew(first.file, first.attempt)
    clock.now += delivery.settings.limits.lease_s - 1
    assert delivery.reap() == 0, "a renewed lease is good for longer"
    clock.now += 2
    assert delivery.reap() == 1
    clock.now += 60
    second = take(delivery)
    assert (second.file, second.attempt) == (first.file, 2)
    for late in (
        lambda: delivery.renew(first.file, first.attempt),
        lambda: delivery.upload(first.file, first.attempt),
        lambda: finish(delivery, first),
        lambda: delivery.fail(first.file, 1, reason="X", message="x", again=False),
    ):
        with pytest.raises(LeaseLostError):
            late()
    finish(delivery, second)
    with pytest.raises(LeaseLostError):
        finish(delivery, second)
    found = delivery.get(ANN, request)
    assert (found.status, found.completed, found.failed) == ("Complete", 1, 0)


def test_what_was_lost_too_often_has_failed(delivery: Delivery, clock: Clock) -> None:
    request = submit(delivery)
    for _ in range(delivery.settings.limits.attempts):
        take(delivery)
        clock.now += 200
        delivery.reap()
        clock.now += 200
    found = delivery.get(ANN, request)
    assert (found.status, found.failed) == ("Fatal", 1)
    assert "TransformerLost" in found.reason
    assert "3 times" in found.reason


def test_memory_doubles_after_it_ran_out_up_to_the_limit(delivery: Delivery, clock: Clock) -> None:
    request = submit(delivery)
    used = []
    while delivery.get(ANN, request).status == "Running":
        lease = take(delivery)
        used.append(lease.memory)
        again = {"reason": "OutOfMemory", "message": "used more", "again": True}
        delivery.fail(lease.file, lease.attempt, **again)
        clock.now += 100
        small = delivery.lease("small", memory=lease.memory)
        assert small is None, "one with less memory does not get it again"
    assert used == [1000, 2000, 3000]
    assert delivery.get(ANN, request).status == "Fatal"


def test_a_user_s_mistake_is_not_tried_again_but_an_outage_is(
    delivery: Delivery, clock: Clock
) -> None:
    request = submit(delivery, files=2)
    mistake, outage = take(delivery), take(delivery)
    told = {"message": "no branch 'x'", "reason": "MissingBranch"}
    delivery.fail(mistake.file, 1, **told, again=False, log="the log")
    delivery.fail(outage.file, 1, reason="CannotRead", message="away", again=True)
    assert delivery.lease("worker", memory=4000) is None, "not at once"
    clock.now += 10
    finish(delivery, take(delivery))
    found = delivery.get(ANN, request)
    assert (found.status, found.completed, found.failed) == ("Fatal", 1, 1)
    told = "1 of 2 files failed; MissingBranch: no branch 'x' [its log ends: the log]"
    assert found.reason == told
    assert [file.log for file in delivery.files(ANN, request)] == ["the log", ""]


def test_a_failed_request_tells_of_several_files(delivery: Delivery) -> None:
    request = submit(delivery, files=9)
    for number, lease in enumerate([take(delivery) for _ in range(9)]):
        log = f"begin\n\n  one\ntwo\nthree {number}\n"
        failed = {"reason": "MissingTree", "message": f"file {number} has no tree", "log": log}
        delivery.fail(lease.file, 1, **failed, again=False)
    reasons = "; ".join(f"MissingTree: file {number} has no tree" for number in range(1, 5))
    assert delivery.get(ANN, request).reason == (
        "9 of 9 files failed; MissingTree: file 0 has no tree [its log ends: one / two / three 0]; "
        f"{reasons}; and 4 more"
    )


def test_incomplete_results_pass_for_complete_ones_where_that_is_asked_for(
    delivery: Delivery,
) -> None:
    lax = changed(delivery, fail_closed=False)
    request = submit(lax)
    lease = take(lax)
    lax.fail(lease.file, 1, reason="X", message="x", again=False)
    assert lax.get(ANN, request).status == "Complete"


def test_results_come_in_an_order_that_no_reader_can_miss(delivery: Delivery) -> None:
    """The client asks for what is later than the last it saw: trap 3.  The clock stands still."""
    request = submit(delivery, files=3)
    leases = [take(delivery) for _ in range(3)]
    seen: list[int] = []
    last = 0
    for lease in reversed(leases):
        finish(delivery, lease)
        fresh = delivery.results(ANN, request, last)
        assert len(fresh) == 1
        seen.append(fresh[0].number)
        last = fresh[0].result_at
    assert seen == [2, 1, 0]


def test_files_are_given_out_to_users_in_turn(delivery: Delivery) -> None:
    mine, theirs = submit(delivery, ANN, files=4), submit(delivery, BOB, files=2)
    order = [take(delivery).request for _ in range(6)]
    assert order[:4] == [mine, theirs, mine, theirs]
    assert order[4:] == [mine, mine]


def test_a_small_request_does_not_wait_for_the_user_s_own_large_one(delivery: Delivery) -> None:
    large, small = submit(delivery, files=50), submit(delivery, title="small")
    assert [take(delivery).request for _ in range(3)] == [large, small, large]


def test_shared_transformers_get_no_user_s_function(delivery: Delivery) -> None:
    source = "ZGVmIHJ1bl9xdWVyeShmKToKICAgIHJldHVybiBmCg=="
    request = submit(delivery, codegen="python", selection=source)
    other = submit(delivery, codegen="python", selection=source, title="other")
    assert delivery.lease("shared", memory=4000) is None
    lease = take(delivery, request=request)
    assert lease.request == request
    assert delivery.lease("own", memory=4000, request=request) is None, "and no other's"
    with pytest.raises(LeaseLostError):
        delivery.complete(lease.file, 1, DONE, request=other)
    delivery.complete(lease.file, 1, DONE, request=request)


def test_only_the_owner_gets_at_a_request(delivery: Delivery) -> None:
    request = submit(delivery, ANN)
    for call in (delivery.get, delivery.files, delivery.cancel, delivery.delete):
        with pytest.raises(ForbiddenError):
            call(BOB, request)  # type: ignore[operator]
        with pytest.raises(NotFoundError):
            call(ANN, "absent")  # type: ignore[operator]
    assert delivery.mine(BOB) == []
    assert [one.id for one in delivery.mine(ANN)] == [request]
    # A user of the same name who comes later is another one.
    with pytest.raises(ForbiddenError):
        delivery.get(Owner("ann", "uid-later"), request)


def test_a_canceled_request_takes_its_files_from_transformers(delivery: Delivery) -> None:
    request = submit(delivery, files=2)
    lease = take(delivery)
    assert delivery.cancel(ANN, request).status == "Canceled"
    with pytest.raises(LeaseLostError):
        delivery.renew(lease.file, lease.attempt)
    assert delivery.lease("worker", memory=4000) is None
    assert delivery.cancel(ANN, request).status == "Canceled"


def stored(delivery: Delivery, request: str) -> list[str]:
    found = delivery.get(ANN, request)
    return delivery.store.names(Place(found.owner, found.folder))


def store(delivery: Delivery, lease: Lease, tmp_path: Path) -> str:
    """Store an object as a transformer would; return its name."""
    name = delivery.upload(lease.file, lease.attempt).partition("?")[0].rpartition("/")[2]
    path = tmp_path / "results" / "ann" / lease.request / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"0123456789")
    return name


def test_the_same_again_has_its_result_at_once_whatever_the_order(
    delivery: Delivery, tmp_path: Path
) -> None:
    first = submit(delivery, files=2)
    for _ in range(2):
        lease = take(delivery)
        store(delivery, lease, tmp_path)
        finish(delivery, lease)
    listed = ["root://origin//1.root", "root://origin//0.root"]
    again = submit(delivery, **{"file-list": listed, "title": "other"})
    found = delivery.get(ANN, again)
    assert (found.status, found.completed, found.folder) == ("Complete", 2, first)
    assert len(delivery.results(ANN, again, 0)) == 2
    assert delivery.get(BOB, submit(delivery, BOB, files=2)).status == "Running"
    assert delivery.get(ANN, submit(delivery, files=1)).status == "Running"
    form = submit(delivery, files=2, **{"result-format": "root-file"})
    assert delivery.get(ANN, form).status == "Running"
    # What is shared stays until the last one goes.
    delivery.delete(ANN, first)
    assert len(stored(delivery, again)) == 2
    place = Place("ann", found.folder)
    delivery.delete(ANN, again)
    assert delivery.store.names(place) == []
    assert delivery.get(ANN, submit(delivery, files=2)).status == "Running", "made anew"


def test_what_comes_late_to_a_deleted_request_is_removed_too(
    delivery: Delivery, clock: Clock, tmp_path: Path
) -> None:
    request = submit(delivery)
    key = delivery.get(ANN, request).access_key
    lease = take(delivery)
    name = store(delivery, lease, tmp_path)
    delivery.delete(ANN, request)
    place = Place("ann", request)
    assert delivery.store.names(place) == []
    assert delivery.grant(key) is None
    assert delivery.mine(ANN) == []
    with pytest.raises(NotFoundError):
        delivery.get(ANN, request)
    with pytest.raises(LeaseLostError):
        finish(delivery, lease)
    late = tmp_path / "results" / "ann" / request / name
    late.parent.mkdir(exist_ok=True)
    late.write_bytes(b"late")
    assert delivery.retain() == 0, "not before it can be no more"
    clock.now += LATE_S + 1
    assert delivery.retain() == 1
    assert delivery.store.names(place) == []


def test_a_look_up_holds_nobody_up(delivery: Delivery) -> None:
    request = submit(delivery, **{"file-list": None, "did": "xrootd://root://h//*"})

    def find(_: str) -> list[dict[str, Any]]:
        # While it goes on, others are served, and the request itself can be canceled.
        finish(delivery, take(delivery, request=submit(delivery, BOB)))
        delivery.cancel(ANN, request)
        return [{"paths": ["root://h//a"]}]

    assert delivery.look_up(find)
    assert delivery.get(ANN, request).status == "Canceled"


def test_a_failed_request_is_no_result_for_another(delivery: Delivery) -> None:
    submit(delivery)
    lease = take(delivery)
    delivery.fail(lease.file, 1, reason="X", message="x", again=False)
    assert delivery.get(ANN, submit(delivery)).status == "Running"


def test_no_object_is_left_that_no_file_names(
    delivery: Delivery, clock: Clock, tmp_path: Path
) -> None:
    request = submit(delivery)
    first = take(delivery)
    lost = store(delivery, first, tmp_path)
    clock.now += 200
    delivery.reap()
    clock.now += 200
    second = take(delivery)
    kept = store(delivery, second, tmp_path)
    assert lost != kept
    finish(delivery, second)
    assert stored(delivery, request) == [kept], "an earlier attempt's goes with the later one's end"
    # The lost one comes back, and stores what it had.
    path = tmp_path / "results" / "ann" / request / lost
    path.write_bytes(b"late")
    assert delivery.sweep() == [], "not before it can be no more"
    clock.now += LATE_S + 1
    assert delivery.sweep() == [lost]
    assert stored(delivery, request) == [kept]


def test_results_go_when_their_time_is_over(delivery: Delivery, clock: Clock) -> None:
    request = submit(delivery)
    finish(delivery, take(delivery))
    clock.now += delivery.settings.limits.retention_s - 1
    assert delivery.retain() == 0
    clock.now += 2
    assert delivery.retain() == 1
    with pytest.raises(NotFoundError):
        delivery.get(ANN, request)


def test_the_oldest_go_of_a_user_who_holds_too_much(delivery: Delivery, clock: Clock) -> None:
    limits = delivery.settings.limits.model_copy(update={"bytes_per_user": 25})
    small = changed(delivery, limits=limits)
    requests = []
    for number in range(3):
        requests.append(submit(small, title=f"t{number}"))
        finish(small, take(small))
        clock.now += 1
    other = submit(small, BOB)
    finish(small, take(small))
    assert small.retain() == 1
    assert [one.id for one in small.mine(ANN)] == requests[:0:-1]
    assert [one.id for one in small.mine(BOB)] == [other]


def test_a_user_s_own_quota_comes_before_the_usual_one(delivery: Delivery, clock: Clock) -> None:
    limits = delivery.settings.limits.model_copy(update={"bytes_per_user": 25})
    small = changed(delivery, limits=limits)
    small.welcome(ANN.user, Quota(gigabytes=0))
    small.welcome(BOB.user, Quota(gigabytes=15e-9))
    for owner in (ANN, BOB):
        for number in range(3):
            submit(small, owner, title=f"t{number}")
            finish(small, take(small))
            clock.now += 1
    assert small.retain() == 2
    assert [len(small.mine(owner)) for owner in (ANN, BOB)] == [3, 1]
    small.welcome(ANN.user, Quota(gigabytes=25e-9))
    assert small.retain() == 1


def test_a_user_of_twice_the_share_gets_twice_the_files(delivery: Delivery) -> None:
    delivery.welcome(BOB.user, Quota(share=2))
    mine, theirs = submit(delivery, ANN, files=9), submit(delivery, BOB, files=9)
    order = [take(delivery).request for _ in range(9)]
    assert (order.count(mine), order.count(theirs)) == (3, 6)


def test_a_user_who_is_forgotten_leaves_nothing(delivery: Delivery, clock: Clock) -> None:
    done, running, other = submit(delivery), submit(delivery, title="b"), submit(delivery, BOB)
    finish(delivery, take(delivery))
    delivery.welcome(ANN.user, Quota(gigabytes=1))
    delivery.forget(ANN.user)
    assert delivery.mine(ANN) == []
    for request in (done, running):
        with pytest.raises(NotFoundError):
            delivery.get(ANN, request)
    assert [one.id for one in delivery.mine(BOB)] == [other]
    assert take(delivery).request == other
    assert delivery.lease("w", memory=4000) is None, "of the forgotten user's nothing runs"
    delivery.forget(ANN.user)
    clock.now += LATE_S + 1
    delivery.retain()
    assert not list((delivery.settings.objects.folder or Path()).rglob(f"*{done}*"))


def test_an_overdue_request_ends(delivery: Delivery, clock: Clock) -> None:
    request = submit(delivery)
    clock.now += delivery.settings.limits.request_deadline_s + 1
    delivery.reap()
    assert delivery.get(ANN, request).status == "Fatal"
    assert "Overdue" in delivery.get(ANN, request).reason


def test_what_a_revoked_user_had_under_way_ends(delivery: Delivery, clock: Clock) -> None:
    mine, theirs = submit(delivery, ANN), submit(delivery, BOB)
    key = delivery.get(ANN, mine).access_key
    assert delivery.grant(key)
    assert delivery.revoke({ANN.uid: clock.now - 1}) == 0, "let in again since"
    assert delivery.revoke({ANN.uid: clock.now}) == 1
    assert delivery.get(BOB, theirs).status == "Running"
    assert delivery.grant(key) is None, "the keys stay void when the revocation is forgotten"
    assert delivery.grant("") is None
    back = delivery.get(ANN, mine)
    assert back.status == "Canceled"
    assert back.access_key not in ("", key), "a user who is let in again gets others"
    assert delivery.grant(back.access_key)


BAD: dict[str, Any] = {
    "codegen": ({"codegen": "atlasr25"}, "no codegen 'atlasr25'"),
    "empty": ({"file-list": []}, "empty"),
    "twice": ({"file-list": ["a", "b", "a"]}, "'a' twice"),
    "scheme": ({"file-list": None, "did": "ftp://x"}, "must begin with one of rucio://"),
    "nothing": ({"file-list": None}, "give a did, or a file-list"),
    "json": ({"selection": "[{"}, "no JSON"),
    "query": ({"selection": '[{"treename": "E", "expression": ["x"]}]'}, "expression"),
    "histograms": ({"selection": '[{"copy_histograms": "h"}]'}, "root-file"),
    "names": ({"selection": json.dumps([{"treename": {"a": "x", "b": "x"}}])}, "named x"),
    "qastle": ({"codegen": "uproot", "selection": "(call"}, "no qastle"),
    "dataset": ({"codegen": "uproot", "selection": "(call Select 1 2)"}, "qastle|EventDataset"),
    "base64": ({"codegen": "python", "selection": "def"}, "base64"),
    "volume": ({"result-destination": "volume"}, "files below your bucket"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_can_never_work_is_refused(delivery: Delivery, case: str) -> None:
    more, told = BAD[case]
    with pytest.raises(QueryError, match=told):
        submit(delivery, **more)
    assert delivery.mine(ANN) == []


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "file:///etc/passwd", "https://x/a.root::file:///etc/x", "simplecache::x://y"],
)
def test_transformers_of_a_facility_read_no_files_of_their_own(
    delivery: Delivery, path: str
) -> None:
    facility = changed(delivery, local_files=False)
    with pytest.raises(QueryError, match="give root:// or https://"):
        submit(facility, **{"file-list": [path]})
    for good in ("root://host:1094//a.root", "https://host:8443/a.root", "davs://host/a.root"):
        assert submit(facility, **{"file-list": [good]})
    assert facility.places(["davs://host/a.root"]) == ["https://host/a.root"]


def test_a_long_list_of_files_is_taken(delivery: Delivery) -> None:
    request = submit(delivery, files=10_000)
    assert delivery.get(ANN, request).files == 10_000
    finish(delivery, take(delivery))
    few = delivery.settings.limits.model_copy(update={"files_per_request": 9})
    with pytest.raises(QueryError, match="at most 9"):
        submit(changed(delivery, limits=few), files=10)


def dataset(delivery: Delivery, did: str, found: Any) -> str:
    request = submit(delivery, **{"file-list": None, "did": did})
    assert delivery.get(ANN, request).status == "Lookup"

    def find(name: str) -> list[dict[str, Any]]:
        assert name == did.partition("?")[0]
        if isinstance(found, Exception):
            raise found
        return [{"paths": [path], "size": 7} for path in found]

    assert delivery.look_up(find)
    return request


def test_a_dataset_is_looked_up_once_and_anew_when_it_was_deleted(delivery: Delivery) -> None:
    did = "xrootd://root://origin//*.root"
    first = dataset(delivery, f"{did}?files=2", ["c", "b", "a"])
    assert [file.places for file in delivery.files(ANN, first)] == [["a"], ["b"]]
    second = dataset(delivery, did, AssertionError("not asked again"))
    assert delivery.get(ANN, second).files == 3
    (known,) = delivery.datasets(ANN)
    assert (known.name, known.finder, known.status) == (did, "xrootd", "complete")
    with pytest.raises(ForbiddenError):
        delivery.dataset(BOB, known.id)
    delivery.forget_dataset(ANN, known.id)
    assert delivery.datasets(ANN) == []
    assert len(delivery.datasets(ANN, deleted=True)) == 1
    third = dataset(delivery, did, ["d"])
    assert delivery.get(ANN, third).files == 1
    assert not delivery.look_up(lambda _: [])


@pytest.mark.parametrize(
    ("found", "status"),
    [([], "does_not_exist"), (LookupFailedError("bad_name", "give a number"), "bad_name")],
)
def test_a_bad_dataset_ends_the_request_and_says_why(
    delivery: Delivery, found: Any, status: str
) -> None:
    request = delivery.get(ANN, dataset(delivery, "cernopendata://x", found))
    assert request.status == "Bad Dataset"
    assert delivery.dataset(ANN, request.dataset_id).status == status
    assert request.reason in ("cernopendata://x has no files", "give a number")


def test_files_are_read_through_the_cache_and_else_from_their_origin(delivery: Delivery) -> None:
    cached = changed(delivery, cache_prefix="root://cache:1094")
    web, remote = "https://host/b.root", "root://origin//a.root"
    assert cached.places([remote, web]) == [f"root://cache:1094//{remote}", remote, web]
    assert delivery.places([remote]) == [remote]
