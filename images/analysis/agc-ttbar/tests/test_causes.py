"""Why a file cannot be read is said in one sentence, and what cannot get better is asked once."""

import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import aiohttp
import awkward as ak
import numpy as np
import pytest
import uproot
from agc import executor
from agc.causes import explain, may_pass
from agc.cli import main
from agc.files import summarize
from agc.run import run
from agc.samples import File, InputError, Sample
from agc.synth import chunk, write
from click.testing import CliRunner

QUERY = "sig=5ec7e7"
PAGE = b"<!DOCTYPE html><html><body>Please log in</body></html>"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("good") / "good.root"
    write(path, Sample("ttbar"), events=300)
    return path


class Server(ThreadingHTTPServer):
    """Serves one file in the ways of its first path component; counts what it is asked."""

    content: bytes
    asked: list[str]
    failures = 0
    """The number of next requests that get a 503."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, format: str, *arguments: Any) -> None: ...

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        way = self.path.split("/")[1]
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        status, body, headers = 200, self.server.content, {"Content-Type": "application/root"}
        if way.isdigit():
            status, body = int(way), b"no"
        elif way == "login":
            body, headers = PAGE, {"Content-Type": "text/html; charset=utf-8"}
        elif way == "page":
            body = PAGE * 50
        elif way == "busy" and self.server.failures:
            self.server.failures -= 1
            status, body = 503, b"later"
        elif way != "whole" and wanted:
            first, last = int(wanted[1]), min(int(wanted[2]), len(body) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
            status, body = 206, body[first : last + 1]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def server(good: Path) -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as found:
        found.content, found.asked = good.read_bytes(), []
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield found
        found.shutdown()


def address(server: Server, way: str) -> str:
    return f"http://127.0.0.1:{server.server_port}/{way}/f.root"


CAUSES = {
    "whole": "its server sends only entire files (no HTTP ranges)",
    "login": "is a web page, not a ROOT file: does the address need a login",
    "page": "is a web page, not a ROOT file: does the address need a login",
    "401": "access is refused (HTTP 401)",
    "403": "access is refused (HTTP 403)",
    "404": "no such file",
    "500": "its server responds with HTTP 500: try again later",
}


@pytest.mark.parametrize("way", CAUSES)
def test_each_cause_has_its_sentence_and_no_secret(
    server: Server, way: str, tmp_path: Path
) -> None:
    url = address(server, way)
    words = ["run", "--input", f"{url}?{QUERY}", "--output", str(tmp_path / "h.root")]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 1
    assert f"{url}?…: {CAUSES[way]}" in done.output
    assert "5ec7e7" not in done.output
    assert len(server.asked) <= 3, "one attempt, and one look at what is sent instead"


def test_a_server_with_ranges_serves_a_signed_address(server: Server, tmp_path: Path) -> None:
    url = f"{address(server, 'good')}?{QUERY}=ttbar"
    words = ["run", "--input", url, "--output", str(tmp_path / "h.root")]
    done = CliRunner().invoke(main, [*words, "--report", str(tmp_path / "report.json")])
    assert done.exit_code == 0, done.output
    assert "300 events in" in done.output
    for text in (done.output, *(path.read_text("latin1") for path in tmp_path.iterdir())):
        assert "5ec7e7" not in text


@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
def test_truncated_and_damaged_files_are_distinguished(
    good: Path, tmp_path: Path, share: float
) -> None:
    content = good.read_bytes()
    cut = tmp_path / "cut.root"
    cut.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError, match=rf"cut short: [\d,]+ of its {len(content):,} bytes"):
        summarize(str(cut))
    cut.write_bytes(content[:200] + bytes(len(content) - 200))
    with pytest.raises(InputError, match=r"cut\.root: (is damaged|has no tree|contains something)"):
        summarize(str(cut))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html><title>Log in</title>", "is a web page, not a ROOT file"),
        (b"event,x\n1,2\n" * 50, "not a ROOT file"),
    ],
)
def test_a_local_file_without_the_header_of_root_is_named(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "other.root"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"other\.root: {message}"):
        summarize(str(path))


def test_a_folder_and_a_file_that_may_not_be_read(good: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder: name its files"):
        summarize(str(tmp_path))
    assert "access is refused: may you read it" in explain("f.root", PermissionError(13, "no"))


def test_a_branch_of_another_type_is_named(tmp_path: Path) -> None:
    columns = chunk(np.random.default_rng(1), _tune(), 0, 50)
    columns["run"] = ak.Array(["text"] * 50)
    path = tmp_path / "odd.root"
    with uproot.recreate(path) as file:
        types = {k: v.dtype if isinstance(v, np.ndarray) else v.type for k, v in columns.items()}
        file.mktree("Events", {**types, "run": "string"}).extend(columns)
    with pytest.raises(InputError, match=r"run has the type .*the file is intact"):
        summarize(str(path))


def test_an_object_that_is_not_a_tree_is_named(tmp_path: Path) -> None:
    with uproot.recreate(tmp_path / "h.root") as file:
        file["Events"] = np.histogram([1.0])
    with pytest.raises(InputError, match="'Events' is not a tree, but of the class TH1D"):
        summarize(str(tmp_path / "h.root"))


def response(status: int) -> aiohttp.ClientResponseError:
    return aiohttp.ClientResponseError(None, (), status=status)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (response(503), True),
        (response(403), False),
        (OSError("File did not open properly: [ERROR] Operation expired"), True),
        (OSError("Server responded with an error: [3011] no such file"), False),
        (OSError("Server responded with an error: [3010] permission denied"), False),
        (OSError("Server responded with an error: [3024] overloaded"), True),
        (FileNotFoundError("f"), False),
        (TimeoutError(), True),
        (InputError("mine"), False),
        (ValueError("a defect"), False),
    ],
)
def test_only_what_may_pass_is_tried_again(
    error: Exception, again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "PAUSES_S", (0, 0))
    calls = []

    def work(item: File) -> None:
        calls.append(item)
        # coffea wraps what fails, and names the file.
        raise Exception(f"Failed processing file: {item.path}") from error

    with pytest.raises(Exception, match=r".") as failed:
        executor.Attempts(work)(File(Sample("ttbar"), f"root://h//f.root?{QUERY}"))
    assert len(calls) == (3 if again else 1)
    assert "5ec7e7" not in str(failed.value)
    assert may_pass(error) is again


def test_a_server_that_is_busy_for_a_moment_costs_time_only(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "PAUSES_S", (0, 0, 0))
    url = address(server, "busy")
    expected = run([File(Sample("ttbar"), url)], progress=False).histograms
    look_in = summarize

    def then_busy(path: str, branches: Any, *, run: str) -> Any:
        summary = look_in(path, branches, run=run)
        server.failures = 2
        return summary

    monkeypatch.setattr("agc.files.summarize", then_busy)
    again = run([File(Sample("ttbar"), url)], progress=False).histograms
    assert server.failures == 0
    assert again.keys() == expected.keys()


def test_a_defect_is_raised_as_it_is() -> None:
    def defect(item: object) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        executor.Attempts(defect)("item")


def _tune() -> Any:
    from agc.synth import TUNES

    return TUNES["ttbar__nominal"]


@pytest.mark.parametrize("kind", [ValueError, KeyError, TypeError])
def test_what_is_no_reading_has_no_cause(kind: Callable[[str], Exception]) -> None:
    assert explain("f.root", kind("a defect")) == ""
