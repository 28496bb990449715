"""What a run cost, as figures and as a page."""

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from agc import report
from agc.cli import main
from agc.run import Chunk, Report, run
from agc.samples import parse_input, sample
from agc.synth import write
from click.testing import CliRunner


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("synth") / "ttbar.root"
    write(path, sample("ttbar"), events=5_000)
    return path


@pytest.fixture(scope="module")
def done(file: Path) -> Report:
    return run([parse_input(str(file))], chunk_size=2_000, progress=False)


def test_figures_are_those_of_the_run(done: Report, file: Path) -> None:
    found = report.as_json(done)
    assert found["entries"] == 5_000
    assert found["num_workers"] == 1
    assert found["worker_names"] == ["local"]
    assert sum(chunk["events"] for chunk in found["chunks"]) == 5_000
    assert len(found["chunks"]) >= 2
    assert 0 < found["bytesread"] < file.stat().st_size
    assert 0 < found["processtime"] <= found["walltime"]
    assert 0 < found["busy"] <= 1
    assert found["rate"] == pytest.approx(5_000 / found["walltime"])
    json.dumps(found)


def test_shares_are_summed_by_sample_and_worker() -> None:
    chunks = [
        Chunk("a", "w1", 10, 0.0, 2.0, 1.0),
        Chunk("a", "w2", 20, 1.0, 2.0, 0.5),
        Chunk("b", "w1", 30, 2.0, 5.0, 3.0),
    ]
    one = Report({}, {}, {"a": 30, "b": 30}, 6.0, 2, chunks=chunks)
    a, b = report.shares(one, lambda chunk: str(chunk.dataset))
    assert (a.chunks, a.events, a.wall, a.cpu, a.rate) == (2, 30, 3.0, 1.5, 10.0)
    assert (b.events, b.wall) == (30, 3.0)
    assert [s.name for s in report.shares(one, lambda chunk: str(chunk.worker))] == ["w1", "w2"]
    assert report.busy(one) == pytest.approx(6 / 12)


class Words(HTMLParser):
    """The page's visible words, and its tags."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[str] = []

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)


def test_the_page_stands_alone_and_escapes_names(done: Report) -> None:
    odd = Chunk("<script>alert(1)</script>", "local", 1, done.chunks[0].start, 9e9, 0.1)
    with_odd = Report(**{**vars(done), "chunks": [*done.chunks, odd]})
    page = Words()
    page.feed(report.as_html(with_odd))
    assert "script" not in page.tags
    assert "svg" in page.tags
    assert {"ttbar__nominal", "local", "5,000", "4j2b_ttbar"} <= set(page.words)
    assert "src=" not in report.as_html(done)


def test_the_command_writes_both(file: Path, tmp_path: Path) -> None:
    where = tmp_path / "report.json"
    output = str(tmp_path / "h.root")
    arguments = ["run", "--input", str(file), "--output", output, "--report", str(where)]
    told = CliRunner().invoke(main, arguments)
    assert told.exit_code == 0, told.output
    assert json.loads(where.read_text())["entries"] == 5_000
    assert where.with_suffix(".html").read_text().startswith("<!doctype html>")
