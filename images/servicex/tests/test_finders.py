"""Look-ups of datasets.

CERN Open Data and Rucio cannot be reached from where these tests run: the answers here
are written by hand in the shape of their APIs, and were not compared with the services
themselves.  XRootD's are those of a server, in the end-to-end tests.
"""

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from coffea_shoppe_servicex.finders import LookupFailedError, find
from coffea_shoppe_servicex.settings import Finders, Rucio

RECORD = {
    "id": 1507,
    "metadata": {
        "recid": "1507",
        "files": [
            {
                "uri": "root://eospublic.cern.ch//eos/opendata/a.root",
                "size": 5,
                "checksum": "adler32:1234abcd",
            },
            {"uri": "root://eospublic.cern.ch//eos/opendata/index.json", "size": 1},
        ],
    },
}
REPLICAS = [
    {
        "scope": "data",
        "name": "one.root",
        "bytes": 7,
        "adler32": "0a",
        "pfns": {"davs://b:443/one.root": {}, "root://a:1094//one.root": {}},
    },
    {"scope": "data", "name": "gone.root", "bytes": 1, "pfns": {}},
]


@pytest.fixture
def recorded() -> Iterator[Callable[..., str]]:
    """Serve recorded answers; returns the server's address and keeps what was asked."""
    answers: dict[str, tuple[int, Any]] = {}
    asked: list[tuple[str, str, str]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length).decode()
            asked.append((self.path, body, self.headers.get("X-Rucio-Auth-Token", "")))
            status, content = answers.get(self.path, (404, {}))
            self.send_response(status)
            self.end_headers()
            text = content if isinstance(content, str) else json.dumps(content)
            self.wfile.write(text.encode())

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def record(path: str, content: Any, status: int = 200) -> str:
        answers[path] = (status, content)
        return f"http://127.0.0.1:{server.server_port}"

    record.asked = asked  # type: ignore[attr-defined]
    yield record
    server.shutdown()


def test_a_record_of_cern_open_data(recorded: Any) -> None:
    settings = Finders(cernopendata=recorded("/api/records/1507", RECORD))
    (file,) = find("cernopendata://1507", settings)
    assert file["paths"] == ["root://eospublic.cern.ch//eos/opendata/a.root"]
    assert (file["size"], file["adler32"]) == (5, "1234abcd")


def test_what_cern_open_data_has_not(recorded: Any) -> None:
    settings = Finders(cernopendata=recorded("/api/records/1", {}, 500))
    for name, status in (("2", "does_not_exist"), ("x", "bad_name"), ("1", "internal_failure")):
        with pytest.raises(LookupFailedError) as caught:
            find(f"cernopendata://{name}", settings)
        assert caught.value.status == status


def test_a_dataset_of_rucio_with_its_replicas(recorded: Any, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret\n")
    host = recorded("/replicas/list", REPLICAS)
    settings = Finders(rucio=Rucio(host=host, token=token, rse_expression="tier=1"))
    (file,) = find("rucio://data:set", settings)
    assert file["paths"] == ["root://a:1094//one.root", "davs://b:443/one.root"]
    path, body, sent = recorded.asked[0]
    assert (path, sent) == ("/replicas/list", "secret")
    assert json.loads(body)["dids"] == [{"scope": "data", "name": "set"}]
    assert json.loads(body)["rse_expression"] == "tier=1"


def test_rucio_may_answer_line_by_line(recorded: Any, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret")
    stream = "\n".join(json.dumps(one) for one in REPLICAS)
    settings = Finders(rucio=Rucio(host=recorded("/replicas/list", stream), token=token))
    assert len(find("rucio://data:set", settings)) == 1


@pytest.mark.parametrize(
    ("name", "settings", "told"),
    [
        ("rucio://a:b", Finders(), "has no Rucio"),
        ("rucio://nameless", Finders(rucio=Rucio(host="http://x")), "SCOPE:NAME"),
        ("xrootd://root://host", Finders(), "root://HOST//PATH"),
        ("xrootd://x", Finders(xrootd=False), "does not list"),
        ("cernopendata://1", Finders(cernopendata=""), "does not look"),
    ],
)
def test_what_cannot_be_looked_up_is_told(name: str, settings: Finders, told: str) -> None:
    with pytest.raises(LookupFailedError, match=told):
        find(name, settings)
