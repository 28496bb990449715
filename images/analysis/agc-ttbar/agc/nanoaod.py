"""Identification and b tag of jets, by the version of NanoAOD and the year of the data.

NanoAOD up to v9 has CSVv2, with which upstream's analysis tags; later versions have other
taggers, whose working points depend on the year.  The table has the medium ones (1 % of
light jets pass), as published by CMS' b-tagging group for AK4 jets:

- btv-wiki.docs.cern.ch/ScaleFactors, pages UL2016preVFP, UL2016postVFP, UL2017 and UL2018, for
  DeepJet (`btagDeepFlavB`) and DeepCSV (`btagDeepB`) of CHS jets;
- the same, pages Run3Summer22, Run3Summer22EE, Run3Summer23, Run3Summer23BPix and Run3Summer24,
  for ParticleNet (`btagPNetB`), DeepJet, and UParT (`btagUParTAK4B`) of PUPPI jets.  For 2024
  there are only those of UParT.

The tight identification with lepton veto: `jetId`'s third bit up to v9; in v10 to v12 that
bit is to be made from the second one (JetMET's `JetID13p6TeV`: the fractions of muons and
of charged electromagnetic energy below 0.8); from v13 on from the jet's composition by the
same page, since `jetId` is wrong in v13 and v14 and absent in v15.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import awkward as ak
from coffea_shoppe_contract.addresses import shown_address

from agc.samples import InputError

AGC_TAG, AGC_CUT = "btagCSVV2", 0.5


@dataclass(frozen=True)
class Era:
    """A period of data taking, and the names of its simulation."""

    campaign: re.Pattern[str]
    """Matches the names of its datasets, which are parts of the files' paths."""
    points: dict[str, float]
    """Medium working point by tagger; the recommended one first."""


def _era(campaign: str, **points: float) -> Era:
    return Era(re.compile(campaign), points)


ERAS = {
    "2016preVFP": _era(r"RunIISummer20UL16\w*APV", btagDeepFlavB=0.2598, btagDeepB=0.6001),
    "2016postVFP": _era(r"RunIISummer20UL16(?!\w*APV)", btagDeepFlavB=0.2489, btagDeepB=0.5847),
    "2017": _era("RunIISummer20UL17", btagDeepFlavB=0.3040, btagDeepB=0.4506),
    "2018": _era("RunIISummer20UL18", btagDeepFlavB=0.2783, btagDeepB=0.4168),
    "2022": _era("Run3Summer22(?!EE)", btagPNetB=0.245, btagDeepFlavB=0.3086),
    "2022EE": _era("Run3Summer22EE", btagPNetB=0.2605, btagDeepFlavB=0.3196),
    "2023": _era("Run3Summer23(?!BPix)", btagPNetB=0.1917, btagDeepFlavB=0.2431),
    "2023BPix": _era("Run3Summer23BPix", btagPNetB=0.1919, btagDeepFlavB=0.2435),
    "2024": _era("RunIII2024Summer24|Run3Summer24", btagUParTAK4B=0.1272),
}
TAGGERS = tuple(dict.fromkeys((AGC_TAG, *(name for era in ERAS.values() for name in era.points))))

Identity = Literal["bit", "tight and fractions", "composition"]
COMPOSITION = ("neHEF", "neEmEF", "chHEF", "chMultiplicity", "neMultiplicity", "muEF", "chEmEF")
IDENTITIES: dict[Identity, tuple[str, ...]] = {
    "bit": ("jetId",),
    "tight and fractions": ("jetId", "muEF", "chEmEF"),
    "composition": COMPOSITION,
}
"""How jets are identified, and the fields that this needs."""
TIGHT, TIGHT_LEPTON_VETO = 0b010, 0b100
LARGEST_LEPTON_SHARE = 0.8

GENERATED = ("genWeight", "GenPart_pdgId", "Generator_weight")
"""Simulation has at least one of these branches, data none."""


def telling(branches: Iterable[str]) -> frozenset[str]:
    """Return the branches that show a file's version, and whether it is simulation."""
    return frozenset(name for name in branches if name.startswith("Jet_") or name in GENERATED)


