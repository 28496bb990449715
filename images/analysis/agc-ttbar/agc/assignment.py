"""The assignment of jets to the quarks of a ttbar decay.

In an event with one lepton two jets come from a W boson (W1, W2), one from the b quark of
the same top quark (b_had), and one from the b quark of the other top quark, which decays to
the lepton (b_lep).  Every way to choose them from the leading jets is a candidate, described
by `FEATURES`; a trained model scores the candidates, and the best one is used.

An angular distance is the root of Δη² + Δφ², where Δφ is not folded into (−π, π): the models
that were published for this analysis are trained so.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from math import perm
from typing import Protocol

import awkward as ak
import numpy as np
from numpy.typing import NDArray

MIN_JETS, MAX_JETS = 4, 6
"""Fewest jets that have candidates, and number of leading jets from which they are chosen."""

Floats = NDArray[np.float64]
Features = NDArray[np.float32]


@dataclass(frozen=True)
class Feature:
    """A feature of a candidate, and the axis of its histogram."""

    name: str
    label: str
    low: float
    high: float


FEATURES = (
    Feature("deltar_leptonbtoplep", r"$\Delta R(\ell, b_{lep})$", 0, 6),
    Feature("deltar_w1w2", r"$\Delta R(W_1, W_2)$", 0, 6),
    Feature("deltar_w1btophad", r"$\Delta R(W_1, b_{had})$", 0, 6),
    Feature("deltar_w2btophad", r"$\Delta R(W_2, b_{had})$", 0, 6),
    Feature("mass_leptonbtoplep", r"$m(\ell, b_{lep})$ [GeV]", 50, 300),
    Feature("mass_w1w2", r"$m(W_1, W_2)$ [GeV]", 50, 300),
    Feature("mass_w1w2btophad", r"$m(W_1, W_2, b_{had})$ [GeV]", 50, 550),
    Feature("pt_w1w2btophad", r"$p_T(W_1, W_2, b_{had})$ [GeV]", 50, 550),
    Feature("pt_w1", r"$p_T(W_1)$ [GeV]", 25, 300),
    Feature("pt_w2", r"$p_T(W_2)$ [GeV]", 25, 300),
    Feature("pt_btophad", r"$p_T(b_{had})$ [GeV]", 25, 300),
    Feature("pt_btoplep", r"$p_T(b_{lep})$ [GeV]", 25, 300),
    Feature("btagCSVV2_w1", r"CSVv2 of $W_1$", 0, 1),
    Feature("btagCSVV2_w2", r"CSVv2 of $W_2$", 0, 1),
    Feature("btagCSVV2_btophad", r"CSVv2 of $b_{had}$", 0, 1),
    Feature("btagCSVV2_btoplep", r"CSVv2 of $b_{lep}$", 0, 1),
    Feature("qgl_w1", r"quark-gluon likelihood of $W_1$", -1, 1),
    Feature("qgl_w2", r"quark-gluon likelihood of $W_2$", -1, 1),
    Feature("qgl_btophad", r"quark-gluon likelihood of $b_{had}$", -1, 1),
    Feature("qgl_btoplep", r"quark-gluon likelihood of $b_{lep}$", -1, 1),
)
"""In the order of the models' input."""


