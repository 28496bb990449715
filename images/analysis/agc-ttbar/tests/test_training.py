"""Labels from the generator's record, trials, and the models that come of them."""

import json
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from agc import training
from agc.cli import main
from agc.inference import LocalModels
from agc.samples import InputError, parse_input, sample
from agc.synth import write
from click.testing import CliRunner
from coffea.nanoevents import NanoAODSchema, NanoEventsFactory

LAST = 1 << 13


def particle(pdg: int, mother: int, eta: float = 0.0, phi: float = 0.0, last: bool = True) -> Any:
    flags = LAST if last else 0
    kinematics = {"pt": 60.0, "eta": eta, "phi": phi, "mass": 0.0}
    return {**kinematics, "pdgId": pdg, "status": 22, "statusFlags": flags} | {
        "genPartIdxMother": mother
    }


# t → b W⁺ (→ W⁺ → u d̄), t̄ → b̄ W⁻ (→ μ ν̄); the W⁺ has a copy of itself.
DECAY = [
    particle(6, -1),
    particle(-6, -1),
    particle(5, 0, 0.0, 0.0),
    particle(24, 0, last=False),
    particle(24, 3),
    particle(2, 4, 1.0, 1.0),
    particle(-1, 4, -1.0, -1.0),
    particle(-5, 1, 2.0, 2.0),
    particle(-24, 1),
    particle(13, 8, 0.5, 3.0),
    particle(-14, 8),
    particle(21, 0, -2.0, -3.1),
]


def events(path: Path, jets: list[tuple[float, float]], decay: list[Any] = DECAY) -> Any:
    """Return an event with a generator's record, and its jets at (η, φ)."""
    listed = {
        "GenPart": ak.Array([decay]),
        "Jet": ak.Array([[{"pt": 50.0, "eta": e, "phi": p, "mass": 5.0} for e, p in jets]]),
    }
    columns = {k: ak.zip({field: v[field] for field in v.fields}) for k, v in listed.items()}
    numbers = {"run": "u4", "luminosityBlock": "u4", "event": "u8"}
    with uproot.recreate(path) as file:
        singles = {name: np.ones(1, dtype=kind) for name, kind in numbers.items()}
        types = {name: values.dtype for name, values in singles.items()}
        tree = file.mktree("Events", {**types, **{k: v.type for k, v in columns.items()}})
        tree.extend(
            {**singles, **{k: ak.zip({f: v[f] for f in v.fields}) for k, v in columns.items()}}
        )
    return NanoEventsFactory.from_root({str(path): "Events"}, schemaclass=NanoAODSchema).events()


def test_jets_are_labelled_by_the_nearest_quark(tmp_path: Path) -> None:
    found = events(tmp_path / "a.root", [(2.1, 2.1), (1.0, 1.3), (0.0, 0.1), (-1.0, -1.0)])
    assert training.labels(found.GenPart, found.Jet).tolist() == [[-6, 24, 6, 24]]


def test_a_jet_without_a_quark_has_no_label(tmp_path: Path) -> None:
    # The second is 0.5 away, the third beside a gluon, the fourth beyond φ = π.
    jets = [(2.1, 2.1), (1.0, 1.5), (-2.0, -3.1), (0.5, -3.1)]
    found = events(tmp_path / "a.root", jets)
    assert training.labels(found.GenPart, found.Jet).tolist() == [[-6, 0, 0, 0]]


def test_an_angle_is_folded_for_labels(tmp_path: Path) -> None:
    turned = [{**one, "phi": one["phi"] + 3.1} if one["pdgId"] == 5 else one for one in DECAY]
    found = events(tmp_path / "a.root", [(0.0, -3.1), (9, 9), (9, 9), (9, 9)], turned)
    assert training.labels(found.GenPart, found.Jet).tolist() == [[6, 0, 0, 0]]


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("synth") / "ttbar.root"
    write(path, sample("ttbar", "nominal"), events=100_000)
    return path


@pytest.fixture(scope="module")
def collected(synthetic: Path) -> dict[str, training.Sample]:
    return training.collect([parse_input(str(synthetic))], progress=False)


def test_each_event_has_one_right_candidate_nine_partial_and_two_wrong(
    collected: dict[str, training.Sample],
) -> None:
    for one in collected.values():
        assert len(one.right) > 50
        counts = np.stack([(one.right == n).sum(axis=1) for n in (4, 0)])
        assert np.all(counts[0] == 1)
        assert np.all(counts[1] == 2)


def test_trained_models_assign_far_better_than_chance(
    collected: dict[str, training.Sample], tmp_path: Path
) -> None:
    settings = training.Settings(6, 60, 0.2, 1.0, 1.0, 0.0, 0.0)
    quality = training.cross_validate(settings, collected["odd"], threads=1).quality
    chance = collected["odd"].right.mean() / 4
    assert quality.event_score > 0.55  # by chance 1/12
    assert quality.jet_score > chance + 0.3
    assert quality.auc > 0.9
    # Judged by events that the model has seen, it would look better.
    everything = np.ones(len(collected["odd"].right), dtype=bool)
    model = settings.train_all(collected["odd"], threads=1)
    assert training.judge(model, collected["odd"], everything).event_score > quality.event_score


def test_settings_are_drawn_anew_by_another_seed() -> None:
    assert training.Settings.draw(2, 5) == training.Settings.draw(2, 5)
    assert training.Settings.draw(2, 5) != training.Settings.draw(3, 5)


@pytest.mark.parametrize("executor", ["local", "dask"])
def test_the_command_writes_models_that_can_be_run(
    synthetic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, executor: str
) -> None:
    # Of so few events, threads of one model would spend their time waiting for each other.
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    options = ["--trials", "2", "--events", "60", "--executor", executor]
    arguments = ["train", "--input", str(synthetic), "--output", str(tmp_path / "m"), *options]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / "m" / "training.json").read_text())
    assert report["odd"]["events"] == 60
    scores = [trial["quality"]["jet_score"] for trial in report["odd"]["trials"]]
    assert len(scores) == 2
    assert report["odd"]["best"]["quality"]["jet_score"] == max(scores)
    assert LocalModels.load(tmp_path / "m").boosters["odd"].num_features() == 20


def test_what_cannot_be_trained_on_is_refused(synthetic: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nominal ttbar only"):
        training.collect([parse_input(f"{synthetic}=wjets")], progress=False)
    few = tmp_path / "few.root"
    write(few, sample("ttbar", "nominal"), events=200)
    with pytest.raises(InputError, match="give files with more events"):
        training.train(training.collect([parse_input(str(few))], progress=False))
