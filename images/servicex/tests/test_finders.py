"""Look-ups of datasets.

Rucio's answers are recorded from its own server (`recorded/record_rucio.py`), of which
the request, too, must be the one that was answered.  CERN Open Data cannot be reached from
where these tests run: its answer is written by hand, in a shape that the portal's own
client reads as we do.  XRootD's are those of a server, in the end-to-end tests.
"""

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from cernopendata_client.searcher import get_files_list, get_record_as_json
from coffea_shoppe_servicex.finders import LookupFailedError, find
from coffea_shoppe_servicex.settings import Finders, Rucio

RECORDED = Path(__file__).parent / "recorded" / "rucio.json"
A, B = "root://eospublic.cern.ch//eos/opendata/a.root", "root://eospublic.cern.ch//eos/opendata/b"
RECORD = {
    "id": 1507,
    "metadata": {
        "recid": "1507",
        "files": [
            {"uri": A, "size": 5, "checksum": "adler32:1234abcd"},
            {"uri": f"{B}.json", "size": 1, "checksum": "adler32:00000001"},
        ],
        "_file_indices": [
            {
                "key": "b_file_index.json",
                "size": 9,
                "files": [
                    {"uri": f"{B}.root", "size": 7, "checksum": "adler32:0000000b"},
                    {"uri": A, "size": 5, "checksum": "adler32:1234abcd"},
                ],
            }
        ],
    },
}


