"""The analysis' histograms, and their files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hist
import numpy as np
import uproot
from numpy.typing import NDArray

from agc.assignment import FEATURES
from agc.causes import explain
from agc.samples import CROSS_SECTIONS, InputError
from agc.selection import REGIONS

BINS = 25

Histograms = dict[str, hist.Hist]
Sums = dict[str, NDArray[np.int64]]
"""By a histogram's name: the sums of its entries' factors and of their squares, exactly.

(2, 2, bins with flow): two sums, each as a high and a low part.  Integers add up to the same in
any order, so that histograms do not depend on chunks, files and workers.
"""

HIGH, LOW = 2.0**20, 2.0**32
"""A factor is high/HIGH + low/HIGH/LOW: exactly, if it is 1 or more."""
LARGEST_FACTOR = 2.0**12
"""Larger factors count as that much; their sums would overflow."""


@dataclass(frozen=True)
class Axis:
    """The observable of a channel, and its range in 25 equal bins."""

    label: str
    low: float
    high: float


AXES = {
    "4j1b": Axis(r"$H_T$ [GeV]", 50, 550),
    "4j2b": Axis(r"$m_{bjj}$ [GeV]", 50, 550),
    **{feature.name: Axis(feature.label, feature.low, feature.high) for feature in FEATURES},
}
"""By channel: the two regions, and the features of the best assignment in 4j2b."""


@dataclass(frozen=True)
class Binning:
    """Equal bins of both regions, in GeV; the fit needs the default ones."""

    count: int = BINS
    low: float = 50.0
    high: float = 550.0

    def __post_init__(self) -> None:
        if self.count < 1 or not self.low < self.high:
            problem = f"{self.count} bins from {self.low:g} to {self.high:g} GeV"
            raise InputError(f"{problem}: set --bins to at least 1, and --range to LOW below HIGH")


def empty(channel: str, binning: Binning | None = None) -> hist.Hist:
    """Return a channel's empty histogram, with sums of weights and flow bins."""
    axis = AXES[channel]
    count, low, high = BINS, axis.low, axis.high
    if binning and channel in REGIONS:
        count, low, high = binning.count, binning.low, binning.high
    return _filled_by_weight(count, low, high, axis.label)


def _filled_by_weight(count: int, low: float, high: float, label: str) -> hist.Hist:
    bins = hist.axis.Regular(count, low, high, name="observable", label=label)
    return hist.Hist(bins, storage=hist.storage.Weight())


def fill(
    sums: Sums,
    channel: str,
    values: NDArray[Any],
    factors: dict[str, NDArray[np.float64] | None],
    binning: Binning | None = None,
) -> None:
    """Add entries to the sums of a channel's histograms.

    `factors` has by a histogram's name the entries' factors on the weight; None stands for one.
    """
    axis = empty(channel, binning).axes[0]
    bins = np.asarray(axis.index(values)) + 1
    for key, factor in factors.items():
        total = sums.setdefault(key, np.zeros((2, 2, axis.extent), dtype=np.int64))
        if factor is None:
            total[:, 0] += np.bincount(bins, minlength=axis.extent) * int(HIGH)
            continue
        bounded = np.clip(factor, -LARGEST_FACTOR, LARGEST_FACTOR)
        for moment, term in enumerate((bounded, bounded * bounded)):
            high = np.floor(term * HIGH)
            low = np.floor((term * HIGH - high) * LOW)
            np.add.at(total[moment, 0], bins, high.astype(np.int64))
            np.add.at(total[moment, 1], bins, low.astype(np.int64))


def weighted(sums: Sums, weight: float, binning: Binning | None = None) -> Histograms:
    """Return the histograms of entries that have all the same weight, times their factors."""
    histograms: Histograms = {}
    for key, total in sums.items():
        histograms[key] = empty(channel_of(key), binning)
        value, variance = (total[:, 0] + total[:, 1] / LOW) / HIGH
        view = histograms[key].view(flow=True)
        view["value"], view["variance"] = value * weight, variance * weight**2
    return histograms


