"""Scores of candidates by trained models, and the best candidate of each event.

There are two models, each trained on the events of one parity of the event number; each
scores the events of the other parity.
"""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import xgboost
from numpy.typing import NDArray

from agc.assignment import FEATURES, Candidates, Features
from agc.candidates import Compiled, first_of_largest
from agc.samples import InputError
from agc.trees import Trees, choose, trees_of

PARITIES = ("even", "odd")
ROWS = 100_000
TIMEOUT_S = 120
UNAVAILABLE_S, RETRY_INTERVAL_S = 60, 1
"""Requests to an unavailable server are repeated for so long, and at this interval."""
TRAINED_ON = {"even": "odd", "odd": "even"}
"""Parity of an event → parity of the events on which its model was trained."""


class Scorer(Protocol):
    """Something that scores candidates: models in this process, or a server."""

    def __call__(self, trained_on: str, features: Features) -> NDArray[np.float32]:
        """Return the score of each candidate (a row of `features`) by one of the two models."""


def model_file(trained_on: str) -> str:
    """Return the name of the file of a model."""
    return f"model_{trained_on}.json"


LOCATION = re.compile(r"^\[[\d:]+\] \S+:\d+: ")
"""Time and line of XGBoost's code, with which its errors begin."""


@dataclass(frozen=True)
class LocalModels:
    """The two models in this process."""

    boosters: dict[str, xgboost.Booster]
    """By the parity of the events that they were trained on."""
    trees: dict[str, Trees | None] = field(init=False)
    """The same models for the compiled evaluation, or None where it does not know them."""

    def __post_init__(self) -> None:
        """Read the trees."""
        known = {parity: trees_of(booster) for parity, booster in self.boosters.items()}
        object.__setattr__(self, "trees", known)

    @classmethod
    def load(cls, folder: Path) -> "LocalModels":
        """Read `model_even.json` and `model_odd.json`, as XGBoost writes them.

        Raises `InputError` where one is missing, is not a model of trees, or has other features.
        A model that names its features names those of `assignment.FEATURES`, in their order.
        """
        boosters = {}
        for parity in PARITIES:
            path = folder / model_file(parity)
            if not path.is_file():
                raise InputError(f"{path}: no such file; `agc train` creates both models")
            try:
                # One thread: the cores are shared with other chunks.
                booster = xgboost.Booster({"nthread": 1}, model_file=str(path))
            except xgboost.core.XGBoostError as error:
                reason = LOCATION.sub("", str(error).strip().splitlines()[0])
                raise InputError(f"{path} is not an XGBoost model ({reason})") from error
            if booster.num_features() != len(FEATURES):
                raise InputError(
                    f"{path} takes {booster.num_features()} features, not {len(FEATURES)}"
                )
            _check_features(path, booster.feature_names or ())
            if "gblinear" in booster.save_config():
                raise InputError(f"{path} is a linear model; train trees (booster gbtree or dart)")
            boosters[parity] = booster
        return cls(boosters)

    def __call__(self, trained_on: str, features: Features) -> NDArray[np.float32]:
        """Return the score of each candidate."""
        scores: NDArray[np.float32] = self.boosters[trained_on].inplace_predict(features)
        return scores


def _check_features(path: Path, names: Sequence[str]) -> None:
    """Raise `InputError` for a model whose features have other names, or another order."""
    for number, (name, feature) in enumerate(zip(names, FEATURES, strict=False)):
        if name != feature.name:
            raise InputError(
                f"{path}: its feature {number} is {name!r}, not {feature.name!r}; train it on the "
                "features of agc.assignment.FEATURES, in their order"
            )


@dataclass(frozen=True)
class Use:
    """The number of requests and rows that a server has scored with a model."""

    model: str
    """Its name in the server."""
    version: str
    requests: int
    rows: int

    def since(self, before: "Use") -> "Use":
        """Return the use since `before`."""
        requests, rows = self.requests - before.requests, self.rows - before.rows
        return Use(self.model, self.version, requests, rows)