class Answering(http.server.ThreadingHTTPServer):
    """Answers what it was told to, and only that."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str, str, str], tuple[int, str]] = {}
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"

    def tell(
        self,
        path: str,
        text: str,
        status: int = 200,
        *,
        method: str = "GET",
        body: Any = None,
        token: str = "",
    ) -> None:
        asked = json.dumps(body, sort_keys=True)
        self.answers[method, path, asked, token] = (status, text)


class Handler(http.server.BaseHTTPRequestHandler):
    server: Answering

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.dumps(json.loads(self.rfile.read(length) or b"null"), sort_keys=True)
        token = self.headers.get("X-Rucio-Auth-Token", "")
        status, text = self.server.answers.get((self.command, self.path, body, token), (404, "{}"))
        if token and self.headers["Accept"] != "application/x-json-stream":
            status, text = 406, ""
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Answering]:
    with Answering() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def rucio(server: Answering, tmp_path: Path) -> Rucio:
    """A Rucio with its recorded answers."""
    for one in json.loads(RECORDED.read_text())["answers"]:
        asked = {"method": one["method"], "body": one["body"], "token": one["token"]}
        server.tell(one["path"], one["text"], one["status"], **asked)
    token = tmp_path / "token"
    token.write_text("good\n")
    return Rucio(host=server.url, token=token)


def test_a_record_of_cern_open_data(server: Answering) -> None:
    server.tell("/api/records/1507", json.dumps(RECORD))
    server.tell("/record/1507", "a page")
    found = find("cernopendata://1507", Finders(cernopendata=server.url))
    assert [file["paths"] for file in found] == [[A], [f"{B}.root"]]
    assert [(file["size"], file["adler32"]) for file in found] == [(5, "1234abcd"), (7, "0000000b")]
    record = get_record_as_json(server=server.url, recid=1507)
    theirs = get_files_list(server=server.url, record_json=record, protocol="xrootd", expand=True)
    assert {(A, 5, "adler32:1234abcd"), (f"{B}.root", 7, "adler32:0000000b")} == {
        one for one in theirs if one[0].endswith(".root")
    }


@pytest.mark.parametrize(
    ("name", "is_file"),
    [
        ("DAOD_PHYSLITE.37019878._000001.pool.root.1", True),
        ("a.root", True),
        ("a.root.12", True),
        ("a.root.txt", False),
        ("a.root.1.json", False),
        ("root.1", False),
    ],
)
def test_names_of_root_files(server: Answering, name: str, is_file: bool) -> None:
    listed = {"uri": f"root://eospublic.cern.ch//eos/{name}", "size": 1, "checksum": ""}
    server.tell("/api/records/80000", json.dumps({"metadata": {"files": [listed]}}))
    found = find("cernopendata://80000", Finders(cernopendata=server.url))
    assert [file["paths"] for file in found] == ([[listed["uri"]]] if is_file else [])


def test_what_cern_open_data_has_not(server: Answering) -> None:
    server.tell("/api/records/1", "{}", 500)
    settings = Finders(cernopendata=server.url)
    for name, status in (("2", "does_not_exist"), ("x", "bad_name"), ("1", "internal_failure")):
        with pytest.raises(LookupFailedError) as caught:
            find(f"cernopendata://{name}", settings)
        assert caught.value.status == status


@pytest.mark.parametrize("name", ["data:ttbar", "data:all"])
def test_a_dataset_of_rucio_with_its_replicas(rucio: Rucio, name: str) -> None:
    first, second = find(f"rucio://{name}", Finders(rucio=rucio))
    assert first["paths"] == [
        f"{scheme}://{site}.example.org:{port}{store}c2/3b/ttbar_0.root"
        for scheme, port, store in (("root", 1094, "//store/data/"), ("davs", 443, "/store/data/"))
        for site in "ab"
    ]
    assert (first["size"], first["adler32"]) == (1000, "00000000")
    assert [path.split("/")[2] for path in second["paths"]] == [
        "a.example.org:1094",
        "a.example.org:443",
    ]


def test_a_site_s_own_replicas_alone(rucio: Rucio) -> None:
    settings = Finders(rucio=rucio.model_copy(update={"rse_expression": "tier=1"}))
    for file in find("rucio://data:ttbar", settings):
        assert all("a.example.org" in path for path in file["paths"])


@pytest.mark.parametrize(
    ("name", "expression", "token", "status", "told"),
    [
        ("data:nope", "", "good", "does_not_exist", "'data:nope' not found"),
        ("data:ttbar", "tier=2", "good", "internal_failure", "1 of the 2 files.*data:ttbar_1.root"),
        ("data:ttbar", "tier=9", "good", "internal_failure", "resulted in an empty set"),
        ("data:ttbar", "", "expired", "internal_failure", "token in didFinder.rucio.existing"),
    ],
)
def test_what_rucio_has_not(
    rucio: Rucio, name: str, expression: str, token: str, status: str, told: str
) -> None:
    assert rucio.token
    rucio.token.write_text(token)
    settings = Finders(rucio=rucio.model_copy(update={"rse_expression": expression}))
    with pytest.raises(LookupFailedError, match=told) as caught:
        find(f"rucio://{name}", settings)
    assert caught.value.status == status


def test_a_dataset_of_rucio_that_is_empty(rucio: Rucio) -> None:
    assert find("rucio://data:empty", Finders(rucio=rucio)) == []


class Directory:
    """A server of XRootD: folders with their entries, where names end in / for folders."""

    entries: ClassVar[dict[str, list[str]]] = {
        "/": ["my data/", "run1/", "run2/", "é/"],
        "/my data": ["a 1.root", "a 2.root", "b.root", "a%201.root"],
        "/run1": ["f1.root", "f2.root", "f10.root", "f.root"],
        "/run2": ["f1.root", "x#1.root"],
        "/é": ["日本.root"],
    }

    def __init__(self, url: str) -> None:
        assert url == "root://host:1094"

    def dirlist(self, folder: str, *_: Any, **__: Any) -> tuple[Any, Any]:
        if folder not in self.entries:
            return SimpleNamespace(ok=False, errno=3011), None
        listing = [
            SimpleNamespace(
                name=name.rstrip("/"),
                statinfo=SimpleNamespace(flags=2 if name.endswith("/") else 0, size=7),
            )
            for name in self.entries[folder]
        ]
        return SimpleNamespace(ok=True), listing


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("/my data/a *.root", ["/my data/a 1.root", "/my data/a 2.root"]),
        ("/my data/a%20*.root", ["/my data/a%201.root"]),
        ("/my%20data/*.root", []),
        ("/run1/f?.root", ["/run1/f1.root", "/run1/f2.root"]),
        ("/run?/f1.root", ["/run1/f1.root", "/run2/f1.root"]),
        ("/run2/x#*.root", ["/run2/x#1.root"]),
        ("/run[12]/f[12].root", ["/run1/f1.root", "/run1/f2.root", "/run2/f1.root"]),
        ("/é/*.root", ["/é/日本.root"]),
        ("/*/*.root", None),
    ],
)
def test_patterns_of_xrootd(
    monkeypatch: pytest.MonkeyPatch, pattern: str, paths: list[str] | None
) -> None:
    monkeypatch.setattr("XRootD.client.FileSystem", Directory)
    files = find(f"xrootd://root://host:1094/{pattern}", Finders())
    expected = [f"root://host:1094/{path}" for path in paths or ()]
    assert [file["paths"] for file in files] == [[path] for path in expected] or paths is None
    assert paths is not None or len(files) == 11


@pytest.mark.parametrize(
    ("name", "settings", "told"),
    [
        ("rucio://a:b", Finders(), "has no Rucio"),
        ("rucio://nameless", Finders(rucio=Rucio(host="http://x")), "SCOPE:NAME"),
        ("xrootd://root://host", Finders(), "root://HOST//PATH"),
        ("xrootd://x", Finders(xrootd=False), "xrootd:// is disabled: .* didFinder.xrootd.enabled"),
        (
            "cernopendata://1",
            Finders(cernopendata=""),
            "cernopendata:// is disabled: .* didFinder.CERNOpenData.enabled",
        ),
    ],
)
def test_what_cannot_be_looked_up_is_told(name: str, settings: Finders, told: str) -> None:
    with pytest.raises(LookupFailedError, match=told):
        find(name, settings)
