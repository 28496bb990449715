"""The synthetic samples look like what they stand for, and run through the analysis."""

from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot
from agc import histograms, plots
from agc.files import summarize
from agc.run import Report, run
from agc.samples import CROSS_SECTIONS, LUMINOSITY, read_fileset, sample
from agc.synth import LAST_COPY, TUNES, write, write_all

# Weighted yields of CMS' simulation with all files (4j1b, 4j2b), and how far a toy
# of this size may be off: the systematic difference and its own statistics.
YIELDS = {
    "ttbar__nominal": (23448.0, 52428.7, 0.2),
    "ttbar__ME_var": (30624.0, 62525.1, 0.2),
    "ttbar__PS_var": (25560.2, 50364.0, 0.25),
    "ttbar__scaledown": (22732.6, 48262.8, 0.2),
    "ttbar__scaleup": (23714.4, 54955.9, 0.2),
    "single_top_tW__nominal": (1785.1, 2359.7, 0.45),
    "single_top_t_chan__nominal": (558.2, 1003.8, 0.6),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("synth")
    counts = dict(write_all(target, events=50_000))
    assert len(counts) == 9
    return target


@pytest.fixture(scope="module")
def report(folder: Path) -> Report:
    return run(read_fileset(folder / "fileset.json"), progress=False)


@pytest.mark.parametrize("name", YIELDS)
def test_yields_are_near_those_of_the_simulation(report: Report, name: str) -> None:
    process, variation = name.split("__")
    one, two, tolerance = YIELDS[name]
    for region, expected in (("4j1b", one), ("4j2b", two)):
        found = report.histograms[histograms.name(region, process, variation)]
        assert found.sum(flow=True).value == pytest.approx(expected, rel=tolerance)


def test_wjets_are_rare_and_mostly_in_the_one_tag_region(report: Report) -> None:
    weight = CROSS_SECTIONS["wjets"] * LUMINOSITY / report.events["wjets__nominal"]
    one = report.histograms["4j1b_wjets"].sum(flow=True).value / weight
    assert 15 <= one <= 160


def test_the_top_quark_peaks_where_it_should(report: Report) -> None:
    values = report.histograms["4j2b_ttbar"].values()
    centres = report.histograms["4j2b_ttbar"].axes[0].centers
    assert 150 < centres[np.argmax(values)] < 200


def test_the_same_seed_gives_the_same_events(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write(tmp_path / f"{name}.root", sample("ttbar"), events=200, seed=seed)
    files = {name: uproot.open(tmp_path / f"{name}.root") for name in "abc"}
    jets = {name: file["Events"]["Jet_pt"].array() for name, file in files.items()}
    assert ak.almost_equal(jets["a"], jets["b"])
    assert ak.num(jets["a"]).tolist() != ak.num(jets["c"]).tolist()


def test_files_are_nanoaod_with_one_counter_a_collection(folder: Path) -> None:
    for name in TUNES:
        assert summarize(str(folder / f"{name}.root")).events > 0
    tree = uproot.open(folder / "ttbar__nominal.root")["Events"]
    assert [key for key in tree.keys() if key.startswith("nJet")] == ["nJet"]  # noqa: SIM118
    pt = tree["Jet_pt"].array()
    assert ak.all(pt[:, :-1] >= pt[:, 1:])
    parity = tree["event"].array(library="np") % 2
    assert abs(parity.mean() - 0.5) < 0.01


def test_the_generator_record_is_consistent(folder: Path) -> None:
    tree = uproot.open(folder / "ttbar__nominal.root")["Events"]
    names = ("pdgId", "genPartIdxMother", "statusFlags")
    pdg, mother, flags = (tree[f"GenPart_{name}"].array() for name in names)
    assert ak.all(flags & LAST_COPY)
    for quark in (5, 24):
        parents = pdg[mother[np.abs(pdg) == quark]]
        assert ak.all(np.abs(parents) == 6)
    light = (np.abs(pdg) < 5) & (mother >= 0)
    assert ak.all(np.abs(pdg[mother[light]]) == 24)
    assert ak.all(ak.sum(np.abs(pdg) == 6, axis=1) == 2)


def test_every_region_is_drawn(report: Report, tmp_path: Path) -> None:
    written = plots.save(report.histograms, tmp_path)
    assert [path.name for path in written] == ["4j1b.png", "4j2b.png"]
    assert all(path.stat().st_size > 20_000 for path in written)


def test_histograms_survive_a_file(report: Report, tmp_path: Path) -> None:
    histograms.save(report.histograms, tmp_path / "h.root")
    again = histograms.load(tmp_path / "h.root")
    assert set(again) == {*report.histograms, "4j1b_pseudodata", "4j2b_pseudodata"}
    for key, histogram in report.histograms.items():
        assert again[key] == histogram
    pseudo = report.histograms["4j2b_ttbar_ME_var"] + report.histograms["4j2b_ttbar_PS_var"]
    total = pseudo * 0.5 + report.histograms["4j2b_wjets"]
    np.testing.assert_allclose(again["4j2b_pseudodata"].values(), total.values())


def test_the_band_covers_the_variations(report: Report) -> None:
    total, error = plots.band(report.histograms, "4j2b")
    nominal = report.histograms["4j2b_ttbar"]
    shift = np.abs(report.histograms["4j2b_ttbar_ME_var"].values() - nominal.values())
    assert np.all(total >= nominal.values())
    assert np.all(error >= shift * 0.999)
