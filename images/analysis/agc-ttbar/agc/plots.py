"""Figures of regions and features: stacked processes, uncertainty band, and pseudodata."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

from agc.histograms import AXES, Histograms, channels, name, with_pseudodata
from agc.samples import CROSS_SECTIONS, LUMINOSITY, InputError
from agc.selection import REGIONS

mpl.use("Agg")
import matplotlib.pyplot as plt
import mplhep

LABELS = {
    "wjets": "W + jets",
    "single_top_s_chan": "single top, s channel",
    "single_top_t_chan": "single top, t channel",
    "single_top_tW": "single top, tW",
    "ttbar": r"$t\bar{t}$",
}
COLORS = {
    "wjets": "#94a4a2",
    "single_top_s_chan": "#832db6",
    "single_top_t_chan": "#a96b59",
    "single_top_tW": "#e76300",
    "ttbar": "#3f90da",
}
FEATURE_TITLE = "4j2b: best assignment"

Array = NDArray[np.float64]


def _variations(histograms: Histograms, channel: str, process: str) -> dict[str, Array]:
    prefix = f"{channel}_{process}_"
    return {
        key.removeprefix(prefix): histogram.values()
        for key, histogram in histograms.items()
        if key.startswith(prefix)
    }


def band(histograms: Histograms, channel: str) -> tuple[Array, Array]:
    """Return the total and its uncertainty: statistical and systematic, in quadrature.

    Variations of one name are correlated among processes.  A pair of up and down contributes
    half of its difference, a single variation its difference from the nominal.
    """
    total: Any = 0.0
    statistical: Any = 0.0
    shifts: dict[str, Any] = {}
    for process in CROSS_SECTIONS:
        nominal = histograms.get(name(channel, process, "nominal"))
        if nominal is None:
            continue
        total = total + nominal.values()
        statistical = statistical + nominal.variances()
        for variation, values in _variations(histograms, channel, process).items():
            shifts[variation] = shifts.get(variation, 0.0) + (values - nominal.values())
    squares = statistical
    pairs = {"scaleup": "scaledown"}
    pairs |= {v: v.removesuffix("_up") + "_down" for v in shifts if v.endswith("_up")}
    done = set()
    for variation, shift in shifts.items():
        if variation in done:
            continue
        opposite = pairs.get(variation)
        if opposite in shifts:
            squares = squares + ((shift - shifts[opposite]) / 2) ** 2
            done |= {variation, opposite}
        elif variation not in pairs.values():
            squares = squares + shift**2
    return np.asarray(total), np.sqrt(squares)


def channel_figure(histograms: Histograms, channel: str, *, weights: str = "xsec") -> Any:
    """Return the figure of one channel, with the ratio of pseudodata to prediction below.

    Raises `InputError` where the channel has no nominal histogram.
    """
    histograms = with_pseudodata(histograms)
    processes = [p for p in LABELS if name(channel, p, "nominal") in histograms]
    if not processes:
        raise InputError(f"no nominal histogram in {channel}: nothing to draw")
    plt.style.use(mplhep.style.CMS)
    plt.rcParams.update({"font.size": 15})
    pseudodata = histograms.get(f"{channel}_pseudodata")
    rows = 2 if pseudodata is not None else 1
    figure, axes = plt.subplots(
        *(rows, 1),
        figsize=(8, 7.5 if rows == 2 else 6.5),
        sharex=True,
        squeeze=False,
        gridspec_kw={"height_ratios": [3, 1][:rows], "hspace": 0.06},
    )
    upper, lower = axes[0, 0], axes[-1, 0]
    stack = [histograms[name(channel, process, "nominal")] for process in processes]
    edges = stack[0].axes[0].edges
    mplhep.histplot(
        [(h.values(), edges) for h in stack],
        stack=True,
        histtype="fill",
        color=[COLORS[p] for p in processes],
        label=[LABELS[p] for p in processes],
        ax=upper,
    )
    total, error = band(histograms, channel)
    hatch = {"hatch": "////", "facecolor": "none", "edgecolor": "black", "linewidth": 0}
    upper.stairs(
        total + error, edges, baseline=total - error, fill=True, label="uncertainty", **hatch
    )
    if pseudodata is not None:
        centres = (edges[:-1] + edges[1:]) / 2
        spread = (
            np.sqrt(np.maximum(pseudodata.values(), 0))
            if weights == "xsec"
            else pseudodata.variances() ** 0.5
        )
        style = {"fmt": "o", "color": "black", "markersize": 4}
        upper.errorbar(centres, pseudodata.values(), spread, label="pseudodata", **style)
        with np.errstate(divide="ignore", invalid="ignore"):
            lower.errorbar(centres, pseudodata.values() / total, spread / total, **style)
            relative = np.where(total > 0, error / total, 0)
        lower.stairs(1 + relative, edges, baseline=1 - relative, fill=True, **hatch)
        lower.axhline(1, color="grey", linewidth=1)
        lower.set_ylim(0.5, 1.5)
        lower.set_ylabel("pseudodata\n/ prediction", fontsize=12, loc="center")
    width = edges[1] - edges[0]
    label = AXES[channel].label
    unit = " GeV" if "GeV" in label else ""
    upper.set_ylabel(f"events / {width:.3g}{unit}")
    upper.set_ylim(0, None)
    upper.margins(y=0.25)
    lower.set_xlabel(label)
    lower.set_xlim(edges[0], edges[-1])
    handles, names = upper.get_legend_handles_labels()
    upper.legend(handles[::-1], names[::-1], fontsize=12, loc="upper right")
    luminosity = f"{LUMINOSITY / 1000:.2f} fb$^{{-1}}$ (13 TeV)"
    right = luminosity if weights == "xsec" else "unit weights"
    title = f"{channel}: {REGIONS[channel]}" if channel in REGIONS else FEATURE_TITLE
    upper.set_title(title, loc="left", fontsize=14)
    upper.set_title(right, loc="right", fontsize=14)
    return figure


def save(histograms: Histograms, folder: Path, *, weights: str = "xsec") -> list[Path]:
    """Write a PNG file for each channel that has something to draw, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for channel in channels(histograms):
        if not any(name(channel, process, "nominal") in histograms for process in LABELS):
            continue
        figure = channel_figure(histograms, channel, weights=weights)
        path = folder / f"{channel}.png"
        figure.savefig(path, dpi=110, bbox_inches="tight")
        plt.close(figure)
        written.append(path)
    return written
