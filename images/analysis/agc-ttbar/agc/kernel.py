"""The selection in compiled loops over flat columns.

Cuts are those of `selection`, evaluated on the flat columns of all objects at once: what passes,
and what is varied, stands there and in `systematics` alone.  The loops here know no cut but the
number of objects: they find the events with one lepton, and the regions and observables in each
pass over the jets.  Results are bit for bit those of `selection.ArraySelected`: the order of all
operations is the same, and sines and the like are computed by NumPy in both.
"""

from types import SimpleNamespace

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from agc import systematics
from agc.assignment import MAX_JETS, MIN_JETS
from agc.candidates import Compiled
from agc.columns import Columns
from agc.compilation import compiled
from agc.draws import normal
from agc.nanoaod import AGC_TAG, Jets
from agc.selection import (
    ELECTRON,
    EVENT_NUMBERS,
    JET_PT,
    MUON,
    Region,
    passed,
    possible_jets,
)

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@compiled
def select(
    electron_offsets: Ints,
    electrons: NDArray[np.bool_],
    muon_offsets: Ints,
    muons: NDArray[np.bool_],
    jet_offsets: Ints,
    jets: NDArray[np.bool_],
    least_jets: int,
) -> tuple[Ints, Ints, Ints, Ints]:
    """Return the events with one good lepton and enough jets.

    The arrays of booleans are which objects pass.  The result is the events' numbers in the chunk,
    their leptons (an electron's number, or -1 minus a muon's), where the jets of each event begin
    in the last array, and the jets.
    """
    count = len(jet_offsets) - 1
    events = np.empty(count, dtype=np.int64)
    leptons = np.empty(count, dtype=np.int64)
    offsets = np.zeros(count + 1, dtype=np.int64)
    chosen = np.empty(len(jets), dtype=np.int64)
    passed = 0
    filled = 0
    for event in range(count):
        number = 0
        lepton = 0
        for index in range(electron_offsets[event], electron_offsets[event + 1]):
            if electrons[index]:
                number += 1
                lepton = index
        for index in range(muon_offsets[event], muon_offsets[event + 1]):
            if muons[index]:
                number += 1
                lepton = -1 - index
        if number != 1:
            continue
        end = filled
        for index in range(jet_offsets[event], jet_offsets[event + 1]):
            if jets[index]:
                chosen[end] = index
                end += 1
        if end - filled < least_jets:
            continue
        filled = end
        events[passed] = event
        leptons[passed] = lepton
        passed += 1
        offsets[passed] = filled
    return events[:passed], leptons[:passed], offsets[: passed + 1], chosen[:filled]


@compiled
def measure(
    offsets: Ints,
    hard: NDArray[np.bool_],
    tagged: NDArray[np.bool_],
    pt: Floats,
    cosine: Floats,
    sine: Floats,
    slope: Floats,
    mass: Floats,
    least_jets: int,
) -> tuple[Ints, Floats, Floats]:
    """Return each event's number of b tags (2 for more), observable, and first jets' momenta.

    Jets are selected if they are `hard`.  Events with too few of them have -1.  `slope` is the
    hyperbolic sine of the pseudorapidity.  With one b tag the observable is the scalar sum of
    momenta, with more the mass of the trijet that `selection.regions` describes.
    """
    count = len(offsets) - 1
    tags = np.full(count, -1, dtype=np.int64)
    observable = np.zeros(count)
    leading = np.zeros((count, least_jets))
    most = 0
    for event in range(count):
        most = max(most, offsets[event + 1] - offsets[event])
    jets = np.empty(most, dtype=np.int64)
    px, py, pz, energy = np.empty(most), np.empty(most), np.empty(most), np.empty(most)
    for event in range(count):
        number = 0
        tag = 0
        for jet in range(offsets[event], offsets[event + 1]):
            if hard[jet]:
                jets[number] = jet
                number += 1
                tag += tagged[jet]
        if number < least_jets:
            continue
        tags[event] = min(tag, 2)
        for place in range(least_jets):
            leading[event, place] = pt[jets[place]]
        if tag == 1:
            total = 0.0
            for place in range(number):
                total += pt[jets[place]]
            observable[event] = total
        if tag < 2:
            continue
        for place in range(number):
            jet = jets[place]
            x, y, z = pt[jet] * cosine[jet], pt[jet] * sine[jet], pt[jet] * slope[jet]
            px[place], py[place], pz[place] = x, y, z
            energy[place] = np.sqrt(x * x + y * y + z * z + mass[jet] * mass[jet])
        best = -2.0
        squared = 0.0
        for i in range(number - 2):
            for j in range(i + 1, number - 1):
                for k in range(j + 1, number):
                    x = px[i] + px[j] + px[k]
                    y = py[i] + py[j] + py[k]
                    transverse = -1.0
                    if tagged[jets[i]] or tagged[jets[j]] or tagged[jets[k]]:
                        transverse = x * x + y * y
                    # The first of equal ones, and a NaN if it comes first, as of an argmax.
                    if best == -2.0 or transverse > best:
                        best = transverse
                        z = pz[i] + pz[j] + pz[k]
                        e = energy[i] + energy[j] + energy[k]
                        squared = e * e - x * x - y * y - z * z
        observable[event] = np.sqrt(squared) if not squared < 0 else 0.0
    return tags, observable, leading


