"""The analysis' histograms, and how they stand in a file."""

from pathlib import Path
from typing import Any

import hist
import numpy as np
import uproot

from agc.samples import CROSS_SECTIONS, InputError
from agc.selection import REGIONS

BINS, LOW, HIGH = 25, 50.0, 550.0

Histograms = dict[str, hist.Hist]


def empty() -> hist.Hist:
    """Return an empty histogram: 25 bins from 50 to 550 GeV, weights and flow kept."""
    axis = hist.axis.Regular(BINS, LOW, HIGH, name="observable", label="observable [GeV]")
    return hist.Hist(axis, storage=hist.storage.Weight())


def name(region: str, process: str, variation: str) -> str:
    """Return a histogram's name: `REGION_PROCESS`, and `_VARIATION` if not nominal."""
    return f"{region}_{process}" if variation == "nominal" else f"{region}_{process}_{variation}"


def merge(one: Histograms, other: Histograms) -> Histograms:
    """Return the sums of two sets of histograms; neither is changed."""
    both = dict(one)
    for key, histogram in other.items():
        both[key] = both[key] + histogram if key in both else histogram
    return both


def with_pseudodata(histograms: Histograms) -> Histograms:
    """Return the histograms and each region's pseudodata.

    Pseudodata is the mean of the two alternative ttbar samples plus W+jets; it is
    left out where one of the two is missing.
    """
    found = dict(histograms)
    for region in REGIONS:
        alternatives = [name(region, "ttbar", kind) for kind in ("ME_var", "PS_var")]
        if any(key not in histograms for key in alternatives):
            continue
        total = (histograms[alternatives[0]] + histograms[alternatives[1]]) * 0.5
        if (background := histograms.get(name(region, "wjets", "nominal"))) is not None:
            total = total + background
        found[f"{region}_pseudodata"] = total
    return found


def save(histograms: Histograms, path: Path) -> None:
    """Write the histograms that are not empty, with the pseudodata, to a ROOT file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with uproot.recreate(path) as file:
        for key, histogram in sorted(with_pseudodata(histograms).items()):
            if np.any(histogram.values(flow=True)) or np.any(histogram.variances(flow=True)):
                file[key] = histogram


def load(path: Path) -> Histograms:
    """Read histograms from a ROOT file that `save` wrote.

    Raises `InputError` where the file is missing or holds none.
    """
    try:
        with uproot.open(path) as file:
            found = {key: _from_root(file[key]) for key in file.keys(cycle=False)}
    except Exception as error:
        raise InputError(f"{path} cannot be read as histograms: {error}") from error
    if not found:
        raise InputError(f"{path} holds no histograms; was anything selected?")
    return found


def _from_root(stored: Any) -> hist.Hist:
    """Return a stored histogram with our axis: ROOT keeps its title, but not its name."""
    histogram = empty()
    histogram.view(flow=True)[...] = stored.to_hist().view(flow=True)
    return histogram


def counts(histograms: Histograms) -> dict[str, float]:
    """Return the sum of each nominal histogram, flow included."""
    return {
        key: float(histogram.sum(flow=True).value)
        for key, histogram in sorted(histograms.items())
        if key.partition("_")[2] in CROSS_SECTIONS
    }


def as_json(histograms: Histograms) -> dict[str, dict[str, Any]]:
    """Return edges and contents (flow included) of each histogram, as the AGC's references."""
    return {
        key: {
            "edges": histogram.axes[0].edges.tolist(),
            "contents": histogram.values(flow=True).tolist(),
        }
        for key, histogram in histograms.items()
    }
