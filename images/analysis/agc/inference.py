"""Scores of candidates by trained models, and the candidate that is kept.

Two models are trained, each on the events of one parity of the event number, and
each judges the events that it was not trained on.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import awkward as ak
import numpy as np
import xgboost
from numpy.typing import NDArray

from agc.assignment import FEATURES, Candidates, Features, candidates
from agc.samples import InputError

PARITIES = ("even", "odd")
ROWS = 100_000
TIMEOUT_S = 120
AWAY_S, AGAIN_S = 60, 1
"""A server that is away is waited for so long, and asked so often."""
TRAINED_ON = {"even": "odd", "odd": "even"}
"""By the parity of an event: that of the events which its model was trained on."""


class Scorer(Protocol):
    """Something that scores candidates: models in this process, or a server."""

    def __call__(self, trained_on: str, features: Features) -> NDArray[np.float32]:
        """Return the score of each candidate, a row of `features`, by one of the two models."""


def model_file(trained_on: str) -> str:
    """Return the name of the file that holds a model."""
    return f"model_{trained_on}.json"


@dataclass(frozen=True)
class LocalModels:
    """The two models in this process."""

    boosters: dict[str, xgboost.Booster]
    """By the parity of the events that they were trained on."""

    @classmethod
    def load(cls, folder: Path) -> "LocalModels":
        """Read `model_even.json` and `model_odd.json`, as XGBoost writes them.

        Raises `InputError` where one is missing, is no model, or takes other features.
        """
        boosters = {}
        for parity in PARITIES:
            path = folder / model_file(parity)
            if not path.is_file():
                raise InputError(f"{path}: no such file; `agc train` makes both models")
            try:
                # One thread: the cores are shared with other chunks.
                booster = xgboost.Booster({"nthread": 1}, model_file=str(path))
            except xgboost.core.XGBoostError as error:
                reason = str(error).strip().splitlines()[-1]
                raise InputError(f"{path} is no XGBoost model ({reason})") from error
            if booster.num_features() != len(FEATURES):
                raise InputError(
                    f"{path} takes {booster.num_features()} features, not {len(FEATURES)}"
                )
            boosters[parity] = booster
        return cls(boosters)

    def __call__(self, trained_on: str, features: Features) -> NDArray[np.float32]:
        """Return the score of each candidate."""
        found: NDArray[np.float32] = self.boosters[trained_on].inplace_predict(features)
        return found


@dataclass(frozen=True)
class Use:
    """What a server has counted of a model's use."""

    model: str
    """Its name there."""
    version: str
    requests: int
    rows: int

    def since(self, before: "Use") -> "Use":
        """Return what was counted after `before`."""
        requests, rows = self.requests - before.requests, self.rows - before.rows
        return Use(self.model, self.version, requests, rows)


@dataclass
class ServedModels:
    """The two models in a Triton, over gRPC; tensors as of the FIL backend.

    `connect` returns address and headers, anew for each call: tokens live for minutes.
    `count` returns what the server has counted of a model, by its name.  Both go to
    workers as they are, so they must be functions of a module.
    """

    names: dict[str, str]
    """The models' names in Triton, by the parity of the events that they were trained on."""
    connect: Callable[[], tuple[str, dict[str, str]]]
    count: Callable[[str], Use] | None = None
    rows: int = ROWS
    """Rows of one request."""

    def counted(self) -> dict[str, Use]:
        """Return what the server has counted of each model, where it can be asked."""
        return {p: self.count(name) for p, name in self.names.items()} if self.count else {}

    def __call__(self, trained_on: str, features: Features) -> NDArray[np.float32]:
        """Return the score of each candidate.

        A Triton that is away is asked again for a minute.  Raises `InputError` where it
        refuses, or stays away.
        """
        found = []
        for start in range(0, len(features), self.rows):
            part = np.ascontiguousarray(features[start : start + self.rows], np.float32)
            found.append(self._ask(self.names[trained_on], part))
        return np.concatenate(found) if found else np.zeros(0, np.float32)

    def _ask(self, name: str, rows: Features) -> NDArray[np.float32]:
        import tritonclient.grpc as triton

        deadline = time.monotonic() + AWAY_S
        while True:
            address, headers = self.connect()
            tensor = triton.InferInput("input__0", rows.shape, "FP32")
            tensor.set_data_from_numpy(rows)
            try:
                with triton.InferenceServerClient(address) as client:
                    options = {"headers": headers, "timeout": TIMEOUT_S * 10**6}
                    answer = client.infer(name, [tensor], **options)
            except triton.InferenceServerException as error:
                # Without a replica, or while a model is loaded anew.
                away = error.status() == "StatusCode.UNAVAILABLE"
                if not away or time.monotonic() > deadline:
                    raise InputError(f"Triton at {address}: {name}: {error}") from error
                time.sleep(AGAIN_S)
            else:
                scores: NDArray[np.float32] = answer.as_numpy("output__0")[:, 0]
                return scores


@dataclass(frozen=True)
class Batch:
    """Events to assign the jets of."""

    lepton: ak.Array
    """pt, eta, phi, mass."""
    jets: ak.Array
    """At least four an event, in the file's order."""
    event: NDArray[np.uint64]
    """Event numbers."""


@dataclass(frozen=True)
class _Group:
    """Candidates of a batch's events that share number of jets and model."""

    batch: int
    index: NDArray[np.int64]
    features: Features


def _groups(batches: Sequence[Batch], parity: str) -> list[_Group]:
    odd = parity == "odd"
    found = []
    for number, batch in enumerate(batches):
        mine = np.flatnonzero((batch.event % np.uint64(2) == 1) == odd)
        some: Candidates
        for some in candidates(batch.lepton[mine], batch.jets[mine]):
            found.append(_Group(number, mine[some.index], some.features))
    return found


@dataclass(frozen=True)
class Best:
    """The best candidate of each event of a batch."""

    features: Features
    """(events, features)."""
    score: NDArray[np.float32]
    """(events,)."""
    candidates: NDArray[np.int64]
    """(events,): how many candidates were scored."""

    @classmethod
    def empty(cls, events: int) -> "Best":
        """Return room for so many events."""
        features = np.zeros((events, len(FEATURES)), dtype=np.float32)
        score = np.zeros(events, dtype=np.float32)
        return cls(features, score, np.zeros(events, dtype=np.int64))


def best(batches: Sequence[Batch], scorer: Scorer) -> list[Best]:
    """Return the best candidates of each batch.

    All batches share one call of the scorer for each of the two models.
    """
    found = [Best.empty(len(batch.event)) for batch in batches]
    for parity in PARITIES:
        groups = _groups(batches, parity)
        if not groups:
            continue
        rows = np.concatenate([g.features.reshape(-1, len(FEATURES)) for g in groups])
        scores = scorer(TRAINED_ON[parity], rows)
        start = 0
        for group in groups:
            events, number, _ = group.features.shape
            own = scores[start : start + events * number].reshape(events, number)
            start += events * number
            chosen = own.argmax(axis=1)
            every = np.arange(events)
            found[group.batch].features[group.index] = group.features[every, chosen]
            found[group.batch].score[group.index] = own[every, chosen]
            found[group.batch].candidates[group.index] = number
    return found