@dataclass
class ServedModels:
    """The two models in a Triton, over gRPC, with the tensors of its FIL backend.

    A candidate's score is its probability to be the right one, which is the second class.

    `connect` returns address and headers, and is called for each request: tokens live for
    minutes.  `count` returns the use of a model by its name.  Both are pickled for workers, so
    they must be functions of a module.
    """

    names: dict[str, str]
    """The models' names in Triton, by the parity of the events that they were trained on."""
    connect: Callable[[], tuple[str, dict[str, str]]]
    count: Callable[[str], Use] | None = None
    rows: int = ROWS
    """Maximum number of rows of one request."""

    def counted(self) -> dict[str, Use]:
        """Return the use of each model; {} without `count`."""
        return {p: self.count(name) for p, name in self.names.items()} if self.count else {}

    def __call__(self, trained_on: str, features: Features) -> NDArray[np.float32]:
        """Return the score of each candidate.

        Requests to an unavailable Triton are repeated for a minute.  Raises `InputError` where
        it refuses, or stays unavailable.
        """
        scores = []
        for start in range(0, len(features), self.rows):
            part = np.ascontiguousarray(features[start : start + self.rows], np.float32)
            scores.append(self._ask(self.names[trained_on], part))
        return np.concatenate(scores) if scores else np.zeros(0, np.float32)

    def _ask(self, name: str, rows: Features) -> NDArray[np.float32]:
        import tritonclient.grpc as triton

        deadline = time.monotonic() + UNAVAILABLE_S
        while True:
            address, headers = self.connect()
            tensor = triton.InferInput("input__0", rows.shape, "FP32")
            tensor.set_data_from_numpy(rows)
            try:
                with triton.InferenceServerClient(address) as client:
                    options = {"headers": headers, "timeout": TIMEOUT_S * 10**6}
                    result = client.infer(name, [tensor], **options)
            except triton.InferenceServerException as error:
                # There is no replica at the moment, or the model is being reloaded.
                unavailable = error.status() == "StatusCode.UNAVAILABLE"
                if not unavailable or time.monotonic() > deadline:
                    raise InputError(f"Triton at {address}: {name}: {error}") from error
                time.sleep(RETRY_INTERVAL_S)
            else:
                # The second of two classes; models of earlier releases have this column only.
                scores: NDArray[np.float32] = result.as_numpy("output__0")[:, -1]
                return scores


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
        """Return arrays for a number of events."""
        features = np.zeros((events, len(FEATURES)), dtype=np.float32)
        score = np.zeros(events, dtype=np.float32)
        return cls(features, score, np.zeros(events, dtype=np.int64))


def _blocks(
    batches: Sequence[Candidates], parity: str, most: int
) -> Iterator[list[tuple[int, NDArray[np.int64]]]]:
    """Yield the events of one parity in blocks of at most `most` candidates, or of one event.

    A block has batches' numbers, and positions of events in each.
    """
    block: list[tuple[int, NDArray[np.int64]]] = []
    filled = 0
    for number, batch in enumerate(batches):
        events = np.flatnonzero(batch.event % np.uint64(2) == (parity == "odd"))
        while len(events):
            ends = filled + np.cumsum(batch.counts[events])
            fit = int(np.searchsorted(ends, most, side="right"))
            if not fit and block:
                yield block
                block, filled = [], 0
                continue
            fit = max(fit, 1)
            block.append((number, events[:fit]))
            events, filled = events[fit:], int(ends[fit - 1])
    if block:
        yield block


def _choose(
    parts: Sequence[tuple[Candidates, NDArray[np.int64]]],
    rows: Features,
    starts: NDArray[np.int64],
    trained_on: str,
    scorer: Scorer,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the row of each event's best candidate, and its score.

    `parts` are candidates and the positions of events, whose rows begin at `starts`.
    """
    trees = scorer.trees[trained_on] if isinstance(scorer, LocalModels) else None
    known = [(batch, events) for batch, events in parts if isinstance(batch, Compiled)]
    if trees is not None and len(known) == len(parts):
        best_of_parts = [
            choose(trees, events, batch.jets, batch.lepton, batch.leading)
            for batch, events in known
        ]
        numbers, scores = (np.concatenate(arrays) for arrays in zip(*best_of_parts, strict=True))
        return starts[:-1] + numbers, scores
    scores = scorer(trained_on, rows)
    chosen = first_of_largest(scores, starts)
    return chosen, scores[chosen]


def best(batches: Sequence[Candidates], scorer: Scorer, *, most: int = ROWS) -> list[Best]:
    """Return the best candidates of each batch.

    Up to `most` candidates of all batches are scored at a time, so that memory depends on
    neither batches nor chunks.
    """
    results = [Best.empty(len(batch.event)) for batch in batches]
    for parity in PARITIES:
        for block in _blocks(batches, parity, most):
            parts = [(batches[number], events) for number, events in block]
            rows = np.concatenate([batch.features(events) for batch, events in parts])
            counts = np.concatenate([batch.counts[events] for batch, events in parts])
            starts = np.concatenate([[0], np.cumsum(counts)])
            chosen, scores = _choose(parts, rows, starts, TRAINED_ON[parity], scorer)
            start = 0
            for number, events in block:
                stop = start + len(events)
                results[number].features[events] = rows[chosen[start:stop]]
                results[number].score[events] = scores[start:stop]
                results[number].candidates[events] = counts[start:stop]
                start = stop
    return results
