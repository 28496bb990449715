"""Look-ups of datasets, and what they do to the requests that wait for them."""

import threading
from typing import Any

import pytest
from coffea_shoppe_servicex import addresses
from coffea_shoppe_servicex.backend import Backend
from coffea_shoppe_servicex.database import Request, transaction
from coffea_shoppe_servicex.errors import ForbiddenError, QueryError
from coffea_shoppe_servicex.finders import LookupFailedError
from servicex_helpers import ANN, BOB, finish, submit, take, unchanged


def dataset(backend: Backend, did: str, found: Any) -> str:
    request = submit(backend, file_list=None, did=did)
    assert backend.requests.get(ANN, request).status == "Lookup"

    def find(name: str) -> list[dict[str, Any]]:
        assert name == did.removesuffix("?files=2")
        if isinstance(found, Exception):
            raise found
        return [{"paths": [path], "size": 7} for path in found]

    assert backend.datasets.look_up(find, unchanged)
    return request


def test_a_dataset_is_looked_up_once_and_anew_when_it_was_deleted(backend: Backend) -> None:
    did = "xrootd://root://origin//*.root"
    first = dataset(backend, f"{did}?files=2", ["c", "b", "a"])
    assert [file.urls for file in backend.requests.files(ANN, first)] == [["a"], ["b"]]
    second = dataset(backend, did, AssertionError("not asked again"))
    assert backend.requests.get(ANN, second).files == 3
    (known,) = backend.datasets.owned_by(ANN)
    assert (known.name, known.finder, known.status) == (did, "xrootd", "complete")
    with pytest.raises(ForbiddenError):
        backend.datasets.get(BOB, known.id)
    backend.datasets.mark_stale(ANN, known.id)
    assert backend.datasets.owned_by(ANN) == []
    assert len(backend.datasets.owned_by(ANN, deleted=True)) == 1
    third = dataset(backend, did, ["d"])
    assert backend.requests.get(ANN, third).files == 1
    assert not backend.datasets.look_up(lambda _: [], unchanged)


def test_an_option_that_was_accepted_once_ends_its_request(backend: Backend) -> None:
    request = submit(backend, file_list=None, did="rucio://a:b")
    with transaction(backend.context.engine) as session:
        session.get_one(Request, request).did = "rucio://a:b?file=2"
    assert backend.datasets.look_up(lambda _: [], unchanged)
    ended = backend.requests.get(ANN, request)
    assert (ended.status, ended.reason) == (
        "Fatal",
        "did: 'file=2' is no option of rucio://a:b: give ?files=N, or nothing",
    )
    with pytest.raises(QueryError, match="is no option"):
        submit(backend, file_list=None, did="rucio://a:b?file=2")


def test_a_request_with_such_an_option_that_was_canceled_stays_canceled(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = submit(backend, file_list=None, did="xrootd://root://origin//*.root")

    def split(name: str) -> Any:
        backend.requests.cancel(ANN, request)
        raise QueryError(f"did: {name!r} has an option that is unknown")

    monkeypatch.setattr(addresses, "split_did", split)
    assert backend.datasets.look_up(lambda _: [], unchanged)
    canceled = backend.requests.get(ANN, request)
    assert (canceled.status, canceled.reason) == ("Canceled", "canceled by its user")


def test_a_dataset_that_names_a_file_several_times_has_it_once(backend: Backend) -> None:
    names = ["root://h//b.root", "root://h//a.root"]
    request = dataset(backend, "rucio://x:y", [*names, *names, "xroot://h:1094//a.root"])
    files = backend.requests.files(ANN, request)
    assert [file.urls[0] for file in files] == sorted(names)


@pytest.mark.parametrize(
    ("found", "status"),
    [([], "does_not_exist"), (LookupFailedError("bad_name", "give a number"), "bad_name")],
)
def test_a_bad_dataset_ends_the_request_and_says_why(
    backend: Backend, found: Any, status: str
) -> None:
    request = backend.requests.get(ANN, dataset(backend, "cernopendata://x", found))
    assert request.status == "Bad Dataset"
    assert backend.datasets.get(ANN, request.dataset_id).status == status
    assert request.reason in ("cernopendata://x has no files", "give a number")


def test_a_look_up_holds_nobody_up(backend: Backend) -> None:
    request = submit(backend, file_list=None, did="xrootd://root://h//*")

    def find(_: str) -> list[dict[str, Any]]:
        # While it goes on, others are served, and the request itself can be canceled.
        finish(backend, take(backend, request_id=submit(backend, BOB)))
        backend.requests.cancel(ANN, request)
        return [{"paths": ["root://h//a"]}]

    assert backend.datasets.look_up(find, unchanged)
    assert backend.requests.get(ANN, request).status == "Canceled"


def test_look_ups_are_shared_among_users(backend: Backend) -> None:
    """Threads look up at once, and one user's slow look-ups leave room for another's."""
    go_on = threading.Event()
    started: list[str] = []
    more = threading.Condition()

    def find(name: str) -> list[dict[str, Any]]:
        ending = name.rpartition("/")[2]
        with more:
            started.append(ending)
            more.notify_all()
        if ending.startswith("slow"):
            assert go_on.wait(60)
        return [{"paths": [f"root://h//{ending}.root"]}]

    def begin(count: int) -> threading.Thread:
        """Look up in a thread; return it once `count` look-ups have started."""
        thread = threading.Thread(
            target=backend.datasets.look_up, args=(find, unchanged), daemon=True
        )
        thread.start()
        with more:
            assert more.wait_for(lambda: len(started) == count, 60)
        return thread

    for number in range(4):
        submit(backend, file_list=None, did=f"xrootd://root://h//slow{number}")
    threads = [begin(1)]
    quick = [
        submit(backend, BOB, file_list=None, did=f"xrootd://root://h//quick{number}")
        for number in range(2)
    ]
    # Ann's other requests are older than Bob's.
    assert backend.datasets.look_up(find, unchanged)
    assert backend.datasets.look_up(find, unchanged)
    assert [backend.requests.get(BOB, request).status for request in quick] == ["Running"] * 2
    threads.append(begin(4))
    assert not backend.datasets.look_up(find, unchanged), "Ann has two, and there is room"
    go_on.set()
    for thread in threads:
        thread.join(60)
    assert backend.datasets.look_up(find, unchanged)
    assert backend.datasets.look_up(find, unchanged)
    assert not backend.datasets.look_up(find, unchanged)
    assert sorted(started) == ["quick0", "quick1", "slow0", "slow1", "slow2", "slow3"]
