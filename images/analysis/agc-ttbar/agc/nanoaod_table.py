"""The branches of the AGC's NanoAOD files, with random values where the analysis reads nothing.

`nanoaod_branches.csv` has a row for each branch: name, type, counter (the branch with the
number of values; empty for one value per event), and how its values are drawn.  A share
`filled` of them is random, the others are zero.  Random numbers are normal with `bits` bits of
mantissa, or integers of `bits` bits; bools are true with probability `filled`.  Both are chosen
so that a value needs as many compressed bytes as in CMS' simulation of top quark pairs.
Columns without `filled` have a meaning, and come from the caller.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

MANTISSA = 23
"""Bits of a float32's mantissa; NanoAOD keeps 6 to 14 of most floats."""

MULTIPLICITIES = {
    "nCorrT1METJet": 7.31,
    "nFatJet": 0.385,
    "nFsrPhoton": 0.02,
    "nGenJetAK8": 1.37,
    "nGenJet": 8.14,
    "nGenVisTau": 0.149,
    "nLHEPart": 6.5,
    "nPhoton": 1.47,
    "nGenDressedLepton": 0.4,
    "nGenIsolatedPhoton": 0.02,
    "nTau": 1.22,
    "nSV": 2.8,
}
"""Mean numbers of values per event, Poisson-distributed, of collections without a meaning."""
LENGTHS = {
    "nLHEPdfWeight": 102,
    "nLHEReweightingWeight": 0,
    "nLHEScaleWeight": 9,
    "nPSWeight": 1,
    "nSoftActivityJet": 6,
    "nOtherPV": 3,
}
"""Numbers of values that are the same in all events."""


@dataclass(frozen=True)
class Branch:
    """A branch of the table."""

    name: str
    dtype: np.dtype[Any]
    counter: str
    filled: float | None
    """Share of random values; None where the values have a meaning."""
    bits: int

    @property
    def field(self) -> str:
        """Return the name within the collection; '' for a collection of plain values."""
        return self.name.removeprefix(self.counter[1:]).removeprefix("_")


@cache
def branches() -> dict[str, tuple[Branch, ...]]:
    """Return the branches by counter, in the order of the files; '' for one value per event."""
    by_counter: dict[str, list[Branch]] = {}
    with files("agc").joinpath("nanoaod_branches.csv").open(encoding="utf-8") as table:
        for row in csv.DictReader(table):
            filled = float(row["filled"]) if row["filled"] else None
            bits = int(row["bits"] or MANTISSA)
            branch = Branch(row["branch"], np.dtype(row["type"]), row["counter"], filled, bits)
            by_counter.setdefault(branch.counter, []).append(branch)
    return {counter: tuple(rows) for counter, rows in by_counter.items()}


def rounded(values: NDArray[Any], bits: int) -> NDArray[Any]:
    """Round float32 to the nearest with `bits` bits of mantissa, in place, as CMS does."""
    dropped = MANTISSA - bits
    if values.dtype == np.float32 and dropped:
        pattern = values.view(np.uint32)
        pattern += np.uint32(1 << (dropped - 1))
        pattern &= np.uint32(0xFFFFFFFF >> dropped << dropped)
    return values


def random_values(rng: np.random.Generator, branch: Branch, count: int) -> NDArray[Any]:
    """Return values of a branch that has no meaning."""
    share = branch.filled or 0.0
    if branch.dtype == np.bool_:
        return rng.random(count, dtype=np.float32) < share
    if branch.dtype == np.float32:
        values: NDArray[Any] = rounded(rng.standard_normal(count, dtype=np.float32), branch.bits)
    else:
        values = rng.integers(0, 1 << branch.bits, count, dtype=np.int32).astype(branch.dtype)
    if share < 1:
        values[rng.random(count, dtype=np.float32) >= share] = 0
    return values


def _lengths(
    rng: np.random.Generator, counter: str, count: int, collection: ak.Array | None
) -> NDArray[np.int64]:
    """Return the numbers of a counter's values."""
    if collection is not None:
        return np.asarray(ak.num(collection), dtype=np.int64)
    if counter in LENGTHS:
        return np.full(count, LENGTHS[counter], dtype=np.int64)
    return rng.poisson(MULTIPLICITIES[counter], count).astype(np.int64)


def completed(
    rng: np.random.Generator, meaningful: Mapping[str, Any], count: int
) -> dict[str, Any]:
    """Return all branches of a number of events: arrays, and collections as jagged records.

    `meaningful` has the columns and collections with a meaning; their floats are rounded to
    the bits of the table.
    """
    columns: dict[str, Any] = {}
    for branch in branches()[""]:
        given = branch.filled is None
        columns[branch.name] = (
            rounded(meaningful[branch.name].astype(branch.dtype), branch.bits)
            if given
            else random_values(rng, branch, count)
        )
    for counter, fields in branches().items():
        if counter:
            name = counter[1:]
            collection = meaningful.get(name)
            lengths = _lengths(rng, counter, count, collection)
            offsets = ak.index.Index64(np.concatenate([[0], np.cumsum(lengths)]))
            contents = [
                rounded(np.array(ak.flatten(collection[branch.field])), branch.bits)
                if branch.filled is None and collection is not None
                else random_values(rng, branch, int(lengths.sum()))
                for branch in fields
            ]
            layouts = [ak.contents.NumpyArray(values) for values in contents]
            content = (
                ak.contents.RecordArray(layouts, [branch.field for branch in fields])
                if fields[0].field
                else layouts[0]
            )
            columns[name] = ak.Array(ak.contents.ListOffsetArray(offsets, content))
    return columns


def flat(columns: Mapping[str, Any]) -> ak.Array:
    """Return the columns of `completed` with one field for each branch, counters included."""
    fields: dict[str, Any] = {}
    for name, values in columns.items():
        if isinstance(values, np.ndarray):
            fields[name] = values
            continue
        fields[f"n{name}"] = np.asarray(ak.num(values), dtype=np.uint32)
        for field in ak.fields(values) or [""]:
            fields[f"{name}_{field}" if field else name] = values[field] if field else values
    contents = [ak.to_layout(values) for values in fields.values()]
    return ak.Array(ak.contents.RecordArray(contents, list(fields)))
