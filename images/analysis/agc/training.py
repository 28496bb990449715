"""Training of the models that assign jets: labels from the generator, trials, the best one.

Events of nominal ttbar in 4j2b are used where each of the four leading jets belongs to
one quark of the decay.  Each of their twelve candidates is a row; the right one is the
signal.  Several random settings are tried for each parity of the event number, judged
by cross-validation, and the best one is trained again on all events of that parity.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import xgboost
from coffea import processor
from numpy.typing import NDArray

from agc import selection, systematics
from agc.assignment import FEATURES, Features, candidates, choices
from agc.inference import PARITIES, model_file
from agc.run import fileset, process
from agc.samples import File, InputError

FROM_W, B_HAD, B_LEP, UNMATCHED = 24, 6, -6, 0
WANTED = (FROM_W, FROM_W, B_HAD, B_LEP)
"""The labels that the jets of W1, W2, b_had and b_lep should have."""
MATCH_RADIUS = 0.4
JETS = 4
EVENTS = 20_000
TRIALS = 5
FOLDS = 2
FEWEST = 20

TRAINING_BRANCHES = (
    *selection.BRANCHES,
    *selection.ASSIGNMENT_BRANCHES,
    *(f"GenPart_{name}" for name in ("eta", "phi", "pdgId", "statusFlags", "genPartIdxMother")),
)

GRID: dict[str, list[float]] = {
    "max_depth": list(range(1, 72, 10)),
    "rounds": list(range(1, 452, 50)),
    "learning_rate": np.linspace(0.01, 1, 10).tolist(),
    "min_child_weight": np.logspace(-1, 3, 20).tolist(),
    "reg_lambda": [0, 0.25, 0.5, 0.75, 1],
    "reg_alpha": [0, 0.25, 0.5, 0.75, 1],
    "gamma": np.logspace(-4, 1, 20).tolist(),
}
"""What the settings of a trial are drawn from."""


def labels(particles: ak.Array, jets: ak.Array) -> NDArray[np.int64]:
    """Return what the four leading jets of each event are: (events, 4).

    A jet belongs to the nearest quark within ΔR < 0.4 that comes from a top quark or a
    W boson.  `particles` are NanoAOD's generated ones, as coffea gives them.
    """
    parent = particles.distinctParent
    origin = np.abs(ak.fill_none(parent.pdgId, 0))
    wanted = (np.abs(particles.pdgId) < 6) & particles.hasFlags("isLastCopy")
    wanted = wanted & ((origin == 6) | (origin == 24))
    quarks, origin = particles[wanted], origin[wanted]
    # A b quark stands beside the lepton where its top quark's W boson decays to one.
    decayed = parent[wanted].distinctChildren.distinctChildren.pdgId
    leptonic = ak.any(ak.any(_is_lepton(decayed), axis=-1), axis=-1)
    kind = ak.where(origin == 24, FROM_W, ak.where(leptonic, B_LEP, B_HAD))
    leading = jets[:, :JETS]
    eta, quark_eta = ak.unzip(ak.cartesian([leading.eta, quarks.eta], nested=True))
    phi, quark_phi = ak.unzip(ak.cartesian([leading.phi, quarks.phi], nested=True))
    turn = np.abs(phi - quark_phi)
    distance = np.hypot(eta - quark_eta, np.minimum(turn, 2 * np.pi - turn))
    nearest = ak.argmin(distance, axis=-1, mask_identity=True)
    near = ak.fill_none(ak.min(distance, axis=-1) < MATCH_RADIUS, False)
    found = ak.where(near, ak.fill_none(kind[nearest], UNMATCHED), UNMATCHED)
    return np.asarray(ak.to_regular(found), dtype=np.int64)


def _is_lepton(pdg: ak.Array) -> ak.Array:
    number = np.abs(pdg)
    return (number == 11) | (number == 13) | (number == 15)


@dataclass(frozen=True)
class Sample:
    """Events of one parity, in the order of their numbers."""

    features: Features
    """(events, 12, features)."""
    right: NDArray[np.int64]
    """(events, 12): how many of its four jets a candidate has right."""

    def rows(self, chosen: NDArray[np.bool_]) -> xgboost.DMatrix:
        """Return the candidates of the chosen events, the right ones labelled 1."""
        features = self.features[chosen].reshape(-1, len(FEATURES))
        return xgboost.DMatrix(features, (self.right[chosen] == JETS).reshape(-1))


class TrainingProcessor(processor.ProcessorABC):
    """Collects the events that models can be trained on."""

    def process(self, events: ak.Array) -> dict[str, Any]:
        """Return a chunk's events: features, right jets, and number."""
        events = events[selection.one_lepton(events)]
        jets = selection.candidates(events.Jet, more=("btagCSVV2", "qgl"))
        region = selection.regions(jets, systematics.jet_pt(jets.pt, "nominal"))["4j2b"]
        own, chosen = events[region.index], region.jets
        found = np.zeros((0, JETS), dtype=np.int64)
        if len(own):
            found = labels(own.GenPart, chosen)
        usable = np.all(np.sort(found, axis=1) == np.sort(WANTED), axis=1)
        found, own, chosen = found[usable], own[usable], chosen[usable][:, :JETS]
        roles = choices(JETS).roles
        features = np.zeros((0, len(roles), len(FEATURES)), dtype=np.float32)
        if len(own):
            (one,) = candidates(selection.lepton(own), chosen)
            features = one.features
        right = (found[:, roles] == np.array(WANTED)).sum(axis=2)
        columns = {"features": features, "right": right, "event": np.asarray(own.event)}
        return {name: processor.column_accumulator(values) for name, values in columns.items()}

    def postprocess(self, accumulator: dict[str, Any]) -> dict[str, Any]:
        """Return the sum of all chunks as it is."""
        return accumulator


