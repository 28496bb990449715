"""Selection of objects and events, and the observables of both regions."""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Protocol

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from agc import systematics
from agc.assignment import MIN_JETS, ArrayCandidates, Candidates
from agc.nanoaod import AGC_TAG, Jets

JET_PT = 30.0


@dataclass(frozen=True)
class Cut:
    """A condition on one field of an object."""

    field: str
    relation: str
    """One of `RELATIONS`, or "is" for a field that is true or false."""
    value: float = 1
    absolute: bool = False
    """Compare the field's absolute value."""

    def passed(self, objects: Any) -> Any:
        """Return which objects pass; their fields are arrays of awkward or of NumPy."""
        values = getattr(objects, self.field)
        if self.relation == "is":
            return values
        return RELATIONS[self.relation](np.abs(values) if self.absolute else values, self.value)

    def expression(self, collection: str) -> str:
        """Return the cut in uproot's expression language."""
        name = f"{collection}_{self.field}"
        if self.relation == "is":
            return name
        return f"({f'abs({name})' if self.absolute else name} {self.relation} {self.value})"


RELATIONS: dict[str, Callable[[Any, float], Any]] = {
    ">": operator.gt,
    "<": operator.lt,
    "==": operator.eq,
}

ELECTRON = (
    Cut("pt", ">", 30.0),
    Cut("eta", "<", 2.1, absolute=True),
    Cut("cutBased", "==", 4),
    Cut("sip3d", "<", 4.0),
)
MUON = (
    Cut("pt", ">", 30.0),
    Cut("eta", "<", 2.1, absolute=True),
    Cut("tightId", "is"),
    Cut("sip3d", "<", 4.0),
    Cut("pfRelIso04_all", "<", 0.15),
)
JET = (Cut("eta", "<", 2.4, absolute=True),)
"""In addition to the identification (`nanoaod.Jets`), and to `JET_PT` of the varied momentum."""


def passed(objects: Any, cuts: Sequence[Cut]) -> Any:
    """Return which objects pass all cuts."""
    return reduce(operator.and_, (cut.passed(objects) for cut in cuts))


def expression(collection: str, cuts: Sequence[Cut]) -> str:
    """Return all cuts on a collection's objects in uproot's expression language."""
    return " & ".join(cut.expression(collection) for cut in cuts)


REGIONS = {"4j1b": "one b-tagged jet", "4j2b": "two or more b-tagged jets"}

EVENT_NUMBERS = ("run", "luminosityBlock", "event")
"""What identifies an event; the smearing of jets is a function of them."""

OBJECTS = (
    *(f"Electron_{cut.field}" for cut in ELECTRON),
    *(f"Muon_{cut.field}" for cut in MUON),
    *(f"Jet_{name}" for name in ("pt", "eta", "phi", "mass")),
)

COMMON = ("run", "event", *OBJECTS)
"""Branches that a file of any version of NanoAOD must have."""

NANOEVENTS = (
    *("luminosityBlock", "nElectron", "nMuon", "nJet"),
    *("Electron_charge", "Muon_charge"),
    *(f"{name}_{field}" for name in ("Electron", "Muon") for field in ("phi", "mass")),
)
"""Further branches that coffea's NanoEvents must have."""

BRANCHES = (*COMMON, *NANOEVENTS, *Jets().branches)
"""All branches of a file for NanoEvents whose jets are tagged as in upstream's analysis."""

ASSIGNMENT_BRANCHES = (
    *(f"Jet_{AGC_TAG}", "Jet_qgl"),
    *(f"{name}_{field}" for name in ("Electron", "Muon") for field in ("phi", "mass")),
)
"""Further branches for the assignment of jets; NanoAOD has all up to v9."""


def columns(definition: Jets, *, assignment: bool = False) -> tuple[str, ...]:
    """Return the branches that are read; files without `luminosityBlock` are read without it."""
    more = ASSIGNMENT_BRANCHES if assignment else ()
    return tuple(dict.fromkeys((*EVENT_NUMBERS, *OBJECTS, *definition.branches, *more)))


def possible_jets(jets: Any, definition: Jets) -> Any:
    """Return which jets pass all but the cut on transverse momentum."""
    return passed(jets, JET) & definition.identified(jets)


def one_lepton(events: ak.Array) -> NDArray[np.bool_]:
    """Return which events have exactly one selected electron or muon."""
    electrons = ak.sum(passed(events.Electron, ELECTRON), axis=1)
    return np.asarray(electrons + ak.sum(passed(events.Muon, MUON), axis=1) == 1)


def lepton(events: ak.Array) -> ak.Array:
    """Return the selected lepton (pt, eta, phi, mass) of events that have exactly one."""
    electrons = events.Electron[passed(events.Electron, ELECTRON)]
    muons = events.Muon[passed(events.Muon, MUON)]
    plain = [
        ak.zip({k: leptons[k] for k in ("pt", "eta", "phi", "mass")})
        for leptons in (electrons, muons)
    ]
    return ak.flatten(ak.concatenate(plain, axis=1))