def name(channel: str, process: str, variation: str) -> str:
    """Return a histogram's name: `CHANNEL_PROCESS`, and `_VARIATION` if not nominal."""
    return f"{channel}_{process}" if variation == "nominal" else f"{channel}_{process}_{variation}"


def channel_of(key: str) -> str:
    """Return the channel of a histogram's name; raises `InputError` where there is none."""
    for channel in AXES:
        if key.startswith(f"{channel}_"):
            return channel
    raise InputError(f"{key} is not a histogram of this analysis")


def channels(histograms: Histograms) -> list[str]:
    """Return the channels of the histograms, in the order of `AXES`."""
    present = {channel_of(key) for key in histograms}
    return [channel for channel in AXES if channel in present]


def merge(histograms: Histograms, other: Histograms) -> Histograms:
    """Return the sums of two sets of histograms; neither is changed."""
    sums = dict(histograms)
    for key, histogram in other.items():
        sums[key] = sums[key] + histogram if key in sums else histogram
    return sums


def with_pseudodata(histograms: Histograms) -> Histograms:
    """Return the histograms and each channel's pseudodata.

    Pseudodata is the mean of the two alternative ttbar samples plus W+jets.  A sample that has
    a histogram in another channel only counts as empty; there is no pseudodata without both
    alternative samples.
    """
    completed = dict(histograms)
    present = channels(histograms)
    kinds = ("ME_var", "PS_var")
    if not all(any(name(c, "ttbar", kind) in histograms for c in present) for kind in kinds):
        return completed
    for channel in present:
        total = None
        for key in (name(channel, "ttbar", kind) for kind in kinds):
            if (alternative := histograms.get(key)) is not None:
                half = alternative * 0.5
                total = half if total is None else total + half
        if total is None:
            continue
        if (background := histograms.get(name(channel, "wjets", "nominal"))) is not None:
            total = total + background
        completed[f"{channel}_pseudodata"] = total
    return completed


def save(histograms: Histograms, path: Path) -> None:
    """Write the histograms that are not empty, with the pseudodata, to a ROOT file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with uproot.recreate(path) as file:
        for key, histogram in sorted(with_pseudodata(histograms).items()):
            if np.any(histogram.values(flow=True)) or np.any(histogram.variances(flow=True)):
                file[key] = histogram


def load(path: Path) -> Histograms:
    """Read histograms from a ROOT file that `save` wrote.

    Raises `InputError` where the file is missing or has none.
    """
    try:
        with uproot.open(path) as file:
            histograms = {key: _from_root(key, file[key]) for key in file.keys(cycle=False)}
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except Exception as error:
        reason = explain(str(path), error) or repr(error)
        raise InputError(f"{path}: cannot be read as histograms: {reason}") from error
    if not histograms:
        raise InputError(f"{path}: contains no histograms; were any events selected?")
    return histograms


def _from_root(key: str, stored: Any) -> hist.Hist:
    """Return a stored histogram with the channel's axis, whose name ROOT does not store."""
    edges = stored.axis().edges()
    label = AXES[channel_of(key)].label
    histogram = _filled_by_weight(len(edges) - 1, edges[0], edges[-1], label)
    histogram.view(flow=True)[...] = stored.to_hist().view(flow=True)
    return histogram


def counts(histograms: Histograms) -> dict[str, float]:
    """Return the sum of each region's nominal histograms, flow included."""
    nominal = [name(region, process, "nominal") for region in REGIONS for process in CROSS_SECTIONS]
    return {
        key: float(histograms[key].sum(flow=True).value)
        for key in sorted(nominal)
        if key in histograms
    }


def as_json(histograms: Histograms) -> dict[str, dict[str, Any]]:
    """Return edges and contents (flow included), in the form of the AGC's references."""
    return {
        key: {
            "edges": histogram.axes[0].edges.tolist(),
            "contents": histogram.values(flow=True).tolist(),
        }
        for key, histogram in histograms.items()
    }