def collect(
    files: Iterable[File], *, events: int = EVENTS, client: Any = None, progress: bool = True
) -> dict[str, Sample]:
    """Return up to so many events of each parity, those of the lowest numbers.

    Raises `InputError` where a file cannot be used or is no nominal ttbar.
    """
    files = list(files)
    for file in files:
        if file.sample.name != "ttbar__nominal":
            raise InputError(f"{file.path}: models are trained on nominal ttbar alone")
    chosen = fileset(files, weights="unit", branches=TRAINING_BRANCHES, client=client)
    result, _ = process(chosen, TrainingProcessor(), client=client, progress=progress)
    number = result["event"].value
    order = np.argsort(number, kind="stable")
    found = {}
    for parity in PARITIES:
        mine = order[number[order] % 2 == (parity == "odd")][:events]
        found[parity] = Sample(result["features"].value[mine], result["right"].value[mine])
    return found


@dataclass(frozen=True)
class Settings:
    """What a trial trains with; the names are XGBoost's."""

    max_depth: int
    rounds: int
    learning_rate: float
    min_child_weight: float
    reg_lambda: float
    reg_alpha: float
    gamma: float

    @classmethod
    def draw(cls, seed: int, count: int) -> list["Settings"]:
        """Return random settings; the same seed gives the same ones."""
        rng = np.random.default_rng(seed)
        found = []
        for _ in range(count):
            drawn: dict[str, Any] = {key: rng.choice(values) for key, values in GRID.items()}
            whole: dict[str, Any] = {key: int(drawn.pop(key)) for key in ("max_depth", "rounds")}
            real: dict[str, Any] = {key: float(value) for key, value in drawn.items()}
            found.append(cls(**whole, **real))
        return found

    def train(self, rows: xgboost.DMatrix, *, threads: int) -> xgboost.Booster:
        """Return a model trained on the rows."""
        options = asdict(self)
        rounds = options.pop("rounds")
        options |= {"objective": "binary:logistic", "tree_method": "hist"}
        return xgboost.train({**options, "seed": 5, "nthread": threads}, rows, rounds)

    def train_all(self, sample: Sample, *, threads: int) -> xgboost.Booster:
        """Return a model trained on all events of a sample."""
        return self.train(sample.rows(np.ones(len(sample.right), dtype=bool)), threads=threads)


@dataclass(frozen=True)
class Quality:
    """How well events are assigned that a model was not trained on."""

    jet_score: float
    """Mean share of jets assigned rightly."""
    whole: float
    """Share of events with all four jets right."""
    auc: float
    """Area under the ROC curve of candidates."""


