"""The options of `agc run` that do not name its input."""

import json
from pathlib import Path

import numpy as np
import pytest
import uproot
from agc import histograms, samples
from agc.cli import main
from agc.columns import compressed_sizes
from agc.run import columns_for
from agc.samples import InputError, sample
from agc.synth import write
from click.testing import CliRunner, Result

EVENTS = 4000


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("knobs") / "ttbar.root"
    write(path, sample("ttbar"), events=EVENTS)
    return path


def agc_run(file: Path, tmp_path: Path, *options: str) -> Result:
    words = ["run", "--input", str(file), "--output", str(tmp_path / "h.root"), *options]
    return CliRunner().invoke(main, [*words, "--report", str(tmp_path / "report.json")])


def test_bins_are_what_was_asked_for_and_hold_the_same_events(file: Path, tmp_path: Path) -> None:
    assert agc_run(file, tmp_path).exit_code == 0
    usual = histograms.load(tmp_path / "h.root")["4j1b_ttbar"]
    done = agc_run(file, tmp_path, "--bins", "10", "--range", "50", "250")
    assert done.exit_code == 0, done.output
    found = histograms.load(tmp_path / "h.root")["4j1b_ttbar"]
    assert np.allclose(found.axes[0].edges, np.linspace(50, 250, 11))
    assert found.values() == pytest.approx(usual.values()[:10])
    assert found.sum(flow=True).value == pytest.approx(usual.sum(flow=True).value)
    plots = CliRunner().invoke(
        main, ["plot", str(tmp_path / "h.root"), "--output", str(tmp_path / "plots")]
    )
    assert plots.exit_code == 0, plots.output
    fit = CliRunner().invoke(main, ["fit", str(tmp_path / "h.root")])
    assert fit.exit_code == 1
    assert "the fit is for 25 bins from 50 to 550 GeV" in fit.output


@pytest.mark.parametrize(
    "options", [("--bins", "0"), ("--range", "100", "50"), ("--range", "50", "50")]
)
def test_bins_that_are_none_are_refused(
    file: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    done = agc_run(file, tmp_path, *options)
    assert done.exit_code == 1
    assert "set --bins to at least 1, and --range to LOW below HIGH" in done.output


@pytest.mark.parametrize("percent", [4.1, 15, 25, 50, 100])
def test_a_share_of_the_bytes_is_read(file: Path, tmp_path: Path, percent: float) -> None:
    with uproot.open(file) as opened:
        tree = opened["Events"]
        sizes = {name: tree[name].compressed_bytes for name in tree.keys(recursive=False)}
    chosen = columns_for(str(file), percent)
    wanted = percent / 100 * sum(sizes.values())
    read = sum(sizes[name] for name in chosen)
    assert read >= wanted
    assert read - sizes[chosen[-1]] < wanted, "and no branch more than that"
    done = agc_run(file, tmp_path, "--read-only", str(percent))
    assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["bytesread"] == read
    assert report["entries"] == EVENTS
    assert "Gbps" in done.output
    assert not (tmp_path / "h.root").exists()


@pytest.fixture(scope="module")
def ntuple(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("knobs") / "rntuple.root"
    write(path, sample("ttbar"), events=EVENTS, container="rntuple")
    return path


def test_the_sizes_of_an_rntuple_s_fields_are_those_of_its_pages(ntuple: Path) -> None:
    with uproot.open(ntuple) as opened:
        tree = opened["Events"]
        sizes = compressed_sizes(tree)
        assert set(sizes) == set(tree.keys(recursive=False))
        assert min(sizes.values()) > 0
    # The rest of the file is its header and footer, and the lists of pages.
    assert 0.8 * ntuple.stat().st_size < sum(sizes.values()) < ntuple.stat().st_size


@pytest.mark.parametrize("percent", [15, 100])
def test_a_share_of_an_rntuple_is_read(ntuple: Path, tmp_path: Path, percent: float) -> None:
    with uproot.open(ntuple) as opened:
        sizes = compressed_sizes(opened["Events"])
    chosen = columns_for(str(ntuple), percent)
    assert sum(sizes[name] for name in chosen) >= percent / 100 * sum(sizes.values())
    done = agc_run(ntuple, tmp_path, "--read-only", str(percent))
    assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["bytesread"] == sum(sizes[name] for name in chosen)
    assert report["entries"] == EVENTS


def test_reading_alone_goes_with_no_analysis(file: Path, tmp_path: Path) -> None:
    done = agc_run(file, tmp_path, "--read-only", "15", "--served", "mine")
    assert done.exit_code == 2
    assert "--read-only goes with none of" in done.output


def test_a_cache_may_be_named() -> None:
    located = samples.via_cache("root://cache.example.org:1094/")
    assert (
        located("root://origin//a.root") == "root://cache.example.org:1094//root://origin//a.root"
    )
    assert located("/data/a.root") == "/data/a.root"
    for wrong in ("cache.example.org", "http://cache", "root://cache/folder"):
        with pytest.raises(InputError, match="give root://HOST:PORT"):
            samples.via_cache(wrong)
