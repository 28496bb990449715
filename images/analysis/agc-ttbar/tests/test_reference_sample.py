"""The real sample: counts and histograms that independent code agrees on."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import awkward as ak
import correctionlib
import numpy as np
import pytest
import uproot
from agc import histograms, selection, systematics
from agc.columns import Columns
from agc.nanoaod import Jets
from agc.run import Report, run
from agc.samples import parse_input
from agc.systematics import corrections
from agc.validate import differences, read_reference
from numpy.typing import NDArray

pytestmark = pytest.mark.reference


@pytest.fixture(scope="module")
def sample(reference_data: Path) -> Path:
    path = reference_data / "NanoAODv5_sample.root"
    assert hashlib.sha256(path.read_bytes()).hexdigest().startswith("80bbd11b")
    return path


@pytest.fixture(scope="module")
def unit(sample: Path) -> Report:
    return run([parse_input(f"{sample}=ttbar")], weights="unit", progress=False)


def test_counts_are_those_of_the_upstream_code(unit: Report) -> None:
    counts = histograms.counts(unit.histograms)
    assert counts == {"4j1b_ttbar": 35, "4j2b_ttbar": 73}
    varied = {k: h.sum(flow=True).value for k, h in unit.histograms.items() if "pt_scale_up" in k}
    assert varied == {"4j1b_ttbar_pt_scale_up": 34, "4j2b_ttbar_pt_scale_up": 75}


def test_the_command_shows_what_was_done_and_no_warning(sample: Path, tmp_path: Path) -> None:
    words = ["run", "--input", str(sample), "--weights", "unit"]
    program = f"from agc.cli import main; main({words!r})"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert "Warning" not in done.stderr
    shown = done.stdout.splitlines()
    assert "b tag: btagCSVV2 > 0.5 (the AGC's cut)" in shown
    assert [line.split() for line in shown if line.startswith("4j")] == [
        ["4j1b_ttbar", "35.0"],
        ["4j2b_ttbar", "73.0"],
    ]


def test_cross_section_weights_only_scale(unit: Report, sample: Path) -> None:
    weighted = run([parse_input(str(sample))], weights="xsec", progress=False)
    scale = 729.84 * 3378 / 1000
    for key, histogram in unit.histograms.items():
        ours = weighted.histograms[key].values(flow=True)
        np.testing.assert_allclose(ours, histogram.values(flow=True) * scale, rtol=1e-10)


@pytest.mark.parametrize("chunk_size", [137, 500, 10_000])
def test_results_do_not_depend_on_the_chunks(unit: Report, sample: Path, chunk_size: int) -> None:
    again = run([parse_input(str(sample))], weights="unit", chunk_size=chunk_size, progress=False)
    assert set(again.histograms) == set(unit.histograms)
    for key, histogram in unit.histograms.items():
        ours = again.histograms[key].values(flow=True)
        np.testing.assert_allclose(ours, histogram.values(flow=True), rtol=1e-10)


@pytest.fixture(scope="module")
def events(sample: Path) -> ak.Array:
    with uproot.open(sample) as file:
        arrays = file["Events"].arrays(list(selection.columns(Jets())))
    return Columns.of({name: arrays[name] for name in arrays.fields}).records()


@pytest.mark.parametrize("low", [16, 32, 64, 128, 256])
def test_the_smearing_is_unbiased_at_all_momenta(events: ak.Array, low: int) -> None:
    position = ak.local_index(events.Jet.pt)
    drawn = systematics.draws(systematics.event_numbers(events), position)
    smeared = systematics.jet_pt(events.Jet.pt, "pt_res_up", drawn)
    pt = np.asarray(ak.flatten(events.Jet.pt))
    chosen = (pt >= low) & (pt < 2 * low)
    factors = np.asarray(ak.flatten(smeared))[chosen] / pt[chosen]
    count = len(factors)
    assert count > 50
    assert np.mean(factors) == pytest.approx(1, abs=3 * 0.05 / np.sqrt(count))
    assert np.std(factors) == pytest.approx(0.05, rel=3 / np.sqrt(2 * count))


def test_the_smeared_histograms_are_those_of_random_seeds(events: ak.Array) -> None:
    # Upstream draws without a seed: each of its runs is one of many.
    one_lepton = selection.one_lepton(events)
    numbers = systematics.event_numbers(events)[one_lepton]
    jets = selection.candidates(events[one_lepton].Jet)
    counts = ak.num(jets)
    edges = np.concatenate([[-np.inf], np.linspace(50, 550, 26), [np.inf]])

    def contents(drawn: ak.Array) -> NDArray[np.int64]:
        varied = systematics.jet_pt(jets.pt, "pt_res_up", drawn)
        regions = selection.regions(jets, varied).values()
        return np.array([np.histogram(region.observable, edges)[0] for region in regions])

    seeds = np.array(
        [
            contents(ak.unflatten(np.random.default_rng(seed).normal(size=ak.sum(counts)), counts))
            for seed in range(100)
        ]
    )
    filled = contents(systematics.draws(numbers, jets.position))
    assert filled.sum() > 100
    assert np.all(abs(filled - seeds.mean(axis=0)) <= 3 * seeds.std(axis=0))


def test_our_weights_are_those_of_the_reference_corrections(reference_data: Path) -> None:
    theirs = correctionlib.CorrectionSet.from_file(str(reference_data / "agc" / "corrections.json"))
    pt = np.linspace(20, 600, 50)
    for name in ("btag_var", "scale_var", "something_else"):
        for direction in ("up", "down"):
            ours = corrections()["event_systematics"].evaluate(name, direction, pt)
            reference = theirs["event_systematics"].evaluate(name, direction, pt)
            np.testing.assert_allclose(ours, reference, rtol=1e-12)


def test_the_reference_names_its_histograms_as_we_do(reference_data: Path) -> None:
    reference = read_reference(reference_data / "agc" / "histos_1.json")
    from agc.samples import VARIATIONS
    from agc.selection import REGIONS
    from agc.systematics import KINEMATIC, weight_variations

    weights = {p: weight_variations(p, np.ones((1, 4))) for p in VARIATIONS}
    ours = set()
    for region in REGIONS:
        ours.add(f"{region}_pseudodata")
        for process, variations in VARIATIONS.items():
            for variation in variations:
                names = [*KINEMATIC, *weights[process]] if variation == "nominal" else [variation]
                ours |= {histograms.name(region, process, name) for name in names}
    assert ours == set(reference)


def test_a_reference_agrees_with_itself_and_not_with_another(reference_data: Path) -> None:
    def load(count: int) -> tuple[histograms.Histograms, dict[str, object]]:
        path = reference_data / "agc" / f"histos_{count}.json"
        content = json.loads(path.read_text())
        found = {}
        for key, entry in content.items():
            histogram = histograms.empty(histograms.channel_of(key))
            histogram.view(flow=True).value = entry["contents"]
            found[key] = histogram
        return found, read_reference(path)

    ours, theirs = load(1)
    assert differences(ours, theirs) == []
    assert len(differences(ours, load(10)[1])) > 50
