"""Synthetic NanoAOD of all nine samples: the demonstration's default input.

A toy, not a simulation: hard processes are decayed in vacuum with the right
masses, quarks become jets by smearing, and radiation is a Poisson number of jets
with a falling spectrum.  The tree has NanoAOD's names and types for everything that
the analysis reads, and a generator record from which quarks can be matched to jets.
Efficiencies and radiation are tuned so that the selected fraction of each sample
is near that of CMS' simulation; `tests/test_synth.py` checks that.

There are two kinds of file.  `demo` has the branches that the analysis reads, and trains its
models on.  `nano` is like the files of the AGC, at several times the size: all branches
(`nanoaod_table`), the precision of their floats, further soft objects, and baskets of 7,500
events.  The objects that the analysis can select are the same kind of events in both.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import awkward as ak
import numpy as np
import uproot
from numpy.typing import NDArray

from agc import nanoaod_table
from agc.samples import TREE, Sample, samples

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

M_TOP, WIDTH_TOP = 172.5, 1.4
M_W, WIDTH_W = 80.4, 2.1
M_B = 4.8
HADRONIC, ELECTRON, MUON = range(3)
"""Decays of a W boson, as indices of `W_BRANCHING`, whose last entry is the decay to a tau."""
W_BRANCHING = np.array([0.676, 0.108, 0.108, 0.108])
LAST_COPY = 1 << 13
HARD_PROCESS = 1 << 7

Likeness = Literal["demo", "nano"]
Container = Literal["ttree", "rntuple"]
LIKENESSES: tuple[Likeness, ...] = get_args(Likeness)
CONTAINERS: tuple[Container, ...] = get_args(Container)
CHUNK: dict[Likeness, int] = {"demo": 50_000, "nano": 7_500}
"""Events that are generated at once, and are one basket of each branch."""


@dataclass(frozen=True)
class Soft:
    """Mean numbers of further objects that no selection accepts, as real files have them."""

    jets: float
    """Below 24 GeV."""
    electrons: float
    """Without identification."""
    muons: float
    """Without identification."""
    particles: float
    """In the generator's record."""


SOFT: dict[Likeness, Soft | None] = {"demo": None, "nano": Soft(2.6, 0.93, 0.72, 40.0)}


@dataclass(frozen=True)
class Tune:
    """Parameters of a sample."""

    kind: str
    """Hard process: ttbar, s, t, tW or wjets."""
    share: float
    """Events, relative to those of nominal ttbar."""
    radiation: float
    """Mean number of radiated jets above 20 GeV."""
    hardness: float = 1.0
    """Factor on the top quarks' and the W's transverse momenta."""
    slope: float = 32.0
    """GeV: mean of the radiated jets' transverse momentum above 20 GeV."""
    b_efficiency: float = 0.78
    c_efficiency: float = 0.22
    light_efficiency: float = 0.06
    splitting: float = 0.01
    """Probability that a radiated jet has a b quark."""
    lepton_efficiency: float = 0.26


NOMINAL = Tune("ttbar", 1.0, 1.9, b_efficiency=0.84, light_efficiency=0.08)
TUNES = {
    "ttbar__nominal": NOMINAL,
    "ttbar__scaledown": replace(NOMINAL, share=0.5, radiation=1.72),
    "ttbar__scaleup": replace(NOMINAL, share=0.5, radiation=2.0),
    "ttbar__ME_var": replace(NOMINAL, share=0.5, radiation=2.6, hardness=1.1),
    "ttbar__PS_var": replace(NOMINAL, share=0.5, radiation=2.1, slope=28.0),
    "single_top_s_chan__nominal": Tune(
        "s", 0.5, 0.95, slope=26.0, b_efficiency=0.84, lepton_efficiency=0.22
    ),
    "single_top_t_chan__nominal": Tune("t", 0.75, 1.0, slope=26.0, splitting=0.36),
    "single_top_tW__nominal": Tune("tW", 0.25, 1.7, splitting=0.36),
    "wjets__nominal": Tune("wjets", 10.0, 1.35, slope=26.0, splitting=0.045),
}


def breit_wigner(rng: np.random.Generator, count: int, mass: float, width: float) -> Array:
    """Draw masses in GeV, cut at ten widths from the pole."""
    limit = np.arctan(20.0)
    return mass + width / 2 * np.tan(rng.uniform(-limit, limit, count))


