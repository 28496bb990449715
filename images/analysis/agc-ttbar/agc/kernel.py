"""The selection in compiled loops over flat columns.

Cuts are those of `selection`, evaluated on the flat columns of all objects at once: what passes,
and what is varied, stands there and in `systematics` alone.  The loops here know no cut but the
number of objects: they find the events with one lepton, and the regions and observables in each
pass over the jets.  Results are bit for bit those of `selection.ArraySelected`: the order of all
operations is the same, and sines and the like are computed by NumPy in both.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import awkward as ak
import numba
import numpy as np
from numpy.typing import NDArray

from agc import systematics
from agc.columns import Columns
from agc.draws import normal
from agc.nanoaod import AGC_TAG, Jets
from agc.selection import (
    ELECTRON,
    EVENT_NUMBERS,
    JET_PT,
    MIN_JETS,
    MUON,
    Region,
    passed,
    possible_jets,
)

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

LEPTON_FIELDS = ("pt", "eta", "phi", "mass")


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function for its arguments' types, and keep the code where a folder allows it.

    The folder is NUMBA_CACHE_DIR, or that of the package, or the user's cache.
    """
    compiled_function: Callable[..., Any]
    try:
        compiled_function = numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # no folder is writable
        compiled_function = numba.njit(nogil=True)(function)
    return compiled_function


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


class KernelSelected:
    """Events that may be selected in some variation, found by the compiled loops."""

    def __init__(
        self, chunk: Columns, definition: Jets | None = None, *, assignment: bool = False
    ) -> None:
        definition = definition or Jets()
        electrons, muons, jets = (chunk.collection(k) for k in ("Electron", "Muon", "Jet"))
        starts = chunk.offsets["Jet"]
        self._electrons, self._muons = electrons, muons
        self._events, self._leptons, self._offsets, chosen = select(
            chunk.offsets["Electron"],
            passed(electrons, ELECTRON),
            chunk.offsets["Muon"],
            passed(muons, MUON),
            starts,
            possible_jets(jets, definition),
            MIN_JETS,
        )
        fields = ("pt", "eta", "phi", "mass", *((AGC_TAG, "qgl") if assignment else ()))
        self._assignment = assignment
        self._fields = {name: getattr(jets, name)[chosen] for name in fields}
        self._tagged = getattr(jets, definition.tag)[chosen] > definition.above
        wide = SimpleNamespace(**{k: v.astype(np.float64) for k, v in self._fields.items()})
        self._directions = np.cos(wide.phi), np.sin(wide.phi), np.sinh(wide.eta)
        self._mass = wide.mass
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
        pt = systematics.jet_pt(self._fields["pt"], kinematic, self._drawn)
        hard = pt > JET_PT
        wide = pt.astype(np.float64)
        tags, observable, leading = measure(
            self._offsets, hard, self._tagged, wide, *self._directions, self._mass, MIN_JETS
        )
        by_name = {}
        for name, number in (("4j1b", 1), ("4j2b", 2)):
            index = np.flatnonzero(tags == number)
            jets = None
            if self._assignment and number == 2:
                jets = self._jets(index, pt, hard)
            by_name[name] = Region(index, observable[index], leading[index], jets)
        return by_name

    def _jets(self, index: Ints, pt: NDArray[Any], hard: NDArray[np.bool_]) -> ak.Array:
        """Return the selected jets of some events as records."""
        fields = {**self._fields, "pt": pt}
        records = ak.zip({name: values[hard] for name, values in fields.items()})
        before = np.concatenate([[0], np.cumsum(hard)])[self._offsets]
        return ak.unflatten(records, np.diff(before))[index]

    def numbers(self, region: Region) -> NDArray[np.uint64]:
        """Return the numbers of a region's events."""
        return np.asarray(self._number[region.index])

    def lepton(self, region: Region) -> ak.Array:
        """Return the selected lepton (pt, eta, phi, mass) of a region's events."""
        leptons = self._leptons[region.index]
        of_electron = leptons >= 0
        fields = {}
        for name in LEPTON_FIELDS:
            values = np.empty(len(leptons), dtype=np.float32)
            values[of_electron] = getattr(self._electrons, name)[leptons[of_electron]]
            values[~of_electron] = getattr(self._muons, name)[-1 - leptons[~of_electron]]
            fields[name] = values
        return ak.zip(fields)
