"""Training of the models that assign jets, with labels from the generator.

The events are those of nominal ttbar in 4j2b whose four leading jets each match one quark of
the decay.  Each of the twelve candidates is a row; the right one is the signal.  For each
parity of the event number, random settings are compared by cross-validation, and the best
ones train the model on all events of that parity.
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
from coffea_shoppe_contract.addresses import shown_address
from numpy.typing import NDArray

from agc import selection, systematics
from agc.assignment import FEATURES, Features, candidates, choices
from agc.files import opened
from agc.inference import PARITIES, model_file
from agc.run import process
from agc.samples import File, InputError

FROM_W, B_HAD, B_LEP, UNMATCHED = 24, 6, -6, 0
EXPECTED_LABELS = (FROM_W, FROM_W, B_HAD, B_LEP)
"""The labels that the jets of W1, W2, b_had and b_lep should have."""
MATCH_RADIUS = 0.4
JETS = 4
EVENTS = 20_000
TRIALS = 5
FOLDS = 2
FEWEST = 20

TRAINING_BRANCHES = (
    *selection.NANOEVENTS,
    *selection.ASSIGNMENT_BRANCHES,
    *(f"GenPart_{name}" for name in ("eta", "phi", "pdgId", "statusFlags", "genPartIdxMother")),
)
"""Further branches for the training."""

GRID: dict[str, list[float]] = {
    "max_depth": list(range(1, 72, 10)),
    "rounds": list(range(1, 452, 50)),
    "learning_rate": np.linspace(0.01, 1, 10).tolist(),
    "min_child_weight": np.logspace(-1, 3, 20).tolist(),
    "reg_lambda": [0, 0.25, 0.5, 0.75, 1],
    "reg_alpha": [0, 0.25, 0.5, 0.75, 1],
    "gamma": np.logspace(-4, 1, 20).tolist(),
}
"""Values from which the settings of a trial are drawn."""


def labels(particles: ak.Array, jets: ak.Array) -> NDArray[np.int64]:
    """Return the labels of the four leading jets of each event: (events, 4).

    A jet matches the nearest quark within ΔR < 0.4 that comes from a top quark or a W boson.
    `particles` are NanoAOD's `GenPart`, with coffea's behaviour.
    """
    parent = particles.distinctParent
    origin = np.abs(ak.fill_none(parent.pdgId, 0))
    from_top = (np.abs(particles.pdgId) < 6) & particles.hasFlags("isLastCopy")
    from_top = from_top & ((origin == 6) | (origin == 24))
    quarks, origin = particles[from_top], origin[from_top]
    # A b quark is `B_LEP` where the W boson of its top quark decays to a lepton.
    decayed = parent[from_top].distinctChildren.distinctChildren.pdgId
    leptonic = ak.any(ak.any(_is_lepton(decayed), axis=-1), axis=-1)
    kind = ak.where(origin == 24, FROM_W, ak.where(leptonic, B_LEP, B_HAD))
    leading = jets[:, :JETS]
    eta, quark_eta = ak.unzip(ak.cartesian([leading.eta, quarks.eta], nested=True))
    phi, quark_phi = ak.unzip(ak.cartesian([leading.phi, quarks.phi], nested=True))
    turn = np.abs(phi - quark_phi)
    distance = np.hypot(eta - quark_eta, np.minimum(turn, 2 * np.pi - turn))
    nearest = ak.argmin(distance, axis=-1, mask_identity=True)
    near = ak.fill_none(ak.min(distance, axis=-1) < MATCH_RADIUS, False)
    labels_of_jets = ak.where(near, ak.fill_none(kind[nearest], UNMATCHED), UNMATCHED)
    return np.asarray(ak.to_regular(labels_of_jets), dtype=np.int64)


def _is_lepton(pdg: ak.Array) -> ak.Array:
    number = np.abs(pdg)
    return (number == 11) | (number == 13) | (number == 15)


@dataclass(frozen=True)
class Sample:
    """Events of one parity, sorted by number."""

    features: Features
    """(events, 12, features)."""
    right: NDArray[np.int64]
    """(events, 12): the number of jets that a candidate assigns correctly."""

    def rows(self, chosen: NDArray[np.bool_]) -> xgboost.DMatrix:
        """Return the candidates of the chosen events; the label of the right ones is 1."""
        features = self.features[chosen].reshape(-1, len(FEATURES))
        return xgboost.DMatrix(features, (self.right[chosen] == JETS).reshape(-1))


class TrainingProcessor(processor.ProcessorABC):
    """Collects events for the training."""

    def process(self, events: ak.Array) -> dict[str, Any]:
        """Return features, numbers of correct jets, and event numbers of a chunk."""
        events = events[selection.one_lepton(events)]
        jets = selection.candidates(events.Jet, more=("btagCSVV2", "qgl"))
        region = selection.regions(jets, systematics.jet_pt(jets.pt, "nominal"))["4j2b"]
        selected, chosen = events[region.index], region.jets
        jet_labels = np.zeros((0, JETS), dtype=np.int64)
        if len(selected):
            jet_labels = labels(selected.GenPart, chosen)
        usable = np.all(np.sort(jet_labels, axis=1) == np.sort(EXPECTED_LABELS), axis=1)
        jet_labels, selected, chosen = (
            jet_labels[usable],
            selected[usable],
            chosen[usable][:, :JETS],
        )
        roles = choices(JETS).roles
        features = np.zeros((0, len(roles), len(FEATURES)), dtype=np.float32)
        if len(selected):
            (batch,) = candidates(selection.lepton(selected), chosen)
            features = batch.features
        right = (jet_labels[:, roles] == np.array(EXPECTED_LABELS)).sum(axis=2)
        columns = {"features": features, "right": right, "event": np.asarray(selected.event)}
        return {name: processor.column_accumulator(values) for name, values in columns.items()}

    def postprocess(self, accumulator: dict[str, Any]) -> dict[str, Any]:
        """Return the sum of all chunks as it is."""
        return accumulator


def collect(
    files: Iterable[File], *, events: int = EVENTS, client: Any = None, progress: bool = True
) -> dict[str, Sample]:
    """Return at most `events` events of each parity, those with the lowest numbers.

    Raises `InputError` where a file cannot be used or is not of nominal ttbar.
    """
    files = list(files)
    for file in files:
        if file.sample.name != "ttbar__nominal":
            raise InputError(
                f"{shown_address(file.path)}: models are trained on nominal ttbar only"
            )
    chosen = opened(files, weights="unit", more=TRAINING_BRANCHES, client=client)
    result = process(chosen, TrainingProcessor(), client=client, progress=progress).result
    number = result["event"].value
    order = np.argsort(number, kind="stable")
    by_parity = {}
    for parity in PARITIES:
        selected = order[number[order] % 2 == (parity == "odd")][:events]
        by_parity[parity] = Sample(
            result["features"].value[selected], result["right"].value[selected]
        )
    return by_parity


@dataclass(frozen=True)
class Settings:
    """Settings of a trial, with XGBoost's names."""

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
        settings = []
        for _ in range(count):
            drawn: dict[str, Any] = {key: rng.choice(values) for key, values in GRID.items()}
            integers: dict[str, Any] = {key: int(drawn.pop(key)) for key in ("max_depth", "rounds")}
            real: dict[str, Any] = {key: float(value) for key, value in drawn.items()}
            settings.append(cls(**integers, **real))
        return settings

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
    """Quality of the assignment in events that a model was not trained on."""

    jet_score: float
    """Mean share of correctly assigned jets."""
    event_score: float
    """Share of events with all four jets assigned correctly."""
    auc: float
    """Area under the ROC curve of candidates."""


