"""NanoAOD of all versions, simulation and data: names, working points, and what is not known."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from agc import delivery, histograms, nanoaod, training
from agc.cli import main
from agc.columns import Columns
from agc.files import opened, summarize
from agc.nanoaod import ERAS, Jets, jets_of
from agc.processor import TtbarProcessor
from agc.run import read_only, run
from agc.samples import File, InputError, Sample
from agc.selection import columns
from agc.synth import TUNES, chunk
from click.testing import CliRunner
from coffea_shoppe_servicex import transform
from coffea_shoppe_servicex.codegens import Codegens
from shoppe_ci.analysis import check_inputs
from shoppe_ci.errors import ShoppeError

EVENTS = 3000
Branches = dict[str, Any]


def v9(branches: Branches) -> Branches:
    """Ultra Legacy: CSVv2 is there still, with DeepCSV and DeepJet beside it."""
    jets = branches["Jet"]
    # The taggers agree: what passes the one's cut passes the other's.
    for name, cut in (("btagDeepB", 0.4168), ("btagDeepFlavB", 0.2783)):
        jets = ak.with_field(jets, scaled(jets.btagCSVV2, cut), name)
    return {**branches, "Jet": jets}


def v12(branches: Branches) -> Branches:
    """Run 3: PUPPI jets with other taggers, integers of eight bits, no quark-gluon tag."""
    jets, electrons = branches["Jet"], branches["Electron"]
    tagged = {
        "btagPNetB": scaled(jets.btagCSVV2, 0.245),
        "btagDeepFlavB": scaled(jets.btagCSVV2, 0.3086),
        # The veto's own bit is not right in these versions: it is always set here.
        "jetId": ak.values_astype(ak.where(jets.jetId > 0, 6, 0), np.uint8),
        "muEF": ak.where((jets.jetId & 4) != 0, np.float32(0.1), np.float32(0.9)),
        "chEmEF": ak.full_like(jets.pt, 0.1),
    }
    electrons = ak.with_field(electrons, ak.values_astype(electrons.cutBased, np.uint8), "cutBased")
    return {**branches, "Jet": ak.zip({**momenta(jets), **tagged}), "Electron": electrons}


def v15(branches: Branches) -> Branches:
    """2024: UParT, and no jetId."""
    jets = branches["Jet"]
    good = (jets.jetId & 4) != 0
    some = ak.values_astype(ak.ones_like(jets.pt), np.uint8)
    composition = {
        "btagUParTAK4B": scaled(jets.btagCSVV2, 0.1272),
        "neHEF": ak.full_like(jets.pt, 0.1),
        "neEmEF": ak.where(good, np.float32(0.1), np.float32(0.95)),
        "chHEF": ak.full_like(jets.pt, 0.5),
        "chEmEF": ak.full_like(jets.pt, 0.1),
        "muEF": ak.full_like(jets.pt, 0.0),
        # Eight bits: the sum of both is 256, which is 0.
        "chMultiplicity": some * np.uint8(200),
        "neMultiplicity": some * np.uint8(56),
    }
    return {**branches, "Jet": ak.zip({**momenta(jets), **composition})}


def momenta(jets: ak.Array) -> dict[str, ak.Array]:
    return {name: jets[name] for name in ("pt", "eta", "phi", "mass")}


def scaled(discriminant: ak.Array, cut: float) -> ak.Array:
    """Return a discriminant whose cut is where CSVv2's is at 0.5."""
    wide = ak.values_astype(discriminant, np.float64)
    above = cut + (wide - 0.5) * (1 - cut)
    return ak.values_astype(ak.where(wide > 0.5, above, wide * 2 * cut), np.float32)


def data(branches: Branches) -> Branches:
    """The same without what the generator tells."""
    return {name: values for name, values in branches.items() if name != "GenPart"}