NUMBERS_OF_CANDIDATES = np.array([perm(jets, MIN_JETS) // 2 for jets in range(MAX_JETS + 1)])


def number_of_candidates(jets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many candidates events with so many jets, four to six, have: 12, 60 or 180."""
    numbers: NDArray[np.int64] = NUMBERS_OF_CANDIDATES[jets]
    return numbers


class Candidates(Protocol):
    """The candidates of some events."""

    @property
    def event(self) -> NDArray[np.uint64]:
        """Return the events' numbers."""

    @property
    def counts(self) -> NDArray[np.int64]:
        """Return the number of candidates of each event."""

    def features(self, events: NDArray[np.int64]) -> Features:
        """Return the features of all candidates of some events, one event after another.

        `events` are positions in `event`.
        """


@dataclass(frozen=True)
class Choices:
    """Every way to choose the four jets from a number of jets; one row per candidate."""

    roles: NDArray[np.int64]
    """(candidates, 4): the jets that are W1, W2, b_had, b_lep.  W1 is the later jet of
    the two from the W boson, as their order has no meaning."""
    pairs: NDArray[np.int64]
    """(2, pairs): the two jets of each pair."""
    triples: NDArray[np.int64]
    """(3, triples)."""
    pair_of: NDArray[np.int64]
    """(3, candidates): which pair is W1 W2, W1 b_had, W2 b_had."""
    triple_of: NDArray[np.int64]
    """(candidates,): which triple is W1 W2 b_had."""


@cache
def choices(jets: int) -> Choices:
    """Return the 12, 60 or 180 candidates of 4, 5 or 6 jets."""
    roles = np.array([p for p in permutations(range(jets), 4) if p[0] > p[1]])
    pairs = np.triu_indices(jets, 1)
    pair_number = np.zeros((jets, jets), dtype=np.int64)
    pair_number[pairs] = np.arange(len(pairs[0]))
    pair_number += pair_number.T
    triples = [(i, j, k) for i in range(jets) for j in range(i) for k in range(j)]
    triple_number = {frozenset(triple): n for n, triple in enumerate(triples)}
    w1, w2, b_had, _ = roles.T
    return Choices(
        roles=roles,
        pairs=np.stack(pairs),
        triples=np.array(triples).T,
        pair_of=np.stack([pair_number[w1, w2], pair_number[w1, b_had], pair_number[w2, b_had]]),
        triple_of=np.array([triple_number[frozenset(row[:3].tolist())] for row in roles]),
    )


@dataclass(frozen=True)
class Group:
    """The candidates of events with the same number of jets."""

    index: NDArray[np.int64]
    """Positions of the events in the input."""
    features: Features
    """(events, candidates, features)."""


def _four_vectors(objects: dict[str, Floats]) -> dict[str, Floats]:
    """Return momentum and energy in GeV from pt, eta, phi and mass."""
    pt, eta, phi, mass = (objects[name] for name in ("pt", "eta", "phi", "mass"))
    x, y, z = pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)
    return {"x": x, "y": y, "z": z, "e": np.sqrt(x**2 + y**2 + z**2 + mass**2)}


def _mass(vector: dict[str, Floats]) -> Floats:
    squared = vector["e"] ** 2 - vector["x"] ** 2 - vector["y"] ** 2 - vector["z"] ** 2
    mass: Floats = np.sqrt(np.maximum(squared, 0))
    return mass


def _features(lepton: dict[str, Floats], jets: dict[str, Floats]) -> Features:
    """Return (events, candidates, features) of events with the same number of jets.

    `lepton` has arrays (events,) and `jets` arrays (events, jets) of pt, eta, phi, mass; jets
    also of CSVv2 and quark-gluon likelihood.  Quantities that candidates share are computed
    once.
    """
    events, number = jets["pt"].shape
    chosen = choices(number)
    roles = tuple(chosen.roles.T)
    b_lep = roles[-1]
    first, second = chosen.pairs
    distance = np.hypot(
        jets["eta"][:, first] - jets["eta"][:, second],
        jets["phi"][:, first] - jets["phi"][:, second],
    )
    vectors = _four_vectors(jets)
    lepton_columns = {key: values[:, None] for key, values in lepton.items()}
    leptons = _four_vectors(lepton_columns)
    pair = {key: values[:, first] + values[:, second] for key, values in vectors.items()}
    triple = {
        key: values[:, chosen.triples].sum(axis=1, dtype=np.float64)
        for key, values in vectors.items()
    }
    w1w2, w1b, w2b = chosen.pair_of
    features = np.empty((events, len(b_lep), len(FEATURES)), dtype=np.float32)
    columns = (
        (np.hypot(lepton_columns["eta"] - jets["eta"], lepton_columns["phi"] - jets["phi"]), b_lep),
        (distance, w1w2),
        (distance, w1b),
        (distance, w2b),
        (_mass({key: leptons[key] + values for key, values in vectors.items()}), b_lep),
        (_mass(pair), w1w2),
        (_mass(triple), chosen.triple_of),
        (np.hypot(triple["x"], triple["y"]), chosen.triple_of),
        *((jets[name], role) for name in ("pt", "btagCSVV2", "qgl") for role in roles),
    )
    for column, (values, selected) in enumerate(columns):
        features[:, :, column] = values.astype(np.float32)[:, selected]
    return features


def candidates(lepton: ak.Array, jets: ak.Array) -> Iterator[Group]:
    """Yield the candidates of all events, grouped by the number of jets.

    `lepton` has one record per event with pt, eta, phi, mass; `jets` are the selected
    jets in the file's order, at least four, with btagCSVV2 and qgl, too.
    """
    counts = np.minimum(np.asarray(ak.num(jets)), MAX_JETS)
    for number in range(MIN_JETS, MAX_JETS + 1):
        index = np.flatnonzero(counts == number)
        if not len(index):
            continue
        leading = jets[index][:, :number]
        dense = {
            name: np.asarray(ak.flatten(leading[name]), dtype=np.float64).reshape(-1, number)
            for name in ("pt", "eta", "phi", "mass", "btagCSVV2", "qgl")
        }
        lepton_columns = {
            name: np.asarray(lepton[name], dtype=np.float64)[index]
            for name in ("pt", "eta", "phi", "mass")
        }
        yield Group(index, _features(lepton_columns, dense))


class ArrayCandidates:
    """The candidates of events, described by operations on whole arrays.

    `lepton` and `jets` are those of `candidates`, `event` the events' numbers.
    """

    def __init__(self, lepton: ak.Array, jets: ak.Array, event: NDArray[np.uint64]) -> None:
        self.event = event
        self.counts = number_of_candidates(np.minimum(np.asarray(ak.num(jets)), MAX_JETS))
        self._starts = np.cumsum(self.counts) - self.counts
        self._rows = np.empty((int(self.counts.sum()), len(FEATURES)), dtype=np.float32)
        for group in candidates(lepton, jets):
            within = np.arange(group.features.shape[1])
            self._rows[self._starts[group.index][:, None] + within] = group.features

    def features(self, events: NDArray[np.int64]) -> Features:
        """Return the features of all candidates of some events, one event after another."""
        counts = self.counts[events]
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        rows: Features = self._rows[np.repeat(self._starts[events], counts) + within]
        return rows
