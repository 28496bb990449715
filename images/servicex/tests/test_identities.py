"""What a request reads is identified by what it is, not by its name."""

import http.server
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import awkward as ak
import pytest
import uproot
from coffea_shoppe_servicex import estimate, identities, isolation, lookups
from coffea_shoppe_servicex.backend import Backend
from coffea_shoppe_servicex.codegen import Outcome
from coffea_shoppe_servicex.codegens import Codegens
from coffea_shoppe_servicex.codegens.uproot_raw import UprootRaw
from coffea_shoppe_servicex.database import File, Request, transaction
from coffea_shoppe_servicex.errors import TransformError, UnreadableError
from coffea_shoppe_servicex.identities import Identity
from coffea_shoppe_servicex.models import Submission
from coffea_shoppe_servicex.root_files import opened
from coffea_shoppe_servicex.transform import transform
from servicex import ProgressBarFormat, dataset, query
from servicex import deliver as stock
from servicex.query_core import Query
from servicex_helpers import (
    ANN,
    BOB,
    RAW,
    Service,
    changed,
    finish,
    look_up,
    raw,
    submit,
    take,
    unchanged,
)
from xrootd_origin import PROXY, REDIRECTOR, SERVER, XRootDOrigin, xrootd_origin

X = raw(treename="t", expressions="x")


