"""Delivered columns as events, and the same histograms as by reading the files."""

import json
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
from agc import delivery, histograms, synth
from agc.columns import Columns
from agc.nanoaod import Jets
from agc.processor import TtbarProcessor
from agc.run import run
from agc.samples import File, InputError, Sample
from agc.selection import ASSIGNMENT_BRANCHES, BRANCHES, columns
from coffea_shoppe_servicex import transform
from coffea_shoppe_servicex.codegens import Codegens

COLUMNS = columns(Jets())


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("synth") / "ttbar.root"
    synth.write(path, Sample("ttbar"), events=6000, seed=3)
    return path


def delivered(path: Path, branches: tuple[str, ...], folder: Path, cut: str = delivery.CUT) -> Any:
    """Return what a transformer makes of a file, as the analysis reads it."""
    asked = {"treename": "Events", "filter_name": list(branches), "cut": cut}
    query = Codegens.load().parse("uproot-raw", json.dumps([asked]), "parquet")
    target = folder / "out.parquet"
    transform.transform(query, [str(path)], target, "parquet", local_files=True)
    columns = ak.from_parquet(target)
    return Columns.of({name: columns[name] for name in columns.fields}).records()


@pytest.mark.parametrize(
    "branches", [COLUMNS, tuple(dict.fromkeys((*BRANCHES, *ASSIGNMENT_BRANCHES)))]
)
def test_the_transformers_cut_drops_nothing_that_is_selected(
    sample: Path, branches: tuple[str, ...], tmp_path: Path
) -> None:
    events = delivered(sample, branches, tmp_path)
    assert 0 < len(events) < 3000
    told = {"dataset": "d", "process": "ttbar", "variation": "nominal", "weight": 1.0}
    ours = TtbarProcessor().analyse(events, told)["histograms"]
    theirs = run([File(Sample("ttbar"), str(sample))], weights="unit", progress=False).histograms
    assert set(ours) == set(theirs)
    for key, histogram in theirs.items():
        np.testing.assert_array_equal(ours[key].values(flow=True), histogram.values(flow=True))
    assert sum(histograms.counts(ours).values()) > 0


def test_what_is_made_anew_has_the_same_events(sample: Path, tmp_path: Path) -> None:
    one, other = delivery.with_cache_buster(delivery.CUT), delivery.with_cache_buster(delivery.CUT)
    assert one != other
    kept = delivered(sample, COLUMNS, tmp_path)
    assert ak.to_list(delivered(sample, COLUMNS, tmp_path, one)) == ak.to_list(kept)


def test_columns_of_one_prefix_are_a_collection() -> None:
    columns = {
        "event": ak.Array([1, 2]),
        "Jet_pt": ak.Array([[1.0], []]),
        "Jet_btag_a": ak.Array([[2.0], []]),
        "MET_pt": ak.Array([3.0, 4.0]),
    }
    events = Columns.of(columns).records()
    assert sorted(events.fields) == ["Jet", "MET_pt", "event"]
    assert ak.to_list(events.Jet) == [[{"pt": 1.0, "btag_a": 2.0}], []]


def test_lists_of_one_collection_have_one_length() -> None:
    columns = {"Jet_pt": ak.Array([[1.0], []]), "Jet_eta": ak.Array([[], [1.0]])}
    with pytest.raises(InputError, match="Jet_eta has lists of other lengths"):
        Columns.of(columns)


@pytest.mark.parametrize(
    ("count", "workers", "sizes"),
    [(1, 2, [1]), (20, 2, [5] * 4), (7, 2, [1] * 7), (1000, 2, [50] * 20)],
)
def test_every_file_is_in_one_group(count: int, workers: int, sizes: list[int]) -> None:
    urls = [str(number) for number in range(count)]
    groups = delivery.batches(urls, workers)
    assert [len(group) for group in groups] == sizes
    assert [url for group in groups for url in group] == urls


def test_a_source_that_there_is_not_is_refused(sample: Path) -> None:
    with pytest.raises(InputError, match="direct or servicex, not from 'carrier pigeon'"):
        run([File(Sample("ttbar"), str(sample))], source="carrier pigeon")
    with pytest.raises(InputError, match="no input files"):
        run([], source="servicex")