def boost(vectors: Array, frame: Array) -> Array:
    """Return four-vectors (E, x, y, z) from the rest frame of `frame` in its lab frame."""
    mass = np.sqrt(np.maximum(frame[:, 0] ** 2 - (frame[:, 1:] ** 2).sum(1), 1e-12))
    beta = frame[:, 1:] / frame[:, :1]
    gamma = frame[:, 0] / mass
    along = (beta * vectors[:, 1:]).sum(1)
    factor = gamma**2 / (1 + gamma) * along + gamma * vectors[:, 0]
    energy = gamma * (vectors[:, 0] + along)
    return np.column_stack([energy, vectors[:, 1:] + factor[:, None] * beta])


def decay(
    rng: np.random.Generator, parent: Array, first: float, second: float
) -> tuple[Array, Array]:
    """Decay four-vectors isotropically into two bodies of given masses in GeV."""
    mass = np.sqrt(np.maximum(parent[:, 0] ** 2 - (parent[:, 1:] ** 2).sum(1), 0))
    mass = np.maximum(mass, first + second + 1e-3)
    momentum = np.sqrt((mass**2 - (first + second) ** 2) * (mass**2 - (first - second) ** 2)) / (
        2 * mass
    )
    cosine = rng.uniform(-1, 1, len(parent))
    phi = rng.uniform(-np.pi, np.pi, len(parent))
    sine = np.sqrt(1 - cosine**2)
    direction = np.column_stack([sine * np.cos(phi), sine * np.sin(phi), cosine])
    space = momentum[:, None] * direction
    bodies = [
        np.column_stack([np.sqrt(momentum**2 + m**2), sign * space])
        for m, sign in ((first, 1), (second, -1))
    ]
    return boost(bodies[0], parent), boost(bodies[1], parent)


def four_vector(pt: Array, rapidity: Array, phi: Array, mass: Array) -> Array:
    """Return (E, x, y, z) from transverse momentum, rapidity, azimuth and mass."""
    transverse = np.sqrt(pt**2 + mass**2)
    return np.column_stack(
        [
            transverse * np.cosh(rapidity),
            pt * np.cos(phi),
            pt * np.sin(phi),
            transverse * np.sinh(rapidity),
        ]
    )