class Origin(http.server.ThreadingHTTPServer):
    """Gives headers of files by path, and counts how often it is asked for each."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, str]] = {}
        self.methods = {"HEAD": 200, "GET": 206}
        """Method → status."""
        self.redirects: dict[str, str] = {}
        """Paths → URLs."""
        self.requests: list[tuple[str, str]] = []
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Origin

    def do_HEAD(self) -> None:
        self.server.requests.append((self.command, self.path))
        if url := self.server.redirects.get(self.path):
            self.send_response(302)
            self.send_header("Location", url)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        headers = self.server.files.get(self.path)
        status = self.server.methods[self.command] if headers is not None else 404
        self.send_response(status)
        size = (headers or {}).get("size", "0")
        if status == 206:
            self.send_header("Content-Range", f"bytes 0-0/{size}")
            self.send_header("Content-Length", "1")
        elif status == 200 and "size" in (headers or {}):
            self.send_header("Content-Length", size)
        for name, value in (headers or {}).items():
            if name != "size":
                self.send_header(name, value)
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(b"r")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def web() -> Iterator[Origin]:
    with Origin() as origin:
        threading.Thread(target=origin.serve_forever, daemon=True).start()
        yield origin
        origin.shutdown()


@pytest.fixture
def xrootd() -> Iterator[XRootDOrigin]:
    with xrootd_origin() as origin:
        yield origin


def identify(files: Sequence[Sequence[str]]) -> list[Identity]:
    return lookups.identify(files, local_files=True)


def request(backend: Backend, *urls: str, selection: str = X) -> Request:
    """Submit a request, and look its files up at their origins."""
    asked = {"file-list": list(urls), "selection": selection, "codegen": "uproot-raw"}
    created = backend.requests.submit(ANN, _submission(asked))
    assert backend.datasets.look_up(lambda _: [], identify)
    return backend.requests.get(ANN, created.id)


def _submission(asked: dict[str, Any]) -> Any:
    from coffea_shoppe_servicex.models import Submission

    return Submission.model_validate(asked)


def complete(backend: Backend, *urls: str, **more: Any) -> Request:
    """Return a request whose result is stored."""
    created = request(backend, *urls, **more)
    for _ in urls:
        finish(backend, take(backend, request_id=created.id))
    return backend.requests.get(ANN, created.id)


def write(path: Path, value: int, count: int = 5) -> Path:
    """Write a file whose size does not depend on the values."""
    with uproot.recreate(path, compression=None) as file:
        file.mktree("t", {"x": "i4"})
        file["t"].extend({"x": [value] * count})
    return path


# What origins say.


def test_identities_are_what_origins_say(web: Origin, xrootd: XRootDOrigin, tmp_path: Path) -> None:
    changed_at = "Mon, 02 Nov 2026 10:00:00 GMT"
    web.files["/a.root"] = {"size": "70", "Last-Modified": changed_at, "ETag": '"7"'}
    web.files["/bare.root"] = {"size": "71"}
    xrootd.files = {"/b.root": (72, 1_793_613_600), "/timeless.root": (73, 0)}
    local = tmp_path / "c.root"
    local.write_bytes(b"root")
    urls = [
        *(f"{web.url}/a.root", f"{web.url}/bare.root"),
        *(f"{xrootd.address}//b.root", f"{xrootd.address}//timeless.root", str(local)),
    ]
    first, bare, root, timeless, here = identify([[url] for url in urls])
    assert first == {"url": urls[0], "size": 70, "mtime": changed_at, "etag": '"7"'}
    assert bare == {"url": urls[1], "size": 71, "mtime": "", "etag": ""}
    assert root == {"url": urls[2], "size": 72, "mtime": "2026-11-02T10:00:00Z", "etag": ""}
    assert timeless == {"url": urls[3], "size": 73, "mtime": "", "etag": ""}
    assert (here["url"], here["size"]) == (str(local), 4)
    assert len(web.requests) == 2, "the origin is asked once for each"


@pytest.mark.parametrize("refusal", [403, 405, 501])
def test_a_url_that_is_signed_for_reading_only_is_identified(web: Origin, refusal: int) -> None:
    web.methods["HEAD"] = refusal
    web.files["/a.root?signature=s"] = {"size": "70", "ETag": '"7"'}
    (identity,) = identify([[f"{web.url}/a.root?signature=s"]])
    assert (identity["size"], identity["etag"]) == (70, '"7"')


def test_problems_of_origins_are_told_apart(web: Origin, xrootd: XRootDOrigin) -> None:
    web.files["/sizeless.root"] = {"ETag": '"7"'}
    web.files["/good.root"] = {"size": "70", "ETag": '"7"'}
    absent = [f"{web.url}/absent.root", f"{xrootd.address}//absent.root", "/absent.root"]
    away = ["https://nowhere.invalid/a.root", "root://127.0.0.1:9//a.root"]
    unknown = [f"{web.url}/sizeless.root", "ftp://host/a.root"]
    answers = identify([[url] for url in (*absent, *away, *unknown)])
    problems = [identities.ABSENT] * 3 + [identities.UNREACHABLE] * 2 + [identities.UNKNOWN] * 2
    assert [answer["problem"] for answer in answers] == problems
    # A replica that can be identified stands for the file.
    (answer,) = identify([[*away, f"{web.url}/good.root"]])
    assert answer["url"] == f"{web.url}/good.root"


def test_an_origin_that_does_not_respond_is_not_asked_for_each_file() -> None:
    answers = identify([[f"root://127.0.0.1:9//{number}.root"] for number in range(5000)])
    assert {answer["problem"] for answer in answers} == {identities.UNREACHABLE}


def test_identities_are_asked_in_a_process_of_its_own(
    web: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    def here(*_: object, **__: object) -> None:
        raise AssertionError("in this process")

    monkeypatch.setattr(identities, "look_up", here)
    web.files["/a.root"] = {"size": "70"}
    (identity,) = lookups.identify([[f"{web.url}/a.root"]], local_files=False)
    assert identity["size"] == 70
    (refused,) = lookups.identify([["/etc/passwd"]], local_files=False)
    assert "give root:// or https://" in refused["message"]


# What that means for results.


def test_a_result_is_reused_until_its_file_changes(web: Origin, backend: Backend) -> None:
    url = f"{web.url}/a.root"
    web.files["/a.root"] = {"size": "70", "Last-Modified": "then"}
    first = complete(backend, url)
    assert (first.status, first.remarks) == ("Complete", "")
    web.requests.clear()
    again = request(backend, url)
    assert (again.status, again.folder) == ("Complete", first.id)
    assert web.requests == [("HEAD", "/a.root")]
    # The size alone would not tell.
    web.files["/a.root"] = {"size": "70", "Last-Modified": "now"}
    assert request(backend, url).status == "Running"
    web.files["/a.root"] = {"size": "70", "Last-Modified": "then"}
    assert request(backend, url).folder == first.id


def test_a_joined_file_is_part_of_the_result(web: Origin, backend: Backend) -> None:
    join = {"treename": "s", "columns": ["y"], "replace": ["/nano/", "/friends/"]}
    selection = raw(treename="t", expressions="x", join=join)
    for folder in ("nano", "friends"):
        web.files[f"/{folder}/a.root"] = {"size": "70", "ETag": "1"}
    url = f"{web.url}/nano/a.root"
    first = complete(backend, url, selection=selection)
    assert request(backend, url, selection=selection).folder == first.id
    web.files["/friends/a.root"]["ETag"] = "2"
    assert request(backend, url, selection=selection).status == "Running"


def test_size_alone_is_said(web: Origin, backend: Backend) -> None:
    web.files["/a.root"] = {"size": "70"}
    url = f"{web.url}/a.root"
    first = complete(backend, url)
    assert "1 of 1 files are identified by their size only" in first.remarks
    assert url in first.remarks
    assert request(backend, url).folder == first.id
    web.files["/a.root"] = {"size": "71"}
    assert request(backend, url).status == "Running"


MIRRORS = ("/1/a.root", "/2/a.root")


def test_copies_on_other_hosts_are_known_by_their_size(web: Origin, backend: Backend) -> None:
    url, mirrors = f"{web.url}/a.root", f"http://localhost:{web.server_port}"
    for number, path in enumerate(MIRRORS):
        web.files[path] = {"size": "70", "Last-Modified": f"day {number}", "ETag": f"{number}"}
    web.redirects["/a.root"] = f"{mirrors}{MIRRORS[0]}"
    first = complete(backend, url)
    assert "1 of 1 files are identified by their size only" in first.remarks
    assert f"their origin redirects to several servers ({url})" in first.remarks
    web.redirects["/a.root"] = f"{mirrors}{MIRRORS[1]}"
    assert request(backend, url).folder == first.id
    web.files[MIRRORS[1]]["size"] = "71"
    assert request(backend, url).status == "Running"


def test_a_redirect_within_a_host_leads_to_one_file(web: Origin, backend: Backend) -> None:
    url = f"{web.url}/a.root"
    web.files["/1/a.root"] = {"size": "70", "Last-Modified": "day 0"}
    web.redirects["/a.root"] = f"{web.url}/1/a.root"
    first = complete(backend, url)
    assert first.remarks == ""
    assert request(backend, url).folder == first.id
    web.files["/1/a.root"]["Last-Modified"] = "day 1"
    assert request(backend, url).status == "Running"


@pytest.mark.parametrize(
    ("kind", "locations", "copies"),
    [
        (REDIRECTOR, ["Sr127.0.0.1:9", "Sr127.0.0.2:9"], True),
        (REDIRECTOR, ["Mr127.0.0.1:9"], True),
        (REDIRECTOR, ["Sr127.0.0.1:9"], False),
        (SERVER, ["Sr127.0.0.1:9", "Sr127.0.0.2:9"], False),
    ],
)
def test_copies_behind_a_redirector_are_known_by_their_size(
    xrootd: XRootDOrigin, backend: Backend, kind: int, locations: list[str], copies: bool
) -> None:
    xrootd.kind, xrootd.locations = kind, locations
    url = f"{xrootd.address}//a.root"
    xrootd.files = {"/a.root": (70, 1_793_613_600)}
    first = complete(backend, url)
    assert ("redirects to several servers" in first.remarks) is copies
    assert xrootd.locates == (1 if kind == REDIRECTOR else 0)
    xrootd.files = {"/a.root": (70, 1_793_613_601)}
    assert (request(backend, url).folder == first.id) is copies
    xrootd.files = {"/a.root": (71, 1_793_613_600)}
    assert request(backend, url).status == "Running"


def test_only_the_size_of_copies_can_have_changed() -> None:
    timed: Identity = {"url": "u", "size": 7, "mtime": "then", "etag": "1"}
    copies: Identity = {"url": "u", "size": 7, "mtime": "", "etag": "", "copies": True}
    # A server that was away may be back.
    for earlier, now in ((copies, copies), (copies, timed), (timed, copies)):
        assert identities.change(earlier, now) == ""
        assert identities.change(earlier, {**now, "size": 8}).startswith("its size in bytes was 7")
    assert identities.change(timed, {**timed, "mtime": "now"}).startswith("its time of change")


def test_while_an_origin_is_away_its_files_are_what_they_were(
    web: Origin, backend: Backend
) -> None:
    url = f"{web.url}/a.root"
    web.files["/a.root"] = {"size": "70", "ETag": "1"}
    first = complete(backend, url)
    web.methods["HEAD"] = 503
    away = request(backend, url)
    assert (away.status, away.folder) == ("Complete", first.id)
    assert "1 of 1 files are taken as they were at 2027-01-15" in away.remarks
    assert "503" in away.remarks
    # Another query of the same file goes through the cache, which may have it.
    other = request(backend, url, selection=raw(treename="t", expressions="y"))
    (file,) = backend.requests.files(ANN, other.id)
    assert (other.status, file.identity[0]["etag"]) == ("Running", "1")
    never_seen = request(backend, f"{web.url}/b.root")
    assert (never_seen.status, never_seen.cache_key) == ("Running", "")
    assert "could not be identified" in never_seen.remarks
    web.methods["HEAD"] = 200
    back = request(backend, url)
    assert (back.folder, back.remarks) == (first.id, "")
    # What another user knows of a file is not this one's.
    web.methods["HEAD"] = 503
    asked = {"file-list": [url], "selection": X, "codegen": "uproot-raw"}
    bobs = backend.requests.submit(BOB, _submission(asked)).id
    assert backend.datasets.look_up(lambda _: [], identify)
    assert "could not be identified" in backend.requests.get(BOB, bobs).remarks


def test_a_file_that_is_gone_has_no_stored_result(web: Origin, backend: Backend) -> None:
    web.files["/a.root"] = {"size": "70", "ETag": "1"}
    complete(backend, f"{web.url}/a.root")
    del web.files["/a.root"]
    gone = request(backend, f"{web.url}/a.root")
    assert (gone.status, gone.cache_key) == ("Running", "")


def test_requests_without_identities_share_no_result(backend: Backend) -> None:
    for _ in range(2):
        assert complete(backend, "root://127.0.0.1:9//a.root").folder != ""
    first, second = backend.requests.owned_by(ANN)
    assert first.folder != second.folder


def test_a_changed_file_is_another_entry_of_the_cache(backend: Backend) -> None:
    cached = changed(backend, cache_prefix="root://cache:1094")
    url = "root://origin:1094//a.root"

    def through_cache(*identity: dict[str, Any]) -> list[str]:
        urls = cached.queue.source_urls([url], identity)
        assert urls[-1] == url
        return urls[:-1]

    earlier = {"url": url, "size": 7, "mtime": "then", "etag": ""}
    (first,) = through_cache(earlier)
    assert first.startswith(f"root://cache:1094//{url}?shoppe.content=")
    assert through_cache({**earlier, "seen": 5.0}) == [first]
    names = {*through_cache({**earlier, "mtime": "now"}), *through_cache({**earlier, "size": 8})}
    assert len({first, *names}) == 3
    assert through_cache() == [f"root://cache:1094//{url}"]
    away = {"url": url, "problem": identities.UNREACHABLE, "message": ""}
    assert through_cache(away) == [f"root://cache:1094//{url}"]
    # A cache may have what its origin has no longer.
    assert through_cache({**away, "problem": identities.ABSENT}) == []
    submit(cached, file_list=[url])
    assert "shoppe.content=" in take(cached).source_urls[0]


def test_an_estimate_reads_the_present_content_from_the_cache(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = changed(backend, cache_prefix="root://cache:1094")
    url = "root://origin:1094//a.root"
    identity = {"url": url, "size": 7, "mtime": "then", "etag": ""}
    sources: list[list[str]] = []

    def measured(_: object, *arguments: Any, **__: object) -> list[tuple[int, int]]:
        sources.extend(arguments[1])
        return [(1000, 10)]

    monkeypatch.setattr(lookups, "identify", lambda files, **_: [identity for _ in files])
    monkeypatch.setattr(isolation, "call", measured)
    submission = Submission.model_validate(
        {"codegen": "uproot-raw", "selection": RAW, "file-list": [url]}
    )
    assert estimate.estimate_submission(cached, ANN, submission).events == 1000
    assert sources == [cached.queue.source_urls([url], [identity])]
    assert "shoppe.content=" in sources[0][0]
    listed = [{"paths": [url], "adler32": "0a"}]
    monkeypatch.setattr(lookups, "find", lambda *_, **__: listed)
    named = submission.model_copy(update={"file_list": None, "did": "rucio://a:b"})
    assert estimate.estimate_submission(cached, ANN, named).events == 1000
    assert sources[1:] == [cached.queue.source_urls([url], [{**identity, "adler32": "0a"}])]
    assert sources[0] != sources[1]


def test_a_listing_s_checksum_is_part_of_what_a_file_is(backend: Backend) -> None:
    cached = changed(backend, cache_prefix="root://cache:1094")
    did, paths = "rucio://a:b", ["root://h//a.root"]
    listing = {"paths": paths, "size": 7, "adler32": "0a"}

    def listed(**more: str) -> Request:
        """Submit a request for the dataset, which is listed again."""
        for known in cached.datasets.owned_by(ANN):
            cached.datasets.mark_stale(ANN, known.id)
        created = submit(cached, file_list=None, did=did)
        assert cached.datasets.look_up(lambda _: [{**listing, **more}], unchanged)
        return cached.requests.get(ANN, created)

    first = listed()
    lease = take(cached)
    finish(cached, lease)
    assert listed().folder == first.id
    assert listed(adler32="0b").status == "Running"
    assert take(cached).source_urls[0] != lease.source_urls[0]
    assert listed(adler32="").status == "Running"
    # The transformer compares with what the origin gives, which is no checksum.
    assert identities.change(lease.identity[0], unchanged([paths])[0]) == ""


@pytest.mark.parametrize("checksum", ["0b", ""])
def test_the_checksum_is_that_of_the_last_listing(checksum: str) -> None:
    known = {"url": "u", "size": 7, "mtime": "", "etag": "", "outdated": "it is away"}
    (identity,) = identities.with_checksum([{**known, "adler32": "0a"}], checksum)
    assert identity == ({**known, "adler32": checksum} if checksum else known)
    absent = {"url": "u", "problem": identities.ABSENT, "message": ""}
    assert identities.with_checksum([absent, known], checksum) == [absent, known]


# What is read.


def test_a_file_that_changes_before_it_is_read_fails_by_name(tmp_path: Path) -> None:
    path = write(tmp_path / "a.root", 1)
    (identity,) = identify([[str(path)]])
    target = tmp_path / "out"
    parsed = Codegens.load().parse("uproot-raw", X, "parquet")

    def read() -> Outcome:
        return transform(
            *(parsed, [str(path)], target, "parquet"), local_files=True, identity=[identity]
        )

    assert read().events == 5
    size = path.stat().st_size
    write(path, 7)
    assert path.stat().st_size == size
    with pytest.raises(TransformError, match=r"a\.root: changed since .*submit it again"):
        read()
    path.unlink()
    with pytest.raises(TransformError, match="it is no longer there") as raised:
        read()
    assert raised.value.reason == "ChangedFile"


def test_an_earlier_content_that_a_client_has_open_is_not_read(
    xrootd: XRootDOrigin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path names the later file, and XRootD gives the earlier one until all have closed it."""
    url = f"{xrootd.address}//a.root"
    xrootd.files["/a.root"], xrootd.open["/a.root"] = (70, 1_793_613_600), (70, 1_793_613_000)
    (identity,) = identify([[url]])
    assert identity["mtime"] == "2026-11-02T10:00:00Z"
    parsed = Codegens.load().parse("uproot-raw", X, "parquet")
    sentence = (
        r"still gives the content of 2026-11-02T09:50:00Z, because another client has it open"
    )
    with monkeypatch.context() as impatient:
        impatient.setattr(identities, "EARLIER_TIMEOUT_S", 0)
        with pytest.raises(UnreadableError, match=sentence) as raised:
            transform(parsed, [url], tmp_path / "out", "parquet", identity=[identity])
    assert (raised.value.reason, raised.value.retry_may_help) == ("EarlierContent", True)
    monkeypatch.setattr("time.sleep", lambda _: xrootd.open.clear())
    assert identities.current_once_closed(url, local_files=False) == identity


