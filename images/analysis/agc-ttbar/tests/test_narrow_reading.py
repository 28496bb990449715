"""Files are opened once for a run, only used columns are read, and results are exact sums."""

import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import agc.run
import awkward as ak
import cloudpickle
import numpy as np
import pytest
import uproot
from agc import histograms, selection
from agc.columns import OpenFiles, read_ahead
from agc.nanoaod import Jets
from agc.run import Report, run
from agc.samples import File, InputError, Sample
from agc.synth import TUNES, chunk
from coffea import processor

TTBAR = Sample("ttbar")
EVENTS = 1500
UNUSED = {"luminosityBlock", "Electron_charge", "Muon_charge", "Muon_phi", "Jet_qgl"}


def written(path: Path, branches: dict[str, Any]) -> Path:
    types = {k: v.dtype if isinstance(v, np.ndarray) else v.type for k, v in branches.items()}
    with uproot.recreate(path) as file:
        file.mktree("Events", types).extend(branches)
    return path


def synthetic(seed: int, first: int) -> dict[str, Any]:
    branches = chunk(np.random.default_rng(seed), TUNES["ttbar__nominal"], first, EVENTS)
    return {name: values for name, values in branches.items() if name != "GenPart"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("narrow")
    written(path / "a.root", synthetic(1, 0))
    written(path / "b.root", synthetic(2, EVENTS))
    few = synthetic(1, 0)
    del few["luminosityBlock"]
    for name in ("Electron", "Muon"):
        kept = [field for field in few[name].fields if field not in ("charge", "phi", "mass")]
        few[name] = few[name][kept]
    written(path / "few.root", few)
    return path


def report(folder: Path, *names: str, **options: Any) -> Report:
    files = [File(TTBAR, str(folder / f"{name}.root")) for name in names]
    return run(files, progress=False, **options)


def contents(done: Report) -> dict[str, Any]:
    return {key: histogram.view(flow=True) for key, histogram in done.histograms.items()}


@pytest.mark.parametrize("chunk_size", [200, 1_000])
def test_chunks_and_the_order_of_files_give_the_same_bits(folder: Path, chunk_size: int) -> None:
    usual = contents(report(folder, "a", "b"))
    other = contents(report(folder, "b", "a", chunk_size=chunk_size))
    assert usual.keys() == other.keys()
    assert len(usual) == 22
    for key, histogram in usual.items():
        assert histogram.tobytes() == other[key].tobytes(), key


def test_each_file_is_opened_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: Counter[str] = Counter()
    open_file = uproot.open

    def counted(files: dict[str, None], **options: Any) -> Any:
        opened.update(files.keys())
        return open_file(files, **options)

    monkeypatch.setattr(uproot, "open", counted)
    done = report(folder, "a", "b", chunk_size=500)
    assert len(done.chunks) == 6
    assert list(opened.values()) == [1, 1]


class Elsewhere:
    """An executor whose function comes from another process, as on a Dask worker."""

    def copy(self, **_: Any) -> "Elsewhere":
        return self

    def __call__(self, items: Any, function: Any, accumulator: Any) -> tuple[Any, int]:
        sent = cloudpickle.dumps(function)
        return processor.accumulate(map(cloudpickle.loads(sent), items), accumulator), 0


def test_the_work_can_be_sent_to_another_process(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = contents(report(folder, "a", "b"))
    monkeypatch.setattr(agc.run, "_executor", lambda *_, **__: Elsewhere())
    there = contents(report(folder, "a", "b"))
    assert here.keys() == there.keys()
    assert all(np.array_equal(here[key], there[key]) for key in here)


def test_a_file_that_changed_between_runs_is_read_again(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "c.root"
    yields = []
    for name in ("a", "b"):
        path.write_bytes((folder / f"{name}.root").read_bytes())
        yields.append(histograms.counts(report(tmp_path, "c", weights="unit").histograms))
    assert yields[1] == histograms.counts(report(folder, "b", weights="unit").histograms)
    assert yields[0] != yields[1]


def test_only_what_is_used_is_demanded_and_read(folder: Path) -> None:
    assert UNUSED.isdisjoint(set(selection.columns(Jets())) - {"luminosityBlock"})
    every, few = (report(folder, name, weights="unit") for name in ("a", "few"))
    assert every.notes == []
    assert "few.root has no luminosityBlock: jets are smeared by run, event and" in few.notes[0]
    for key, histogram in every.histograms.items():
        if "pt_res_up" not in key:
            assert few.histograms[key] == histogram
    assert few.histograms["4j2b_ttbar_pt_res_up"].sum(flow=True).value > 0
    again = contents(report(folder, "few", chunk_size=200, weights="unit"))
    for key, values in contents(few).items():
        assert again[key].tobytes() == values.tobytes(), "entries are counted over chunks"


def test_columns_are_those_of_uproot(folder: Path) -> None:
    branches = selection.columns(Jets())
    file = OpenFiles().file("run", str(folder / "a.root"))
    read, size = file.read(branches, 100, 300)
    with uproot.open(folder / "a.root") as opened:
        expected = opened["Events"].arrays(list(branches), entry_start=100, entry_stop=300)
    assert (read.events, read.first) == (200, 100)
    assert size > 0
    records = read.records()
    assert ak.to_list(records.Jet.pt) == ak.to_list(expected.Jet_pt)
    assert ak.to_list(records.event) == ak.to_list(expected.event)
    file.close()
    assert file.read(branches, 0, 1)[0].events == 1, "a closed file is opened again"


def test_baskets_are_decompressed_by_isal(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unused(*_: Any, **__: Any) -> bytes:
        raise AssertionError("zlib was used")

    monkeypatch.setattr(zlib, "decompress", unused)
    file = OpenFiles().file("run", str(folder / "a.root"))
    assert file.read(("Jet_pt",), 0, 10)[0].events == 10


def test_no_more_files_stay_open_than_allowed(folder: Path) -> None:
    files = OpenFiles(most=1)
    first = files.file("run", str(folder / "a.root"))
    assert files.file("run", str(folder / "a.root")) is first
    files.file("run", str(folder / "b.root"))
    assert files.file("run", str(folder / "a.root")) is not first
    again = files.file("run", str(folder / "a.root"))
    assert files.file("another run", str(folder / "a.root")) is not again


def test_what_is_read_ahead_keeps_its_order_and_its_errors() -> None:
    def half(number: int) -> float:
        if number == 3:
            raise InputError("three is odd")
        return number / 2

    assert list(read_ahead([2, 4, 6], half)) == [(2, 1.0), (4, 2.0), (6, 3.0)]
    assert list(read_ahead([], half)) == []
    with pytest.raises(InputError, match="three is odd"):
        list(read_ahead([2, 3], half))


def test_sums_of_factors_are_exact() -> None:
    sums: histograms.Sums = {}
    factors = np.random.default_rng(1).uniform(1, 3, 1000)
    values = np.full(1000, 100.0)
    histograms.fill(sums, "4j1b", values, {"4j1b_ttbar": None, "4j1b_ttbar_x": factors})
    made = histograms.weighted(sums, 0.3)
    expected = histograms.empty("4j1b").fill(values, weight=0.3 * factors)
    np.testing.assert_allclose(made["4j1b_ttbar_x"].values(), expected.values(), rtol=1e-13, atol=0)
    np.testing.assert_allclose(
        made["4j1b_ttbar_x"].variances(), expected.variances(), rtol=1e-13, atol=0
    )
    assert made["4j1b_ttbar"].sum().value == 1000 * 0.3
    shuffled: histograms.Sums = {}
    histograms.fill(shuffled, "4j1b", values, {"4j1b_ttbar_x": factors[::-1]})
    np.testing.assert_array_equal(shuffled["4j1b_ttbar_x"], sums["4j1b_ttbar_x"])


@pytest.mark.parametrize("values", [[np.nan], [np.inf], [-np.inf], [50.0], [550.0], [549.999]])
def test_bins_are_those_of_hist(values: list[float]) -> None:
    sums: histograms.Sums = {}
    histograms.fill(sums, "4j1b", np.array(values), {"4j1b_ttbar": None})
    made = histograms.weighted(sums, 1.0)["4j1b_ttbar"]
    assert made == histograms.empty("4j1b").fill(values)