class Record:
    """Particles of many events side by side: one column a particle of the process."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.vectors: list[Array] = []
        self.ids: list[Ints] = []
        self.mothers: list[Ints] = []
        self.present: list[NDArray[np.bool_]] = []

    def add(self, vector: Array, pdg: Ints | int, mother: int, present: NDArray[np.bool_]) -> int:
        """Add a column and return its number."""
        self.vectors.append(vector)
        self.ids.append(np.broadcast_to(np.asarray(pdg, dtype=np.int64), self.count).copy())
        self.mothers.append(np.full(self.count, mother, dtype=np.int64))
        self.present.append(present)
        return len(self.vectors) - 1


def add_w(rng: np.random.Generator, record: Record, w: Array, charge: Ints, mother: int,
          channels: Array = W_BRANCHING) -> None:  # fmt: skip
    """Add a W boson and its decay to the record."""
    every = np.ones(record.count, dtype=bool)
    column = record.add(w, 24 * charge, mother, every)
    channel = rng.choice(4, record.count, p=channels)
    first, second = decay(rng, w, 0.0, 0.0)
    charmed = rng.random(record.count) < 0.5
    hadronic = channel == HADRONIC
    up, down = np.where(charmed, 4, 2), np.where(charmed, 3, 1)
    record.add(first, up * charge, column, hadronic)
    record.add(second, -down * charge, column, hadronic)
    flavour = np.select([channel == ELECTRON, channel == MUON], [11, 13], 15)
    record.add(first, -flavour * charge, column, ~hadronic)
    record.add(second, (flavour + 1) * charge, column, ~hadronic)


def add_top(rng: np.random.Generator, record: Record, top: Array, charge: Ints) -> None:
    """Add a top quark, its b quark and its W boson to the record."""
    every = np.ones(record.count, dtype=bool)
    column = record.add(top, 6 * charge, -1, every)
    mass = breit_wigner(rng, record.count, M_W, WIDTH_W)
    m_top = np.sqrt(np.maximum(top[:, 0] ** 2 - (top[:, 1:] ** 2).sum(1), 0))
    w, b = decay_masses(rng, top, m_top, mass)
    record.add(b, 5 * charge, column, every)
    add_w(rng, record, w, charge, column)


def decay_masses(
    rng: np.random.Generator, top: Array, m_top: Array, m_w: Array
) -> tuple[Array, Array]:
    """Decay top quarks into a W boson of given masses and a b quark."""
    energy = (m_top**2 + m_w**2 - M_B**2) / (2 * m_top)
    momentum = np.sqrt(np.maximum(energy**2 - m_w**2, 0))
    cosine, phi = rng.uniform(-1, 1, len(top)), rng.uniform(-np.pi, np.pi, len(top))
    sine = np.sqrt(1 - cosine**2)
    space = momentum[:, None] * np.column_stack([sine * np.cos(phi), sine * np.sin(phi), cosine])
    b_energy = np.sqrt(momentum**2 + M_B**2)
    return (
        boost(np.column_stack([energy, space]), top),
        boost(np.column_stack([b_energy, -space]), top),
    )


def hard_process(rng: np.random.Generator, tune: Tune, count: int) -> Record:
    """Return the generator record of a number of events."""
    record = Record(count)
    every = np.ones(count, dtype=bool)
    pt = rng.gamma(2.0, 55.0 * tune.hardness, count)
    phi = rng.uniform(-np.pi, np.pi, count)
    away = phi + np.pi + rng.normal(0, 0.3, count)
    recoil = pt * np.abs(rng.normal(1, 0.15, count))
    charge = rng.choice([-1, 1], count).astype(np.int64)

    def rapidity(width: float) -> Array:
        return rng.normal(0, width, count)

    def top(momentum: Array, azimuth: Array) -> Array:
        mass = breit_wigner(rng, count, M_TOP, WIDTH_TOP)
        return four_vector(momentum, rapidity(0.95), azimuth, mass)

    if tune.kind == "wjets":
        mass = breit_wigner(rng, count, M_W, WIDTH_W)
        w = four_vector(rng.exponential(20 * tune.hardness, count), rapidity(1.6), phi, mass)
        add_w(rng, record, w, charge, -1, np.array([0, 1, 1, 1]) / 3)
        return record
    add_top(rng, record, top(pt, phi), charge)
    if tune.kind == "ttbar":
        add_top(rng, record, top(recoil, away), -charge)
    elif tune.kind == "tW":
        mass = breit_wigner(rng, count, M_W, WIDTH_W)
        add_w(rng, record, four_vector(recoil, rapidity(1.1), away, mass), -charge, -1)
    else:
        light = np.zeros(count)
        if tune.kind == "t":
            forward = rng.choice([-1, 1], count) * np.abs(rng.normal(2.4, 0.9, count))
            record.add(four_vector(recoil * 0.6, forward, away, light), 1 * charge, -1, every)
            soft = rng.exponential(12, count)
            b = four_vector(soft, rapidity(1.9), rng.uniform(-np.pi, np.pi, count), light + M_B)
            record.add(b, -5 * charge, -1, every)
        else:
            record.add(
                four_vector(recoil, rapidity(1.2), away, light + M_B), -5 * charge, -1, every
            )
    return record


def _kinematics(vector: Array) -> tuple[Array, Array, Array]:
    pt = np.hypot(vector[..., 1], vector[..., 2])
    eta = np.arcsinh(vector[..., 3] / np.maximum(pt, 1e-6))
    return pt, eta, np.arctan2(vector[..., 2], vector[..., 1])


def _sorted(columns: Mapping[str, NDArray[Any]], keep: NDArray[np.bool_]) -> ak.Array:
    """Turn columns (event, particle) into jagged records, hardest first."""
    order = np.argsort(-np.where(keep, columns["pt"], -1), axis=1)
    counts = keep.sum(axis=1)
    mask = np.arange(keep.shape[1]) < counts[:, None]
    return ak.zip(
        {
            name: ak.unflatten(np.take_along_axis(values, order, axis=1)[mask], counts)
            for name, values in columns.items()
        }
    )


def _more(rng: np.random.Generator, mean: float, count: int) -> NDArray[np.bool_]:
    """Return which of a few columns are present: a Poisson number with this mean."""
    columns = int(3 * mean + 3)
    return np.arange(columns) < rng.poisson(mean, count)[:, None]


def jets(
    rng: np.random.Generator, tune: Tune, record: Record, soft: Soft | None = None
) -> ak.Array:
    """Return reconstructed jets above 15 GeV: of quarks, hadronic taus, and radiation."""
    count = record.count
    quark = [np.abs(ids) <= 5 for ids in record.ids]
    tau = [(np.abs(ids) == 15) & (rng.random(count) < 0.65) for ids in record.ids]
    vectors = np.stack(record.vectors, axis=1)
    keep = np.stack(
        [p & (q | t) for p, q, t in zip(record.present, quark, tau, strict=True)], axis=1
    )
    flavour = np.abs(np.stack(record.ids, axis=1))
    flavour = np.where(flavour == 15, 1, flavour)
    pt, eta, phi = _kinematics(vectors)
    most = 9
    number = np.minimum(rng.poisson(tune.radiation, count), most)
    radiated = np.arange(most) < number[:, None]
    shape = (count, most)
    pt = np.concatenate([pt, 20 + rng.exponential(tune.slope, shape)], axis=1)
    eta = np.concatenate([eta, rng.normal(0, 1.9, shape)], axis=1)
    phi = np.concatenate([phi, rng.uniform(-np.pi, np.pi, shape)], axis=1)
    split = np.where(rng.random(shape) < tune.splitting, 5, 21)
    flavour = np.concatenate([flavour, split], axis=1)
    keep = np.concatenate([keep, radiated], axis=1)
    pt = pt * np.maximum(rng.normal(0.98, 0.08 + 0.6 / np.sqrt(np.maximum(pt, 10))), 0.1)
    keep &= (pt > 15) & (np.abs(eta) < 4.7)
    if soft:
        added = _more(rng, soft.jets, count)
        pt = np.concatenate([pt, rng.uniform(15, 24, added.shape)], axis=1)
        eta = np.concatenate([eta, rng.normal(0, 2.2, added.shape).clip(-4.7, 4.7)], axis=1)
        phi = np.concatenate([phi, rng.uniform(-np.pi, np.pi, added.shape)], axis=1)
        flavour = np.concatenate([flavour, np.full(added.shape, 21)], axis=1)
        keep = np.concatenate([keep, added], axis=1)
    efficiency = np.select(
        [flavour == 5, flavour == 4],
        [tune.b_efficiency, tune.c_efficiency],
        tune.light_efficiency,
    )
    tagged = (rng.random(pt.shape) < efficiency) & (np.abs(eta) < 2.4)
    discriminant = np.where(
        tagged, 1 - 0.5 * rng.beta(1, 3, pt.shape), 0.5 * rng.beta(1, 2, pt.shape)
    )
    discriminant = np.where(rng.random(pt.shape) < 0.01, -10, discriminant)
    gluon = np.where(flavour == 21, rng.beta(2, 3, pt.shape), rng.beta(3, 2, pt.shape))
    gluon = np.where(rng.random(pt.shape) < 0.02, -1, gluon)
    mass = pt * np.abs(rng.normal(0.13, 0.04, pt.shape))
    quality = rng.choice([6, 2, 0], pt.shape, p=[0.98, 0.01, 0.01])
    real = {"pt": pt, "eta": eta, "phi": phi, "mass": mass, "btagCSVV2": discriminant, "qgl": gluon}
    columns = {name: values.astype(np.float32) for name, values in real.items()}
    return _sorted(columns | {"jetId": quality.astype(np.int32)}, keep)


def leptons(
    rng: np.random.Generator, tune: Tune, record: Record, pdg: int, soft: Soft | None = None
) -> ak.Array:
    """Return reconstructed electrons (11) or muons (13): prompt, and soft ones from jets."""
    count = record.count
    vectors = np.stack(record.vectors, axis=1)
    ids = np.stack(record.ids, axis=1)
    present = np.stack(record.present, axis=1)
    pt, eta, phi = _kinematics(vectors)
    # A tau's lepton carries away a part of its momentum.
    from_tau = (np.abs(ids) == 15) & (rng.random(ids.shape) < 0.18)
    pt = np.where(np.abs(ids) == 15, pt * rng.beta(1.5, 2.5, pt.shape), pt)
    keep = (
        present
        & ((np.abs(ids) == pdg) | from_tau)
        & (rng.random(ids.shape) < tune.lepton_efficiency)
    )
    charge = -np.sign(ids)
    shape = (count, 1)
    from_jet = rng.random(shape) < 0.12
    pt = np.concatenate([pt, 5 + rng.exponential(6, shape)], axis=1)
    eta = np.concatenate([eta, rng.normal(0, 1.3, shape)], axis=1)
    phi = np.concatenate([phi, rng.uniform(-np.pi, np.pi, shape)], axis=1)
    charge = np.concatenate([charge, rng.choice([-1, 1], shape)], axis=1)
    fake = np.zeros(pt.shape, dtype=bool)
    fake[:, -1] = True
    keep = np.concatenate([keep, from_jet], axis=1)
    loose = np.zeros(pt.shape, dtype=bool)
    if soft:
        added = _more(rng, soft.electrons if pdg == 11 else soft.muons, count)
        pt = np.concatenate([pt, 5 + rng.exponential(8, added.shape)], axis=1)
        eta = np.concatenate([eta, rng.uniform(-2.4, 2.4, added.shape)], axis=1)
        phi = np.concatenate([phi, rng.uniform(-np.pi, np.pi, added.shape)], axis=1)
        charge = np.concatenate([charge, rng.choice([-1, 1], added.shape)], axis=1)
        keep = np.concatenate([keep, added], axis=1)
        fake = np.concatenate([fake, np.ones(added.shape, dtype=bool)], axis=1)
        loose = np.concatenate([loose, np.ones(added.shape, dtype=bool)], axis=1)
    pt = pt * rng.normal(1, 0.02, pt.shape)
    keep &= (pt > 5) & (np.abs(eta) < (2.5 if pdg == 11 else 2.4))
    impact = np.where(fake, rng.exponential(6, pt.shape), rng.exponential(1.0, pt.shape))
    mass = np.full(pt.shape, 0.000511 if pdg == 11 else 0.10566)
    real = {"pt": pt, "eta": eta, "phi": phi, "mass": mass, "sip3d": impact}
    columns: dict[str, NDArray[np.generic]] = {k: v.astype(np.float32) for k, v in real.items()}
    columns["charge"] = charge.astype(np.int32)
    if pdg == 11:
        good = rng.choice([4, 3, 2, 1, 0], pt.shape, p=[0.72, 0.1, 0.08, 0.06, 0.04])
        identity = np.where(fake, rng.choice([0, 1, 4], pt.shape), good)
        columns["cutBased"] = np.where(loose, identity % 4, identity).astype(np.int32)
    else:
        tight = rng.random(pt.shape) < np.where(fake, 0.5, 0.95)
        columns["tightId"] = tight & ~loose
        isolation = np.where(fake, rng.exponential(0.8, pt.shape), rng.exponential(0.05, pt.shape))
        columns["pfRelIso04_all"] = isolation.astype(np.float32)
    return _sorted(columns, keep)


def generator_particles(
    rng: np.random.Generator, record: Record, soft: Soft | None = None
) -> ak.Array:
    """Return the record as `GenPart`, mothers numbered within each event."""
    present = np.stack(record.present, axis=1)
    position = np.cumsum(present, axis=1) - 1
    vectors = np.stack(record.vectors, axis=1)
    pt, eta, phi = _kinematics(vectors)
    squared = vectors[..., 0] ** 2 - (vectors[..., 1:] ** 2).sum(-1)
    mothers = np.stack(record.mothers, axis=1)
    renumbered = np.take_along_axis(position, np.maximum(mothers, 0), axis=1)
    counts = present.sum(axis=1)
    flags = np.full(present.shape, LAST_COPY | HARD_PROCESS)
    real = {"pt": pt, "eta": eta, "phi": phi, "mass": np.sqrt(np.maximum(squared, 0))}
    columns: dict[str, NDArray[np.generic]] = {k: v.astype(np.float32) for k, v in real.items()}
    integers = {
        "pdgId": np.stack(record.ids, axis=1),
        "status": np.full(present.shape, 22),
        "statusFlags": flags,
        "genPartIdxMother": np.where(mothers < 0, -1, renumbered),
    }
    columns |= {k: v.astype(np.int32) for k, v in integers.items()}
    if soft:
        added = _more(rng, soft.particles, record.count)
        random = _later_particles(rng, added.shape, counts)
        columns = {
            k: np.concatenate([v, random[k].astype(v.dtype)], axis=1) for k, v in columns.items()
        }
        present = np.concatenate([present, added], axis=1)
        counts = present.sum(axis=1)
    return ak.zip({k: ak.unflatten(v[present], counts) for k, v in columns.items()})


def _later_particles(
    rng: np.random.Generator, shape: tuple[int, ...], counts: Ints
) -> dict[str, NDArray[Any]]:
    """Return gluons, photons and hadrons that come from the particles of a record.

    None is a quark or a lepton, so that the record's decays are found as before.
    """
    pdg = rng.choice([21, 22, 111, 211, -211, 321, 511, 521], shape)
    return {
        "pt": np.where(rng.random(shape) < 0.1, 0, rng.exponential(20, shape)),
        "eta": rng.normal(0, 2.5, shape),
        "phi": rng.uniform(-np.pi, np.pi, shape),
        "mass": np.where(rng.random(shape) < 0.9, 0, rng.uniform(0, 6, shape)),
        "pdgId": pdg,
        "status": rng.choice([1, 2, 51, 52, 62, 71], shape),
        "statusFlags": rng.choice([257, 4352, 8449, 12352, 385], shape),
        "genPartIdxMother": (rng.random(shape) * counts[:, None]).astype(np.int32),
    }


def chunk(
    rng: np.random.Generator, tune: Tune, first: int, count: int, soft: Soft | None = None
) -> dict[str, Any]:
    """Return the branches of a number of events, numbered from `first`."""
    record = hard_process(rng, tune, count)
    number = np.arange(first, first + count)
    return {
        "run": np.ones(count, dtype=np.uint32),
        "luminosityBlock": (number // 1000 + 1).astype(np.uint32),
        "event": (number + 1).astype(np.uint64),
        "Electron": leptons(rng, tune, record, 11, soft),
        "Muon": leptons(rng, tune, record, 13, soft),
        "Jet": jets(rng, tune, record, soft),
        "GenPart": generator_particles(rng, record, soft),
    }


def chunks(
    target: Sample, *, events: int, seed: int = 1, like: Likeness = "demo"
) -> Iterator[dict[str, Any]]:
    """Yield a sample's branches, a chunk of events at a time."""
    number = sorted(TUNES).index(target.name)
    rng = np.random.default_rng([seed, number])
    size = CHUNK[like]
    for first in range(0, events, size):
        count = min(size, events - first)
        columns = chunk(rng, TUNES[target.name], first, count, SOFT[like])
        if like == "nano":
            columns["genWeight"] = np.ones(count, dtype=np.float32)
            columns = nanoaod_table.completed(rng, columns, count)
        yield columns