def test_an_estimate_asks_no_cache_for_a_file_of_which_the_origin_gives_an_earlier_content(
    backend: Backend, xrootd: XRootDOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache would keep the earlier content under the name of the later one."""
    cached = changed(backend, cache_prefix="root://cache:1094")
    url, replica = f"{xrootd.address}//a.root", f"{xrootd.address}//b.root"
    xrootd.files |= dict.fromkeys(["/a.root", "/b.root"], (70, 1_793_613_600))
    xrootd.open["/a.root"] = (70, 1_793_613_000)
    sources: list[list[str]] = []
    call = isolation.call

    def measured(function: Any, *arguments: Any, **limits: Any) -> Any:
        if function is not estimate.measure:
            return call(function, *arguments, **limits)
        sources.extend(arguments[1])
        return [(1000, 10)]

    monkeypatch.setattr(isolation, "call", measured)
    submission = Submission.model_validate(
        {"codegen": "uproot-raw", "selection": RAW, "did": "rucio://a:b"}
    )
    monkeypatch.setattr(lookups, "find", lambda *_, **__: [{"paths": [url, replica]}])
    estimate.estimate_submission(cached, ANN, submission)
    assert sources == [[url, replica]]
    xrootd.open.clear()
    estimate.estimate_submission(cached, ANN, submission)
    assert [place.partition("?")[0] for place in sources[1]] == [
        *(f"root://cache:1094//{each}" for each in (url, replica)),
        *(url, replica),
    ]
    assert all("shoppe.content=" in place for place in sources[1][:2])


@pytest.mark.parametrize("kind", [SERVER | PROXY, REDIRECTOR])
def test_times_of_proxies_and_redirectors_tell_nothing(xrootd: XRootDOrigin, kind: int) -> None:
    url = f"{xrootd.address}//a.root"
    xrootd.kind = kind
    xrootd.files["/a.root"], xrootd.open["/a.root"] = (70, 1_793_613_600), (70, 1_793_613_000)
    (identity,) = identify([[url]])
    assert identities.current(url, local_files=False, opens=True) == identity


def test_a_file_that_changes_while_it_is_read_fails_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.root", 1)
    (identity,) = identify([[str(path)]])
    parsed = Codegens.load().parse("uproot-raw", X, "parquet")
    usual = UprootRaw.write

    def slow(query: UprootRaw, file: Any, *more: Any) -> int:
        events = usual(query, file, *more)
        write(path, 7)
        return events

    monkeypatch.setattr(UprootRaw, "write", slow)
    with pytest.raises(TransformError, match="changed since the request was submitted"):
        transform(
            *(parsed, [str(path)], tmp_path / "out", "parquet"),
            local_files=True,
            identity=[identity],
        )


def test_what_has_another_size_is_not_the_file(tmp_path: Path) -> None:
    """A cache without our plugin may have an earlier content: the next URL is tried."""
    stale, fresh = write(tmp_path / "stale.root", 1, count=9000), write(tmp_path / "fresh.root", 7)
    (identity,) = identify([[str(fresh)]])
    with (
        pytest.raises(UnreadableError, match="its size in bytes was 5, and is") as raised,
        opened(str(stale), local_files=True, size=5),
    ):
        pass
    assert raised.value.reason == "ChangedFile"
    parsed = Codegens.load().parse("uproot-raw", X, "parquet")
    urls, target = [str(stale), str(fresh)], tmp_path / "out"
    transform(parsed, urls, target, "parquet", local_files=True, identity=[identity])
    assert ak.from_parquet(target).x.tolist() == [7] * 5


# The whole service.


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client asks again after a moment, not after five seconds."""
    usual = Query.__init__

    def often(query: Query, *words: Any, **options: Any) -> None:
        usual(query, *words, **options)
        query.servicex_polling_interval = query.minio_polling_interval = 0.2

    monkeypatch.setattr(Query, "__init__", often)


@pytest.mark.usefixtures("impatient")
def test_a_file_that_was_overwritten_is_delivered_as_it_is(
    service: Service, tmp_path: Path
) -> None:
    path, config = write(tmp_path / "a.root", 1), service.client(tmp_path)
    size = path.stat().st_size

    def deliver() -> list[int]:
        sample = {
            "Name": "a",
            "Dataset": dataset.FileList([str(path)]),
            "Query": query.UprootRaw({"treename": "t", "expressions": ["x"]}),
        }
        (files,) = stock(
            {"General": {"OutputFormat": "parquet"}, "Sample": [sample]},
            config_path=config,
            progress_bar=ProgressBarFormat.none,
            ignore_local_cache=True,
        ).values()
        values: list[int] = ak.from_parquet(next(iter(files))).x.tolist()
        return values

    assert deliver() == [1] * 5
    assert deliver() == [1] * 5
    write(path, 7)
    assert path.stat().st_size == size
    assert deliver() == [7] * 5


def test_a_file_is_stored_with_its_identity(backend: Backend) -> None:
    identifier = submit(backend)
    assert not look_up(backend)
    with transaction(backend.context.engine) as session:
        (file,) = session.query(File).filter(File.request_id == identifier)
        assert file.identity[0]["seen"] == backend.context.clock()
        assert file.address