def judge(model: xgboost.Booster, sample: Sample, chosen: NDArray[np.bool_]) -> Quality:
    """Return how well a model does on the chosen events."""
    rows = sample.rows(chosen)
    scores = model.predict(rows).reshape(-1, sample.right.shape[1])
    right = sample.right[chosen][np.arange(len(scores)), scores.argmax(axis=1)]
    model.set_param({"eval_metric": "auc"})
    auc = float(model.eval(rows).rpartition(":")[2])
    return Quality(float(right.mean() / JETS), float((right == JETS).mean()), auc)


@dataclass(frozen=True)
class Trial:
    """One setting, judged by cross-validation."""

    settings: Settings
    quality: Quality
    """Mean over the folds."""


def cross_validate(settings: Settings, sample: Sample, *, threads: int) -> Trial:
    """Judge settings: each fold's events by a model that was trained on the others."""
    fold = np.arange(len(sample.right)) % FOLDS
    found = []
    for number in range(FOLDS):
        model = settings.train(sample.rows(fold != number), threads=threads)
        found.append(judge(model, sample, fold == number))
    means = {k: float(np.mean([asdict(q)[k] for q in found])) for k in asdict(found[0])}
    return Trial(settings, Quality(**means))


@dataclass(frozen=True)
class Trained:
    """What became of one parity."""

    model: xgboost.Booster
    trials: list[Trial]
    best: Trial
    events: int

    def as_json(self) -> dict[str, Any]:
        """Return the trials and the choice."""
        return {
            "events": self.events,
            "best": asdict(self.best),
            "trials": [asdict(trial) for trial in self.trials],
        }


def _trials(
    samples: dict[str, Sample], settings: list[Settings], *, threads: int, client: Any
) -> Iterator[tuple[str, Trial]]:
    """Yield each trial and its parity as it ends."""
    if client is None:
        for parity, sample in samples.items():
            for one in settings:
                yield parity, cross_validate(one, sample, threads=threads)
        return
    from distributed import as_completed

    whose = {}
    for parity, sample in samples.items():
        held = client.scatter(sample)
        for one in settings:
            asked = client.submit(cross_validate, one, held, threads=threads, pure=False)
            whose[asked] = parity
    for future, trial in as_completed(list(whose), with_results=True):
        yield whose[future], trial


def train(
    samples: dict[str, Sample],
    *,
    trials: int = TRIALS,
    seed: int = 2,
    threads: int = 1,
    client: Any = None,
    note: Callable[[str], None] = lambda _: None,
) -> dict[str, Trained]:
    """Train a model for each parity; with a Dask `client` the trials run on its workers.

    `threads` are those of one trial.  `note` is told of every trial that has ended.
    Raises `InputError` where there are too few events.
    """
    for parity, sample in samples.items():
        if len(sample.right) < FEWEST:
            raise InputError(
                f"{len(sample.right)} events with {parity} numbers can be trained on, fewer "
                f"than {FEWEST}; give files with more events"
            )
    settings = Settings.draw(seed, trials)
    ended: dict[str, list[Trial]] = {parity: [] for parity in samples}
    for parity, trial in _trials(samples, settings, threads=threads, client=client):
        ended[parity].append(trial)
        note(_line(parity, trial))
    found = {}
    for parity, sample in samples.items():
        inorder = sorted(ended[parity], key=lambda trial: settings.index(trial.settings))
        best = max(inorder, key=lambda trial: trial.quality.jet_score)
        model = best.settings.train_all(sample, threads=threads)
        found[parity] = Trained(model, inorder, best, len(sample.right))
    return found


def _line(parity: str, trial: Trial) -> str:
    told, quality = trial.settings, trial.quality
    return (
        f"{parity:5s} depth {told.max_depth:2d}, {told.rounds:3d} rounds, "
        f"rate {told.learning_rate:.2f}: jet score {quality.jet_score:.3f}, "
        f"all four right {quality.whole:.3f}, AUC {quality.auc:.3f}"
    )


def save(trained: dict[str, Trained], folder: Path) -> list[Path]:
    """Write both models and `training.json`; return the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for parity, one in trained.items():
        path = folder / model_file(parity)
        one.model.save_model(path)
        written.append(path)
    report = {
        "features": [feature.name for feature in FEATURES],
        **{parity: one.as_json() for parity, one in trained.items()},
    }
    (folder / "training.json").write_text(json.dumps(report, indent=2) + "\n")
    return [*written, folder / "training.json"]