@compiled
def lead(
    events: Ints,
    offsets: Ints,
    hard: NDArray[np.bool_],
    pt: Floats,
    eta: Floats,
    phi: Floats,
    cosine: Floats,
    sine: Floats,
    slope: Floats,
    mass: Floats,
    tag: Floats,
    gluon: Floats,
    most_jets: int,
) -> tuple[Ints, Floats]:
    """Return `jets` and `leading` of `candidates.Compiled` for some events.

    `tag` is CSVv2 and `gluon` the quark-gluon likelihood; the rest is as for `measure`.
    """
    counts = np.zeros(len(events), dtype=np.int64)
    leading = np.zeros((len(events), most_jets, 9))
    for place, event in enumerate(events):
        number = 0
        for jet in range(offsets[event], offsets[event + 1]):
            if not hard[jet] or number == most_jets:
                continue
            x, y, z = pt[jet] * cosine[jet], pt[jet] * sine[jet], pt[jet] * slope[jet]
            energy = np.sqrt(x * x + y * y + z * z + mass[jet] * mass[jet])
            leading[place, number, 0], leading[place, number, 1] = pt[jet], eta[jet]
            leading[place, number, 2], leading[place, number, 3] = phi[jet], x
            leading[place, number, 4], leading[place, number, 5] = y, z
            leading[place, number, 6], leading[place, number, 7] = energy, tag[jet]
            leading[place, number, 8] = gluon[jet]
            number += 1
        counts[place] = number
    return counts, leading


class KernelSelected:
    """Events that may be selected in some variation, found by the compiled loops."""

    def __init__(
        self, chunk: Columns, definition: Jets | None = None, *, assignment: bool = False
    ) -> None:
        definition = definition or Jets()
        electrons, muons, jets = (chunk.collection(k) for k in ("Electron", "Muon", "Jet"))
        starts = chunk.offsets["Jet"]
        self._events, leptons, self._offsets, chosen = select(
            chunk.offsets["Electron"],
            passed(electrons, ELECTRON),
            chunk.offsets["Muon"],
            passed(muons, MUON),
            starts,
            possible_jets(jets, definition),
            MIN_JETS,
        )
        fields = {name: getattr(jets, name)[chosen] for name in ("pt", "eta", "phi", "mass")}
        self._pt = fields["pt"]
        self._tagged = getattr(jets, definition.tag)[chosen] > definition.above
        wide = SimpleNamespace(**{k: v.astype(np.float64) for k, v in fields.items()})
        self._directions = np.cos(wide.phi), np.sin(wide.phi), np.sinh(wide.eta)
        self._angles, self._mass = (wide.eta, wide.phi), wide.mass
        self._assignment = assignment
        if assignment:
            self._flavours = tuple(
                getattr(jets, name)[chosen].astype(np.float64) for name in (AGC_TAG, "qgl")
            )
            self._lepton = self._lepton_columns(electrons, muons, leptons)
        self._number = chunk.values["event"][self._events]
        present = {name: chunk.values[name] for name in EVENT_NUMBERS if name in chunk.values}
        numbers = systematics.event_numbers(ak.zip(present), chunk.first)[self._events]
        counts = np.diff(self._offsets)
        run, block, event = (
            np.repeat(np.asarray(numbers[name]), counts) for name in ("run", "block", "event")
        )
        self._drawn = normal(run, block, event, chosen - np.repeat(starts[self._events], counts))

    def regions(self, kinematic: str) -> dict[str, Region]:
        """Return the events of both regions under a kinematic variation."""
        pt = systematics.jet_pt(self._pt, kinematic, self._drawn)
        hard = pt > JET_PT
        wide = pt.astype(np.float64)
        jets = (*self._directions, self._mass)
        tags, observable, leading = measure(
            self._offsets, hard, self._tagged, wide, *jets, MIN_JETS
        )
        by_name = {}
        for name, number in (("4j1b", 1), ("4j2b", 2)):
            index = np.flatnonzero(tags == number)
            jets_for_assignment = None
            if self._assignment and number == 2:
                columns = (wide, *self._angles, *jets, *self._flavours)
                jets_for_assignment = lead(index, self._offsets, hard, *columns, MAX_JETS)
            by_name[name] = Region(index, observable[index], leading[index], jets_for_assignment)
        return by_name

    def candidates(self, region: Region) -> Compiled:
        """Return the candidates for the assignment of jets in a region's events."""
        counts, leading = region.jets
        index = region.index
        return Compiled(self._number[index], counts, self._lepton[index], leading)

    @staticmethod
    def _lepton_columns(
        electrons: SimpleNamespace, muons: SimpleNamespace, leptons: Ints
    ) -> Floats:
        """Return `candidates.Compiled.lepton` of the selected events."""
        of_electron = leptons >= 0
        fields = {}
        for name in ("pt", "eta", "phi", "mass"):
            values = np.empty(len(leptons))
            values[of_electron] = getattr(electrons, name)[leptons[of_electron]]
            values[~of_electron] = getattr(muons, name)[-1 - leptons[~of_electron]]
            fields[name] = values
        pt, eta, phi, mass = fields.values()
        x, y, z = pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)
        energy = np.sqrt(x**2 + y**2 + z**2 + mass**2)
        return np.stack([eta, phi, x, y, z, energy], axis=1)