VERSIONS: dict[str, Callable[[Branches], Branches]] = {
    "v5": lambda branches: branches,
    "v9": v9,
    "v12": v12,
    "v15": v15,
    "data": lambda branches: data(v12(branches)),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One set of events in files of all versions."""
    path = tmp_path_factory.mktemp("versions")
    events = chunk(np.random.default_rng(7), TUNES["ttbar__nominal"], 0, EVENTS)
    for name, convert in VERSIONS.items():
        branches = convert(events)
        types = {k: v.dtype if isinstance(v, np.ndarray) else v.type for k, v in branches.items()}
        with uproot.recreate(path / f"{name}.root") as file:
            file.mktree("Events", types).extend(branches)
    return path


def yields(folder: Path, name: str, **options: Any) -> dict[str, float]:
    files = [File(Sample("ttbar"), str(folder / f"{name}.root"))]
    done = run(files, weights="unit", progress=False, **options)
    return histograms.counts(done.histograms)


@pytest.fixture(scope="module")
def expected(folder: Path) -> dict[str, float]:
    return yields(folder, "v5")


@pytest.mark.parametrize(
    ("version", "options"),
    [
        ("v9", {}),
        ("v9", {"era": "2018"}),
        ("v9", {"era": "2018", "btag": "btagDeepB"}),
        ("v9", {"btag": "Jet_btagDeepB=0.4168"}),
        ("v9", {"btag": "btagCSVV2"}),
        ("v12", {"era": "2022"}),
        ("v12", {"era": "2022", "btag": "btagDeepFlavB"}),
        ("v12", {"btag": "btagPNetB=0.245"}),
        ("v15", {"era": "2024"}),
        ("v15", {"btag": "btagUParTAK4B=0.1272"}),
        ("data", {"era": "2022"}),
    ],
)
def test_every_version_gives_the_same_yields(
    folder: Path, expected: dict[str, float], version: str, options: dict[str, str]
) -> None:
    assert min(expected.values()) > 20
    found = yields(folder, version, **options)
    assert found.keys() == expected.keys()
    for key, count in expected.items():
        # A float rounds a jet across its cut, now and then.
        assert found[key] == pytest.approx(count, abs=2)


@pytest.mark.parametrize(
    ("version", "definition"),
    [
        ("v12", Jets("btagPNetB", 0.245, "tight and fractions")),
        ("v15", Jets("btagUParTAK4B", 0.1272, "composition")),
    ],
)
def test_servicex_drops_nothing_that_is_selected(
    folder: Path, tmp_path: Path, version: str, definition: Jets
) -> None:
    chosen = {"treename": "Events", "filter_name": list(columns(definition))}
    asked = [{**chosen, "cut": delivery.cut_for(definition)}]
    query = Codegens.load().parse("uproot-raw", json.dumps(asked), "parquet")
    target = tmp_path / "out.parquet"
    transform.transform(
        query, [str(folder / f"{version}.root")], target, "parquet", local_files=True
    )
    table = ak.from_parquet(target)
    events = Columns.of({name: table[name] for name in table.fields}).records()
    assert 0 < len(events) < EVENTS / 2
    metadata = {"dataset": "d", "process": "ttbar", "variation": "nominal", "weight": 1.0}
    found = TtbarProcessor(definition=definition).analyse(events, metadata)["histograms"]
    expected = yields(folder, version, btag=f"{definition.tag}={definition.above}")
    assert histograms.counts(found) == expected


@pytest.mark.parametrize(
    ("version", "options", "told"),
    [
        ("v12", {}, r"tags b jets with btagDeepFlavB, btagPNetB, whose working point depends on"),
        ("v15", {}, r"give the era \(--era, one of 2016preVFP, .*2024\), or a cut"),
        (
            "v12",
            {"era": "2024"},
            "no working point is known for .*btagPNetB in 2024, only for btagU",
        ),
        ("v15", {"era": "2022"}, "known for btagUParTAK4B in 2022, only for btagPNetB, btagDeepFl"),
        ("v12", {"era": "2022", "btag": "btagDeepB=0.3"}, "v12.root: has no Jet_btagDeepB"),
        (
            "v9",
            {"era": "2022", "btag": "btagDeepB"},
            "is known for btagDeepB in 2022",
        ),
        ("v12", {"btag": "btagPNetB=high"}, "'btagPNetB=high' is not TAGGER=CUT, such as"),
        ("v12", {"btag": "btagPNetB=nan"}, "is not TAGGER=CUT"),
        ("v12", {"btag": "="}, "is not TAGGER=CUT"),
        ("v12", {"era": "1999"}, "unknown era '1999'; there are: 2016preVFP"),
    ],
)
def test_what_is_not_known_is_refused_with_the_remedy(
    folder: Path, version: str, options: dict[str, str], told: str
) -> None:
    with pytest.raises(InputError, match=told):
        yields(folder, version, **options)


def test_versions_are_not_mixed(folder: Path) -> None:
    files = [File(Sample("ttbar"), str(folder / f"{name}.root")) for name in ("v12", "v15")]
    with pytest.raises(InputError, match=r"v12\.root and .*v15\.root are of different versions"):
        run(files, progress=False, era="2022")


CAMPAIGNS = {
    "RunIISummer20UL16NanoAODAPVv9": "2016preVFP",
    "RunIISummer20UL16NanoAODv9": "2016postVFP",
    "RunIISummer20UL17NanoAODv9": "2017",
    "RunIISummer20UL18NanoAODv9": "2018",
    "Run3Summer22NanoAODv12": "2022",
    "Run3Summer22EENanoAODv12": "2022EE",
    "Run3Summer23NanoAODv12": "2023",
    "Run3Summer23BPixNanoAODv12": "2023BPix",
    "RunIII2024Summer24NanoAODv15": "2024",
}


@pytest.mark.parametrize("campaign", CAMPAIGNS)
def test_the_path_of_simulation_names_its_era(campaign: str) -> None:
    era = CAMPAIGNS[campaign]
    path = f"root://h//store/mc/{campaign}/TT_TuneCP5/NANOAODSIM/v1-v2/40000/f.root"
    for tagger, cut in ERAS[era].points.items():
        found = jets_of({path: frozenset({f"Jet_{tagger}", "Jet_jetId"})})
        assert (found.tag, found.above) == (tagger, cut)
        assert str(found) == f"{tagger} > {cut:g} (medium working point of {era})"


def test_two_eras_in_one_run_are_refused() -> None:
    names = frozenset({"Jet_btagPNetB", "Jet_jetId"})
    paths = [f"root://h//store/mc/{name}NanoAODv12/f" for name in ("Run3Summer22", "Run3Summer23")]
    with pytest.raises(InputError, match="give the era"):
        jets_of(dict.fromkeys(paths, names))


def test_the_command_says_how_b_jets_are_tagged(folder: Path, tmp_path: Path) -> None:
    words = ["run", "--output", str(tmp_path / "h.root"), "--report", str(tmp_path / "r.json")]
    done = CliRunner().invoke(main, [*words, "--input", str(folder / "v12.root"), "--era", "2022"])
    assert done.exit_code == 0, done.output
    assert "b tag: btagPNetB > 0.245 (medium working point of 2022)" in done.output
    assert "events expected in 3378/pb:" in done.output
    assert json.loads((tmp_path / "r.json").read_text())["btag"].startswith("btagPNetB > 0.245")
    assert "btagPNetB" in (tmp_path / "r.html").read_text()
    usual = CliRunner().invoke(main, [*words, "--input", str(folder / "v9.root")])
    assert "b tag: btagCSVV2 > 0.5 (the AGC's cut)" in usual.output


def test_data_are_told_from_simulation(folder: Path) -> None:
    files = [File(Sample("ttbar"), str(folder / "data.root"))]
    (note,) = run(files, progress=False, era="2022").notes
    assert "ttbar__nominal: " in note
    assert "has no generator branches: is it data?" in note
    assert run(files, weights="unit", progress=False, era="2022").notes == []
    simulated = [File(Sample("ttbar"), str(folder / "v12.root"))]
    assert run(simulated, progress=False, era="2022").notes == []


def test_copies_are_told_from_files_of_their_own(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.root"
    copy.write_bytes((folder / "v5.root").read_bytes())
    another = tmp_path / "another.root"
    another.write_bytes(copy.read_bytes())
    paths = [folder / "v5.root", copy, another, folder / "v9.root"]
    found = opened([File(Sample("ttbar"), str(path)) for path in paths], weights="unit")
    (note,) = found.notes
    assert note.startswith(f"{copy} and 1 more seems to be a copy of {folder / 'v5.root'}")


def test_models_need_what_later_versions_lack(folder: Path) -> None:
    with pytest.raises(InputError, match=r"Jet_btagCSVV2, Jet_qgl; the assignment of jets needs"):
        summarize(str(folder / "v12.root"), ("Jet_btagCSVV2", "Jet_qgl"))
    with pytest.raises(InputError, match="is it data"):
        summarize(str(folder / "data.root"), ("GenPart_eta",))
    with pytest.raises(InputError, match="lacks the branches"):
        training.collect([File(Sample("ttbar"), str(folder / "v12.root"))], progress=False)


@pytest.mark.parametrize("version", ["v12", "v15"])
def test_bytes_are_read_of_any_version(folder: Path, version: str) -> None:
    done = read_only([File(Sample("ttbar"), str(folder / f"{version}.root"))], 50, progress=False)
    assert done.bytes_read > 0


def test_the_demonstration_asks_for_the_era_before_anything_is_copied(folder: Path) -> None:
    with pytest.raises(ShoppeError, match="give the era"):
        check_inputs((str(folder / "v12.root"),))
    assert check_inputs((str(folder / "v12.root"),), era="2022")


def test_the_table_is_whole() -> None:
    for era in ERAS.values():
        assert era.points
        assert set(era.points) < set(nanoaod.TAGGERS)
        assert all(0 < cut < 1 for cut in era.points.values())
