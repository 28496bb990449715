"""Transform requests: what is accepted, who may read them, and reuse of results."""

import json
from typing import Any

import pytest
from coffea_shoppe_servicex.backend import Backend
from coffea_shoppe_servicex.errors import (
    ForbiddenError,
    LeaseLostError,
    NotFoundError,
    QueryError,
)
from coffea_shoppe_servicex.models import Owner
from coffea_shoppe_servicex.objects import ObjectPrefix
from servicex_helpers import ANN, BOB, changed, finish, stored, submit, take


def test_results_come_in_an_order_that_no_reader_can_miss(backend: Backend) -> None:
    """The client asks for what is later than the last it saw: trap 3.  The clock stands still."""
    request = submit(backend, files=3)
    leases = [take(backend) for _ in range(3)]
    seen: list[int] = []
    last = 0
    for lease in reversed(leases):
        finish(backend, lease)
        fresh = backend.requests.results(ANN, request, last)
        assert len(fresh) == 1
        seen.append(fresh[0].number)
        last = fresh[0].result_at
    assert seen == [2, 1, 0]


def test_only_the_owner_gets_at_a_request(backend: Backend) -> None:
    request = submit(backend, ANN)
    requests = backend.requests
    for call in (requests.get, requests.files, requests.cancel, requests.delete):
        with pytest.raises(ForbiddenError):
            call(BOB, request)
        with pytest.raises(NotFoundError):
            call(ANN, "absent")
    assert backend.requests.owned_by(BOB) == []
    assert [one.id for one in backend.requests.owned_by(ANN)] == [request]
    # A user of the same name who comes later is another one.
    with pytest.raises(ForbiddenError):
        backend.requests.get(Owner("ann", "uid-later"), request)


def test_a_canceled_request_takes_its_files_from_transformers(backend: Backend) -> None:
    request = submit(backend, files=2)
    lease = take(backend)
    assert backend.requests.cancel(ANN, request).status == "Canceled"
    with pytest.raises(LeaseLostError):
        backend.queue.renew(lease.file, lease.attempt)
    assert backend.queue.lease("transformer", memory=4000) is None
    assert backend.requests.cancel(ANN, request).status == "Canceled"


def test_the_same_again_has_its_result_at_once_whatever_the_order(backend: Backend) -> None:
    first = submit(backend, files=2)
    for _ in range(2):
        finish(backend, take(backend))
    listed = ["root://origin//1.root", "root://origin//0.root"]
    again = submit(backend, file_list=listed, title="other")
    found = backend.requests.get(ANN, again)
    assert (found.status, found.completed, found.folder) == ("Complete", 2, first)
    assert len(backend.requests.results(ANN, again, 0)) == 2
    assert backend.requests.get(BOB, submit(backend, BOB, files=2)).status == "Running"
    assert backend.requests.get(ANN, submit(backend, files=1)).status == "Running"
    form = submit(backend, files=2, result_format="root-file")
    assert backend.requests.get(ANN, form).status == "Running"
    # What is shared stays until the last one goes.
    backend.requests.delete(ANN, first)
    assert len(stored(backend, again)) == 2
    prefix = ObjectPrefix("ann", found.folder)
    backend.requests.delete(ANN, again)
    assert backend.context.store.sizes(prefix) == {}
    assert backend.requests.get(ANN, submit(backend, files=2)).status == "Running", "made anew"


def test_a_failed_request_is_no_result_for_another(backend: Backend) -> None:
    submit(backend)
    lease = take(backend)
    backend.queue.fail(lease.file, 1, reason="X", message="x", retry=False)
    assert backend.requests.get(ANN, submit(backend)).status == "Running"


BAD: dict[str, Any] = {
    "codegen": ({"codegen": "atlasr25"}, "no codegen 'atlasr25'"),
    "empty": ({"file-list": []}, "empty"),
    "twice": ({"file-list": ["a", "b", "a"]}, "'a' twice: name each file once"),
    "twice, spelt otherwise": ({"file-list": ["a", "./b/../a"]}, "twice, the first time as 'a'"),
    "scheme": ({"file-list": None, "did": "ftp://x"}, "must begin with one of rucio://"),
    "nothing": ({"file-list": None}, "set did or file-list"),
    "json": ({"selection": "[{"}, "not valid JSON"),
    "query": ({"selection": '[{"treename": "E", "expression": ["x"]}]'}, "expression"),
    "histograms": ({"selection": '[{"copy_histograms": "h"}]'}, "root-file"),
    "names": ({"selection": json.dumps([{"treename": {"a": "x", "b": "x"}}])}, "named x"),
    "qastle": ({"codegen": "uproot", "selection": "(call"}, "not valid qastle"),
    "dataset": ({"codegen": "uproot", "selection": "(call Select 1 2)"}, "qastle|EventDataset"),
    "base64": ({"codegen": "python", "selection": "def"}, "base64"),
    "volume": ({"result-destination": "volume"}, "files below your bucket"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_can_never_work_is_refused(backend: Backend, case: str) -> None:
    more, told = BAD[case]
    with pytest.raises(QueryError, match=told):
        submit(backend, **more)
    assert backend.requests.owned_by(ANN) == []


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "file:///etc/passwd", "https://x/a.root::file:///etc/x", "simplecache::x://y"],
)
def test_transformers_of_a_facility_read_no_files_of_their_own(backend: Backend, path: str) -> None:
    facility = changed(backend, local_files=False)
    with pytest.raises(QueryError, match="give root:// or https://"):
        submit(facility, file_list=[path])
    for good in ("root://host:1094//a.root", "https://host:8443/a.root", "davs://host/a.root"):
        assert submit(facility, file_list=[good])
    assert facility.queue.source_urls(["davs://host/a.root"]) == ["https://host/a.root"]


def test_a_long_list_of_files_is_taken(backend: Backend) -> None:
    request = submit(backend, files=10_000)
    assert backend.requests.get(ANN, request).files == 10_000
    finish(backend, take(backend))
    few = backend.context.settings.limits.model_copy(update={"files_per_request": 9})
    with pytest.raises(QueryError, match="at most 9"):
        submit(changed(backend, limits=few), files=10)