@dataclass(frozen=True)
class Jets:
    """How jets are identified and tagged: by default as in upstream's analysis."""

    tag: str = AGC_TAG
    above: float = AGC_CUT
    identity: Identity = "bit"
    source: str = "the AGC's cut"

    @property
    def fields(self) -> tuple[str, ...]:
        """Return the fields of a jet that this needs."""
        return (self.tag, *IDENTITIES[self.identity])

    @property
    def branches(self) -> tuple[str, ...]:
        """Return the branches of those fields."""
        return tuple(f"Jet_{name}" for name in self.fields)

    def __str__(self) -> str:
        """Return the b tag in words."""
        return f"{self.tag} > {self.above:g} ({self.source})"

    def identified(self, jets: ak.Array) -> ak.Array:
        """Return which jets have the tight identification with lepton veto, for |η| < 2.6."""
        if self.identity == "bit":
            return (jets.jetId & TIGHT_LEPTON_VETO) != 0
        leptons = (jets.muEF < LARGEST_LEPTON_SHARE) & (jets.chEmEF < LARGEST_LEPTON_SHARE)
        if self.identity == "tight and fractions":
            return ((jets.jetId & TIGHT) != 0) & leptons
        # The sum of both multiplicities, of eight bits each, could overflow.
        several = (jets.chMultiplicity > 1) | (jets.neMultiplicity > 0)
        neutral = (jets.neHEF < 0.99) & (jets.neEmEF < 0.9)
        return neutral & (jets.chHEF > 0.01) & (jets.chMultiplicity > 0) & several & leptons

    @property
    def identification(self) -> str:
        """Return `identified` as a cut in uproot's expression language."""
        leptons = f"(Jet_muEF < {LARGEST_LEPTON_SHARE}) & (Jet_chEmEF < {LARGEST_LEPTON_SHARE})"
        return {
            "bit": f"((Jet_jetId & {TIGHT_LEPTON_VETO}) != 0)",
            "tight and fractions": f"((Jet_jetId & {TIGHT}) != 0) & {leptons}",
            "composition": (
                "(Jet_neHEF < 0.99) & (Jet_neEmEF < 0.9) & (Jet_chHEF > 0.01)"
                " & (Jet_chMultiplicity > 0)"
                f" & ((Jet_chMultiplicity > 1) | (Jet_neMultiplicity > 0)) & {leptons}"
            ),
        }[self.identity]


def _identity(branches: frozenset[str]) -> Identity:
    """Return how the jets of a file with these branches are identified."""
    if f"Jet_{AGC_TAG}" in branches:
        return "bit"
    if branches.issuperset(f"Jet_{name}" for name in COMPOSITION):
        return "composition"
    return "tight and fractions" if "Jet_btagPNetB" in branches else "bit"


def _campaign(path: str) -> str:
    """Return the era whose simulation a file's path names, or ''."""
    return next((name for name, era in ERAS.items() if era.campaign.search(path)), "")


def jets_of(
    files: Mapping[str, frozenset[str]], *, era: str | None = None, btag: str | None = None
) -> Jets:
    """Return how the jets of all files are identified and tagged.

    `files` has the result of `telling` by path.  `era` is one of `ERAS` and selects its medium
    working point; `btag` is a tagger, or `TAGGER=CUT`.  Without both, upstream's cut is used
    where all files have CSVv2; else the era is taken from the paths, where they name its
    simulation.  Raises `InputError` where no working point is known, or the files are of
    different versions.
    """
    if era is not None and era not in ERAS:
        raise InputError(f"unknown era {era!r}; there are: {', '.join(ERAS)}")
    kinds = {_identity(branches): path for path, branches in files.items()}
    if len(kinds) > 1:
        paths = " and ".join(shown_address(path) for path in kinds.values())
        raise InputError(f"{paths} are of different versions of NanoAOD: run them separately")
    (identity,) = kinds
    shared = frozenset.intersection(*files.values())
    tagger, cut = _parsed(btag)
    for path, branches in files.items():
        if tagger and f"Jet_{tagger}" not in branches:
            raise InputError(f"{shown_address(path)}: has no Jet_{tagger} to tag b jets with")
    if cut is not None:
        return Jets(tagger, cut, identity, "as given")
    usual = f"Jet_{AGC_TAG}" in shared and era is None
    if tagger == AGC_TAG or (usual and not tagger):
        return Jets(identity=identity)
    if not any(f"Jet_{name}" in branches for branches in files.values() for name in TAGGERS):
        return Jets(identity=identity)
    campaigns = {_campaign(path) for path in files}
    year = era or (campaigns.pop() if len(campaigns) == 1 else "")
    return _medium(year, tagger, identity, shared, next(iter(files)))


def _parsed(btag: str | None) -> tuple[str, float | None]:
    """Return tagger and cut of `TAGGER[=CUT]`."""
    tagger, separator, cut = (btag or "").removeprefix("Jet_").partition("=")
    if btag is None or (tagger.isidentifier() and not separator):
        return tagger, None
    try:
        value = float(cut)
    except ValueError:
        value = float("nan")
    if not tagger.isidentifier() or value != value:
        raise InputError(f"btag {btag!r} is not TAGGER=CUT, such as btagDeepFlavB=0.2783")
    return tagger, value


def _medium(era: str, tagger: str, identity: Identity, shared: frozenset[str], path: str) -> Jets:
    """Return the medium working point of an era, or of one tagger in it."""
    offered = ", ".join(ERAS)
    have = [name for name in TAGGERS if f"Jet_{name}" in shared]
    if not era:
        raise InputError(
            f"{shown_address(path)}: tags b jets with {', '.join(have) or 'other names'}, whose "
            f"working point depends on the year: give the era (--era, one of {offered}), or a cut "
            "(--btag TAGGER=CUT)"
        )
    points = ERAS[era].points
    for name in (tagger,) if tagger else points:
        if name in points and f"Jet_{name}" in shared:
            return Jets(name, points[name], identity, f"medium working point of {era}")
    raise InputError(
        f"{shown_address(path)}: no working point is known for {tagger or ', '.join(have)} in "
        f"{era}, only for {', '.join(points)}; give a cut (--btag TAGGER=CUT)"
    )