def write(
    path: Path,
    target: Sample,
    *,
    events: int,
    seed: int = 1,
    like: Likeness = "demo",
    container: Container = "ttree",
) -> None:
    """Write one sample's file; the same seed gives the same events.

    In an RNTuple each branch is a field of its own, with the tree's names.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with uproot.recreate(partial, compression=uproot.ZLIB(1)) as file:
        tree = None
        for columns in chunks(target, events=events, seed=seed, like=like):
            if container == "rntuple":
                fields = nanoaod_table.flat(columns)
                if tree is None:
                    tree = file.mkrntuple(TREE, fields.layout.form)
                tree.extend(fields)
                continue
            if tree is None:
                types = {
                    name: values.dtype if isinstance(values, np.ndarray) else values.type
                    for name, values in columns.items()
                }
                # With room for all baskets the tree's header is built once: for a thousand
                # branches uproot takes ten seconds each time.
                baskets = -(-events // CHUNK[like]) + 1
                tree = file.mktree(TREE, types, initial_basket_capacity=baskets)
            tree.extend(columns)
    partial.rename(path)


def write_all(
    folder: Path,
    *,
    events: int,
    seed: int = 1,
    like: Likeness = "demo",
    container: Container = "ttree",
    only: Collection[str] = (),
) -> Iterator[tuple[Path, int]]:
    """Write all nine samples, or `only` some, and `fileset.json`; yield each file and its events.

    `events` is the number of nominal ttbar events; the others follow in the
    proportions of the tunes.
    """
    listed: dict[str, dict[str, object]] = {}
    for target in samples():
        if only and target.name not in only:
            continue
        count = max(int(events * TUNES[target.name].share), 100)
        path = folder / f"{target.name}.root"
        write(path, target, events=count, seed=seed, like=like, container=container)
        entry = {"nevts_total": count, "files": [{"path": path.name, "nevts": count}]}
        listed.setdefault(target.process, {})[target.variation] = entry
        yield path, count
    (folder / "fileset.json").write_text(json.dumps(listed, indent=2) + "\n")
