"""The candidates for the assignment of jets in compiled loops over events.

Features are bit for bit those of `assignment.candidates`: the order of all operations is the same,
and sines and the like are computed by NumPy in both.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agc.assignment import FEATURES, Features, number_of_candidates
from agc.compilation import compiled

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@compiled
def invariant_mass(x: float, y: float, z: float, energy: float) -> Any:
    """Return a four-vector's mass, which is zero where its square is negative."""
    squared = energy * energy - x * x - y * y - z * z
    return np.sqrt(squared) if not squared < 0 else 0.0


@compiled
def share(
    number: int,
    lepton: Floats,
    jet: Floats,
    with_lepton: Features,
    pairs: Features,
    triples: Features,
) -> None:
    """Fill what candidates of an event share, for its first `number` jets.

    `lepton` and `jet` are an event's of `Compiled`.  The results are distances and masses of a
    jet with the lepton and of pairs of jets, and masses and transverse momenta of triples.
    """
    eta, phi, x, y, z, energy = lepton
    for i in range(number):
        with_lepton[i, 0] = np.hypot(eta - jet[i, 1], phi - jet[i, 2])
        with_lepton[i, 1] = invariant_mass(
            x + jet[i, 3], y + jet[i, 4], z + jet[i, 5], energy + jet[i, 6]
        )
        for j in range(i):
            pair_x, pair_y = jet[i, 3] + jet[j, 3], jet[i, 4] + jet[j, 4]
            pair_z, pair_energy = jet[i, 5] + jet[j, 5], jet[i, 6] + jet[j, 6]
            distance = np.hypot(jet[j, 1] - jet[i, 1], jet[j, 2] - jet[i, 2])
            mass = invariant_mass(pair_x, pair_y, pair_z, pair_energy)
            # Both orders: the two jets may be a jet of the W boson and the b quark's.
            pairs[i, j, 0] = pairs[j, i, 0] = distance
            pairs[i, j, 1] = pairs[j, i, 1] = mass
            for k in range(j):
                all_x, all_y = pair_x + jet[k, 3], pair_y + jet[k, 4]
                all_z, all_energy = pair_z + jet[k, 5], pair_energy + jet[k, 6]
                mass = invariant_mass(all_x, all_y, all_z, all_energy)
                transverse = np.hypot(all_x, all_y)
                # Each of the three may be the b quark's; the later of the others is W1.
                triples[i, j, k, 0] = triples[i, k, j, 0] = triples[j, k, i, 0] = mass
                triples[i, j, k, 1] = triples[i, k, j, 1] = triples[j, k, i, 1] = transverse


@compiled
def describe(events: Ints, counts: Ints, leptons: Floats, jets: Floats, rows: Features) -> None:
    """Fill `rows` with the features of all candidates of some events, one event after another.

    `counts` are the events' numbers of jets; `leptons` and `jets` are those of `Compiled`.
    """
    most = jets.shape[1]
    with_lepton = np.empty((most, 2), dtype=np.float32)
    pairs = np.empty((most, most, 2), dtype=np.float32)
    triples = np.empty((most, most, most, 2), dtype=np.float32)
    row = 0
    for event in events:
        number = counts[event]
        jet = jets[event]
        share(number, leptons[event], jet, with_lepton, pairs, triples)
        # The order of `assignment.choices`.
        for w1 in range(number):
            for w2 in range(w1):
                for b_had in range(number):
                    if b_had in (w1, w2):
                        continue
                    for b_lep in range(number):
                        if b_lep in (w1, w2, b_had):
                            continue
                        rows[row, 0] = with_lepton[b_lep, 0]
                        rows[row, 1] = pairs[w1, w2, 0]
                        rows[row, 2] = pairs[w1, b_had, 0]
                        rows[row, 3] = pairs[w2, b_had, 0]
                        rows[row, 4] = with_lepton[b_lep, 1]
                        rows[row, 5] = pairs[w1, w2, 1]
                        rows[row, 6] = triples[w1, w2, b_had, 0]
                        rows[row, 7] = triples[w1, w2, b_had, 1]
                        for place, role in enumerate((w1, w2, b_had, b_lep)):
                            rows[row, 8 + place] = jet[role, 0]
                            rows[row, 12 + place] = jet[role, 7]
                            rows[row, 16 + place] = jet[role, 8]
                        row += 1


@compiled
def first_of_largest(scores: NDArray[np.float32], starts: Ints) -> Ints:
    """Return the row of the largest score of each event, the first of equal ones.

    `starts` (events + 1,) are the rows where each event's candidates begin.
    """
    chosen = np.empty(len(starts) - 1, dtype=np.int64)
    for event in range(len(chosen)):
        start = starts[event]
        chosen[event] = start + scores[start : starts[event + 1]].argmax()
    return chosen


@dataclass(frozen=True)
class Compiled:
    """The candidates of events; features are computed when they are scored."""

    event: NDArray[np.uint64]
    """(events,): event numbers."""
    jets: Ints
    """(events,): how many leading jets each has, four to six."""
    lepton: Floats
    """(events, 6): pseudorapidity, azimuth, momentum's x, y and z, and energy, in GeV."""
    leading: Floats
    """(events, 6, 9): transverse momentum, pseudorapidity, azimuth, momentum's x, y and z, and
    energy in GeV, CSVv2 and quark-gluon likelihood of each jet."""

    @property
    def counts(self) -> Ints:
        """Return the number of candidates of each event."""
        return number_of_candidates(self.jets)

    def features(self, events: Ints) -> Features:
        """Return the features of all candidates of some events, one event after another."""
        total = int(number_of_candidates(self.jets[events]).sum())
        rows = np.empty((total, len(FEATURES)), dtype=np.float32)
        describe(events, self.jets, self.lepton, self.leading, rows)
        return rows