def judge(model: xgboost.Booster, sample: Sample, chosen: NDArray[np.bool_]) -> Quality:
    """Return the quality of a model in the chosen events."""
    rows = sample.rows(chosen)
    scores = model.predict(rows).reshape(-1, sample.right.shape[1])
    right = sample.right[chosen][np.arange(len(scores)), scores.argmax(axis=1)]
    model.set_param({"eval_metric": "auc"})
    auc = float(model.eval(rows).rpartition(":")[2])
    return Quality(float(right.mean() / JETS), float((right == JETS).mean()), auc)


@dataclass(frozen=True)
class Trial:
    """Settings, and their quality in cross-validation."""

    settings: Settings
    quality: Quality
    """Mean over the folds."""


def cross_validate(settings: Settings, sample: Sample, *, threads: int) -> Trial:
    """Return the quality of settings: of each fold with a model trained on the other folds."""
    fold = np.arange(len(sample.right)) % FOLDS
    qualities = []
    for number in range(FOLDS):
        model = settings.train(sample.rows(fold != number), threads=threads)
        qualities.append(judge(model, sample, fold == number))
    means = {k: float(np.mean([asdict(q)[k] for q in qualities])) for k in asdict(qualities[0])}
    return Trial(settings, Quality(**means))


@dataclass(frozen=True)
class Trained:
    """The training of one parity."""

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
    """Yield each finished trial with its parity."""
    if client is None:
        for parity, sample in samples.items():
            for setting in settings:
                yield parity, cross_validate(setting, sample, threads=threads)
        return
    from distributed import as_completed

    parity_of = {}
    for parity, sample in samples.items():
        scattered = client.scatter(sample)
        for setting in settings:
            future = client.submit(cross_validate, setting, scattered, threads=threads, pure=False)
            parity_of[future] = parity
    for future, trial in as_completed(list(parity_of), with_results=True):
        yield parity_of[future], trial


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

    `threads` are those of one trial.  `note` is called with a line for each finished trial.
    Raises `InputError` where there are too few events.
    """
    for parity, sample in samples.items():
        if len(sample.right) < FEWEST:
            raise InputError(
                f"{len(sample.right)} usable events with {parity} numbers are fewer than "
                f"{FEWEST}; give files with more events"
            )
    settings = Settings.draw(seed, trials)
    ended: dict[str, list[Trial]] = {parity: [] for parity in samples}
    for parity, trial in _trials(samples, settings, threads=threads, client=client):
        ended[parity].append(trial)
        note(_line(parity, trial))
    trained = {}
    for parity, sample in samples.items():
        ordered = sorted(ended[parity], key=lambda trial: settings.index(trial.settings))
        best = max(ordered, key=lambda trial: trial.quality.jet_score)
        model = best.settings.train_all(sample, threads=threads)
        trained[parity] = Trained(model, ordered, best, len(sample.right))
    return trained


def _line(parity: str, trial: Trial) -> str:
    settings, quality = trial.settings, trial.quality
    return (
        f"{parity:5s} depth {settings.max_depth:2d}, {settings.rounds:3d} rounds, "
        f"rate {settings.learning_rate:.2f}: jet score {quality.jet_score:.3f}, "
        f"all four right {quality.event_score:.3f}, AUC {quality.auc:.3f}"
    )


def save(trained: dict[str, Trained], folder: Path) -> list[Path]:
    """Write both models and `training.json`; return the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for parity, result in trained.items():
        path = folder / model_file(parity)
        result.model.save_model(path)
        written.append(path)
    report = {
        "features": [feature.name for feature in FEATURES],
        **{parity: result.as_json() for parity, result in trained.items()},
    }
    (folder / "training.json").write_text(json.dumps(report, indent=2) + "\n")
    return [*written, folder / "training.json"]