def candidates(
    jets: ak.Array, definition: Jets | None = None, *, more: tuple[str, ...] = ()
) -> ak.Array:
    """Return the jets that pass all but the cut on transverse momentum, as plain records.

    `definition` is their identification and b tag, by default those of upstream's analysis;
    `more` are further fields to keep.  `position` is the jet's number in its event, counted over
    all jets from zero.
    """
    definition = definition or Jets()
    possible = possible_jets(jets, definition)
    selected = jets[possible]
    fields = {name: selected[name] for name in ("pt", "eta", "phi", "mass", *more)}
    position = ak.local_index(jets.pt)[possible]
    tagged = selected[definition.tag] > definition.above
    return ak.zip({**fields, "tagged": tagged, "position": position})


@dataclass(frozen=True)
class Region:
    """The events of one region."""

    index: NDArray[np.int64]
    """Positions of the events in the input."""
    observable: NDArray[np.float64]
    """GeV: the scalar sum of jets' momenta, or the mass of three jets."""
    leading_pt: NDArray[np.float64]
    """(events, 4): transverse momenta in GeV of the first selected jets."""
    jets: Any
    """The selected jets, in the order of the file: awkward records, or what the kernel keeps of
    them for the assignment."""


def regions(jets: ak.Array, pt: ak.Array) -> dict[str, Region]:
    """Return the events of both regions, with their observables.

    `jets` are `candidates`, `pt` their (varied) transverse momenta in GeV.  With
    one b tag the observable is the scalar sum of the jets' momenta; with two or
    more, the mass of the three jets, one of them tagged, whose momenta add up to
    the largest transverse momentum.
    """
    jets = ak.with_field(jets, pt, "pt")
    jets = jets[pt > JET_PT]
    enough = ak.num(jets) >= MIN_JETS
    tags = ak.sum(jets.tagged, axis=1)
    by_name = {}
    for name, mask in (("4j1b", enough & (tags == 1)), ("4j2b", enough & (tags >= 2))):
        index = np.flatnonzero(np.asarray(mask))
        chosen = jets[index]
        measured = scalar_sum(chosen) if name == "4j1b" else trijet_mass(chosen)
        leading = np.asarray(chosen.pt[:, :MIN_JETS], dtype=np.float64)
        by_name[name] = Region(index, measured, leading, chosen)
    return by_name


def scalar_sum(jets: ak.Array) -> NDArray[np.float64]:
    """Return the scalar sum of the jets' transverse momenta of each event, in GeV."""
    return np.asarray(ak.sum(ak.values_astype(jets.pt, np.float64), axis=1))


def trijet_mass(jets: ak.Array) -> NDArray[np.float64]:
    """Return the mass in GeV of the tagged trijet with the largest transverse momentum.

    Each event must have at least three jets, one of them tagged.
    """
    if len(jets) == 0:
        return np.zeros(0)
    pt, eta, phi, mass = (
        ak.values_astype(jets[name], np.float64) for name in ("pt", "eta", "phi", "mass")
    )
    px, py, pz = pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)
    energy = np.sqrt(px**2 + py**2 + pz**2 + mass**2)
    vectors = ak.zip({"x": px, "y": py, "z": pz, "e": energy, "tagged": jets.tagged})
    first, second, third = ak.unzip(ak.combinations(vectors, 3))
    x, y, z, e = (first[k] + second[k] + third[k] for k in ("x", "y", "z", "e"))
    tagged = first.tagged | second.tagged | third.tagged
    transverse = ak.where(tagged, x**2 + y**2, -1.0)
    best = ak.argmax(transverse, axis=1, keepdims=True)
    squared = (e**2 - x**2 - y**2 - z**2)[best]
    masses: NDArray[np.float64] = np.sqrt(np.maximum(np.asarray(ak.flatten(squared)), 0.0))
    return masses


class Selected(Protocol):
    """Events that may be selected in some variation."""

    def regions(self, kinematic: str) -> dict[str, Region]:
        """Return the events of both regions under a kinematic variation."""

    def candidates(self, region: Region) -> Candidates:
        """Return the candidates for the assignment of jets in a region's events."""


class ArraySelected:
    """Events with one lepton, selected by operations on whole arrays.

    `events` have NanoAOD's collections, from any reader; `first` is the entry of the first one
    in its file.
    """

    def __init__(
        self,
        events: ak.Array,
        definition: Jets | None = None,
        *,
        assignment: bool = False,
        first: int | None = None,
    ) -> None:
        chosen = one_lepton(events)
        numbers = systematics.event_numbers(events, first)[chosen]
        self._events = events[chosen]
        more = (AGC_TAG, "qgl") if assignment else ()
        self._jets = candidates(self._events.Jet, definition, more=more)
        self._drawn = systematics.draws(numbers, self._jets.position)

    def regions(self, kinematic: str) -> dict[str, Region]:
        """Return the events of both regions under a kinematic variation."""
        return regions(self._jets, systematics.jet_pt(self._jets.pt, kinematic, self._drawn))

    def candidates(self, region: Region) -> Candidates:
        """Return the candidates for the assignment of jets in a region's events."""
        events = self._events[region.index]
        return ArrayCandidates(lepton(events), region.jets, np.asarray(events.event))
