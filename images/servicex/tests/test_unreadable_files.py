"""Each cause why a file cannot be read has its sentence, and is retried only if that may help."""

import base64
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uproot
from coffea_shoppe_servicex import addresses, root_files
from coffea_shoppe_servicex.api_client import ApiClient
from coffea_shoppe_servicex.backend import Backend
from coffea_shoppe_servicex.errors import QueryError, TransformError, UnreadableError
from coffea_shoppe_servicex.transformer import Transformer
from servicex_helpers import RAW, Clock, columns, make, raw, submit

LOGIN = b"<!DOCTYPE html><html><body>Please log in</body></html>" * 50


class Server(ThreadingHTTPServer):
    """Serves one file in the ways of its paths' first component, and accepts uploads."""

    content: bytes
    empty: bytes
    """A file without objects."""

    def url(self, way: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{way}/a.root"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, format: str, *arguments: Any) -> None: ...

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._respond(200, b"", {})

    def do_GET(self) -> None:
        way = self.path.split("/")[1]
        body = self.server.content
        if way == "cut":
            body = body[: len(body) // 2]
        if way == "empty":
            body = self.server.empty
        if way == "signed" and "Signature=" not in self.path:
            way = "403"
        requested = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if way.isdigit():
            self._respond(int(way), b"no", {})
        elif way == "login":
            self._respond(200, LOGIN, {"Content-Type": "text/html; charset=utf-8"})
        elif way == "whole" or not requested:
            self._respond(200, body, {})
        else:
            first, last = int(requested[1]), min(int(requested[2]), len(body) - 1)
            part = {"Content-Range": f"bytes {first}-{last}/{len(body)}"}
            self._respond(206, body[first : last + 1], part)

    def _respond(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        folder = tmp_path_factory.mktemp("served")
        server.content = make(folder / "a.root").read_bytes()
        with uproot.recreate(folder / "empty.root"):
            pass
        server.empty = (folder / "empty.root").read_bytes()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


class Api(ApiClient):
    """Passes failed attempts to the queue of a backend, and remembers all calls."""

    def __init__(self, backend: Backend, upload: str, folder: Path) -> None:
        super().__init__("http://nowhere", folder / "key")
        self.backend, self.upload = backend, upload
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def post(self, path: str, body: dict[str, Any]) -> Any:
        _, file, call = path.split("/")
        self.calls.append((call, body))
        if call == "fail":
            failure = {name: body[name] for name in ("reason", "message")}
            self.backend.queue.fail(int(file), body["attempt"], retry=body["again"], **failure)
        return {"url": self.upload}


AWAY = "http://127.0.0.1:9/a.root"
CAUSES = {
    "403": ("AccessDenied", "access is refused (HTTP 403)", 1),
    "login": ("BadFile", "is a web page, not a ROOT file: does the address need a login", 1),
    "whole": ("CannotOpen", "its server sends only entire files (no HTTP ranges)", 1),
    "cut": ("BadFile", "is cut short: ", 1),
    "404": ("MissingFile", "no such file", 1),
    "503": ("CannotOpen", "its server responds with HTTP 503: try again later", 3),
    "away": ("CannotOpen", "is its origin up?", 3),
}
"""Reason, sentence and number of attempts (of three) by the way a file is served."""


def attempts(
    backend: Backend, clock: Clock, server: Server, url: str, folder: Path, **request: Any
) -> list[tuple[str, dict[str, Any]]]:
    """Return a transformer's calls for a file, which it gets as often as the queue has it."""
    api = Api(backend, server.url("upload"), folder)
    transformer = Transformer(api, "w", memory=2000, scratch=folder)
    submit(backend, file_list=[url], **{"selection": RAW, **request})
    while lease := backend.queue.lease("w", memory=4000, any_codegen=True):
        # Its size and time of change are those of no origin.
        transformer.process({**vars(lease), "identity": ()})
        clock.now += 20
    return api.calls


@pytest.mark.parametrize("way", CAUSES)
def test_what_cannot_get_better_is_attempted_once(
    backend: Backend, clock: Clock, server: Server, tmp_path: Path, way: str
) -> None:
    reason, sentence, count = CAUSES[way]
    url = AWAY if way == "away" else server.url(way)
    calls = attempts(backend, clock, server, url, tmp_path)
    assert [call for call, _ in calls] == ["fail"] * count
    assert calls[-1][1]["reason"] == reason
    assert sentence in calls[-1][1]["message"]
    assert calls[-1][1]["message"].startswith(url)


def test_a_file_that_is_served_in_ranges_is_delivered(
    backend: Backend, clock: Clock, server: Server, tmp_path: Path
) -> None:
    calls = attempts(backend, clock, server, server.url("good"), tmp_path)
    assert [call for call, _ in calls] == ["upload", "complete"]
    assert calls[-1][1]["events"] == 1000


@pytest.mark.parametrize("way", CAUSES)
def test_another_url_of_the_file_is_tried(server: Server, tmp_path: Path, way: str) -> None:
    url = AWAY if way == "away" else server.url(way)
    assert len(columns(tmp_path, RAW, url, server.url("good"), local_files=False)) == 1000


@pytest.mark.parametrize(
    ("ways", "retry"), [(("away", "403"), True), (("403", "away"), True), (("403", "cut"), False)]
)
def test_a_file_is_retried_if_that_may_help_at_one_of_its_urls(
    server: Server, tmp_path: Path, ways: tuple[str, str], retry: bool
) -> None:
    urls = [AWAY if way == "away" else server.url(way) for way in ways]
    with pytest.raises(UnreadableError, match=re.escape(CAUSES[ways[1]][1])) as refused:
        columns(tmp_path, RAW, *urls, local_files=False)
    assert refused.value.retry_may_help is retry


def test_the_beginning_of_a_file_is_not_taken_for_one_without_trees(
    server: Server, tmp_path: Path
) -> None:
    """A server without ranges sends the header again where the list of objects is."""
    selection = raw(treename="Events", expressions="met", fail_on_missing_trees=False)
    with pytest.raises(UnreadableError, match="its server sends only entire files"):
        columns(tmp_path, selection, server.url("whole"), local_files=False)
    with pytest.raises(TransformError, match="has no tree 'Events'; it contains: no tree"):
        columns(tmp_path, RAW, server.url("empty"), local_files=False)


def test_a_connection_that_is_lost_is_no_error_of_the_query(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: object) -> None:
        raise aiohttp.ClientPayloadError("not all bytes have come")

    assert len(columns(tmp_path, RAW, server.url("good"), local_files=False)) == 1000
    monkeypatch.setattr(root_files, "_chunks", lost)
    monkeypatch.setattr(root_files, "branch_array", lost)
    with pytest.raises(UnreadableError, match="is its origin up") as refused:
        columns(tmp_path, RAW, server.url("good"), local_files=False)
    assert refused.value.reason == "CannotRead"
    assert refused.value.retry_may_help


SIGNATURE = "5ec7e7"
QUERY = f"X-Amz-Signature={SIGNATURE}"
JOIN = {"treename": "Nothing", "columns": "x"}
FUNCTION = "def run_query(url):\n    print(url)\n    raise OSError('cannot read ' + url)\n"
PROBLEMS: dict[str, tuple[str, dict[str, Any]]] = {
    **{way: (way, {}) for way in ("403", "404", "503", "login", "cut", "whole")},
    "tree": ("good", {"selection": raw(treename="Nothing", expressions="met")}),
    "trees": ("good", {"selection": raw(treename=["Nothing", "None"], expressions="met")}),
    "branch": ("good", {"selection": raw(treename="Events", expressions="mett")}),
    "filter": ("good", {"selection": raw(treename="Events", filter_name="mett")}),
    "join": ("good", {"selection": raw(treename="Events", expressions="met", join=JOIN)}),
    "function": (
        "good",
        {"codegen": "python", "selection": base64.b64encode(FUNCTION.encode()).decode()},
    ),
}
"""How a file is served, and what is requested of it."""


@pytest.mark.parametrize("problem", PROBLEMS)
def test_messages_and_logs_have_no_signature(
    backend: Backend,
    clock: Clock,
    server: Server,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    problem: str,
) -> None:
    caplog.set_level("INFO")
    way, request = PROBLEMS[problem]
    url = server.url(way)
    calls = attempts(backend, clock, server, f"{url}?{QUERY}", tmp_path, **request)
    assert calls[-1][0] == "fail"
    assert f"{url}?…" in calls[-1][1]["message"]
    assert f"{url}?…" in caplog.text
    assert SIGNATURE not in caplog.text
    assert SIGNATURE not in str(calls)


def test_a_signed_url_is_read(
    backend: Backend,
    clock: Clock,
    server: Server,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    several = raw(treename=["Events", "Nothing"], expressions="met")
    url = server.url("signed")
    assert attempts(backend, clock, server, url, tmp_path)[-1][1]["reason"] == "AccessDenied"
    calls = attempts(backend, clock, server, f"{url}?{QUERY}", tmp_path, selection=several)
    assert calls[-1][0] == "complete"
    assert f"{url}?…: 1000 events" in caplog.text
    assert f"{url}?…: has no tree 'Nothing'" in calls[-1][1]["log"]
    assert SIGNATURE not in caplog.text + str(calls)


def test_a_refused_file_list_shows_no_signature(backend: Backend, server: Server) -> None:
    url = f"{server.url('good')}?{QUERY}"
    for files in ([url, url], [url, f"{url}&x=1", f"{url}&x=1&Expires=3"]):
        with pytest.raises(QueryError, match=r"a\.root\?…' twice") as refused:
            submit(backend, file_list=files)
        assert SIGNATURE not in str(refused.value)
    with pytest.raises(QueryError, match=r"%20 for a space") as refused:
        addresses.check(f"https://h/my file.root?{QUERY}", local_files=False)
    assert SIGNATURE not in str(refused.value)
