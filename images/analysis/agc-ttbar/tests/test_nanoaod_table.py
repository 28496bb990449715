"""Synthetic files with all branches are like real NanoAOD."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from agc import nanoaod_table, synth
from agc.samples import sample
from agc.synth import NOMINAL, SOFT, Container, write
from click.testing import CliRunner

EVENTS = 15_000
"""Two baskets: a basket of 7,500 events is compressed as in a large file."""


def test_the_table_has_each_branch_with_a_type_and_a_counter() -> None:
    by_counter = nanoaod_table.branches()
    rows = [branch for branches in by_counter.values() for branch in branches]
    counters = set(by_counter) - {""}
    assert len({branch.name for branch in rows}) + len(counters) == 947
    filler = {branch.counter for branch in rows if branch.filled is not None}
    drawn = {*nanoaod_table.MULTIPLICITIES, *nanoaod_table.LENGTHS}
    assert drawn <= counters
    assert filler - drawn == {"", "nElectron", "nMuon", "nJet"}


def test_floats_are_rounded_to_the_nearest() -> None:
    values = np.array([1, 1 + 2**-10, 1 + 2**-12, 1 + 3 * 2**-12, -3.1], dtype=np.float32)
    rounded = nanoaod_table.rounded(values.copy(), 10)
    assert rounded[:4].tolist() == [1, 1 + 2**-10, 1, 1 + 2**-10]
    assert abs(rounded[4] + 3.1) < 3.1 * 2**-11
    np.testing.assert_array_equal(nanoaod_table.rounded(values.copy(), 23), values)


def test_soft_objects_are_never_selected() -> None:
    record = synth.hard_process(np.random.default_rng(1), NOMINAL, 2_000)
    soft = SOFT["nano"]
    plain, more = (synth.jets(np.random.default_rng(2), NOMINAL, record, s) for s in (None, soft))
    assert ak.sum(ak.num(more)) > 1.3 * ak.sum(ak.num(plain))
    assert ak.all(ak.sum(more.pt > 24, axis=1) == ak.sum(plain.pt > 24, axis=1))
    counts: dict[Any, list[int]] = defaultdict(list)
    for s in (None, soft):
        electrons = synth.leptons(np.random.default_rng(3), NOMINAL, record, 11, s)
        muons = synth.leptons(np.random.default_rng(4), NOMINAL, record, 13, s)
        counts["all"].append(len(ak.flatten(electrons.pt)) + len(ak.flatten(muons.pt)))
        good = ak.sum(electrons.cutBased == 4), ak.sum(muons.tightId)
        counts["good"].append(int(sum(good)))
    assert counts["all"][1] > 3 * counts["all"][0]
    assert counts["good"][1] == pytest.approx(counts["good"][0], rel=0.1)


def test_the_decays_are_found_among_more_particles() -> None:
    record = synth.hard_process(np.random.default_rng(1), NOMINAL, 500)
    plain = synth.generator_particles(np.random.default_rng(2), record)
    more = synth.generator_particles(np.random.default_rng(2), record, SOFT["nano"])
    known = more[ak.local_index(more.pdgId) < ak.num(plain)]
    assert ak.all(known.pdgId == plain.pdgId)
    later = more[ak.local_index(more.pdgId) >= ak.num(plain)]
    assert ak.all(np.abs(later.pdgId) > 16)
    assert ak.all((later.genPartIdxMother >= 0) & (later.genPartIdxMother < ak.num(more)))


def test_tree_and_rntuple_have_the_same_values(tmp_path: Path) -> None:
    containers: tuple[Container, ...] = ("ttree", "rntuple")
    for container in containers:
        path = tmp_path / f"{container}.root"
        write(path, sample("ttbar"), events=50, like="nano", container=container)
    tree, ntuple = (uproot.open(tmp_path / f"{name}.root")["Events"] for name in containers)
    assert set(tree.keys()) == set(ntuple.keys())
    assert len(tree.keys()) == 947
    for name in ("event", "nJet", "Jet_pt", "Muon_tightId", "LHEPdfWeight", "HLT_IsoMu20"):
        assert ak.array_equal(tree[name].array(), ntuple[name].array(), dtype_exact=False)


def test_the_command_refuses_an_unknown_likeness(tmp_path: Path) -> None:
    from agc.cli import main

    done = CliRunner().invoke(main, ["synth", "--like", "mini", "--output", str(tmp_path)])
    assert done.exit_code == 2
    assert "'demo', 'nano'" in done.output


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("nano") / "ttbar.root"
    write(path, sample("ttbar"), events=EVENTS, like="nano")
    return uproot.open(path)["Events"]


@pytest.fixture(scope="module")
def real(reference_data: Path) -> Any:
    return uproot.open(reference_data / "NanoAODv5_sample.root")["Events"]


def counter_of(branch: Any) -> str:
    counter = branch.member("fLeaves")[0].member("fLeafCount")
    return "" if counter is None else str(counter.member("fName"))


@pytest.mark.reference
def test_branches_and_types_are_those_of_the_agc(written: Any, reference_data: Path) -> None:
    schema = uproot.open(reference_data / "nanoAOD_2015_CMS_Open_Data_ttbar.root")["Events"]
    expected = {b.name: (b.typename, counter_of(b)) for b in schema.branches}
    # uproot writes signed counters.
    counters = {counter for _, counter in expected.values()} - {""}
    expected |= dict.fromkeys(counters, ("int32_t", ""))
    assert {b.name: (b.typename, counter_of(b)) for b in written.branches} == expected


@pytest.mark.reference
def test_multiplicities_are_those_of_the_real_sample(written: Any, real: Any) -> None:
    counters = {counter_of(branch) for branch in written.branches} - {""}
    theory = {"nLHEPdfWeight", "nLHEScaleWeight", "nLHEReweightingWeight", "nPSWeight"}
    shared = {counter for counter in counters if counter in real} - theory
    assert len(shared) == 16
    for counter in shared:
        mean, expected = (t[counter].array(library="np").mean() for t in (written, real))
        assert mean == pytest.approx(expected, rel=0.07, abs=0.02), counter


@pytest.mark.reference
def test_sizes_are_those_of_the_real_sample(written: Any, real: Any) -> None:
    # By collection.  Triggers differ by year, weights of theory by generator.
    compressed: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    raw: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    other = ("HLT", "Flag", "LHEPdfWeight", "LHEScaleWeight", "LHEReweightingWeight", "PSWeight")
    for branch in written.branches:
        if branch.name in real and branch.name.split("_")[0] not in other:
            group = counter_of(branch) or "event"
            for side, (owner, events) in enumerate(((branch, EVENTS), (real[branch.name], 1000))):
                compressed[group][side] += owner.compressed_bytes / events
                raw[group][side] += owner.uncompressed_bytes / events
    assert len(compressed) == 17
    for group, (size, expected) in compressed.items():
        assert size == pytest.approx(expected, rel=0.2), group
    size, expected = np.sum(list(compressed.values()), axis=0)
    assert size == pytest.approx(expected, rel=0.05)
    ratio, real_ratio = np.sum(list(raw.values()), axis=0) / (size, expected)
    assert ratio == pytest.approx(real_ratio, rel=0.05)
    assert 2.0 < ratio < 2.6


@pytest.mark.reference
def test_floats_have_the_precision_of_the_real_sample(written: Any, real: Any) -> None:
    def mantissa(branch: Any) -> int:
        values = np.asarray(ak.flatten(branch.array(), axis=None))
        pattern = values[np.isfinite(values)].view(np.uint32) & 0x7FFFFF
        pattern = np.unique(pattern[pattern != 0])
        return nanoaod_table.MANTISSA - int(np.log2(np.min(pattern & -pattern, initial=1 << 23)))

    used = [f"Jet_{name}" for name in ("pt", "eta", "phi", "mass", "btagCSVV2", "qgl")]
    used += ["Electron_pt", "Electron_sip3d", "Muon_eta", "Muon_pfRelIso04_all", "GenPart_pt"]
    for name in [*used, "MET_phi", "FatJet_mass", "SV_chi2", "Tau_eta", "Jet_chHEF"]:
        assert mantissa(written[name]) == mantissa(real[name]), name


@pytest.mark.reference
def test_baskets_are_those_of_real_files(written: Any) -> None:
    assert {branch.num_baskets for branch in written.branches} == {2}
    assert np.diff(written["Jet_pt"].entry_offsets).tolist() == [7_500, 7_500]
