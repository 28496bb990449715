"""The analysis' results of the facility, compared with those of this machine alone."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shoppe_ci import shell
from shoppe_ci.analysis import FIT, Sample, as_fileset, fitted
from shoppe_ci.errors import ShoppeError
from shoppe_ci.progress import step

HISTOGRAMS = ("histograms.root", "histograms_ml.root")
Fit = tuple[float, float]
"""The normalisation of ttbar, and its error."""
FIT_TOLERANCE = 1e-6
"""Relative, of the fitted normalisation and of its error."""
FACILITY, ALONE = "results", "without-facility"
"""Folders with the results of the facility, and with those of this machine."""


@dataclass(frozen=True)
class Comparison:
    """The fits with and without the facility, and how the results differ."""

    fits: tuple[Fit | None, Fit | None]
    differences: list[str]


def _differences(here: Path, there: Path) -> list[str]:
    """Return the histograms that differ, a sentence each."""
    for path, where in ((there, "in the facility's results"), (here, "without the facility")):
        if not path.exists():
            return [f"{path.name} is missing {where}"]
    try:
        shell.run(["agc", "validate", there, "--reference", here], what=f"comparing {there.name}")
    except ShoppeError as error:
        lines = error.problem.splitlines()
        return [f"{there.name}: {line.strip()}" for line in lines if line.startswith("  ")] or [
            error.problem
        ]
    return []


def analyse_alone(samples: Sequence[Sample], folder: Path) -> None:
    """Analyse files in a process of this machine, with the models of the facility's results."""
    alone, facility = folder / ALONE, folder / FACILITY
    alone.mkdir(exist_ok=True)
    content = as_fileset(
        (str(path), process, variation, events) for path, process, variation, events in samples
    )
    (alone / "fileset.json").write_text(json.dumps(content))
    with step("analysing the same files without the facility") as note:
        words: list[str | Path] = ["--fileset", alone / "fileset.json", "--no-cache"]
        words += ["--models", facility / "models", "--output", alone / HISTOGRAMS[0]]
        words += ["--report", alone / "report.json"]
        shell.run(["agc", "run", *words], note=note)
        shell.run(
            ["agc", "fit", alone / HISTOGRAMS[0], "--output", (alone / FIT).parent], note=note
        )


def compare(folder: Path) -> Comparison:
    """Compare the results in both folders of a gate.

    All bins, the number of scored candidates and the fit must be the same.
    """
    alone, facility = folder / ALONE, folder / FACILITY
    differences = [
        sentence
        for name in HISTOGRAMS
        if (alone / name).exists() or (facility / name).exists()
        for sentence in _differences(alone / name, facility / name)
    ]
    there, here = (
        json.loads((place / "report.json").read_text())["candidates"] for place in (facility, alone)
    )
    if there != here:
        differences.append(f"{there} candidates were scored, not {here}")
    fits = _fit(facility), _fit(alone)
    return Comparison(fits, [*differences, *_different_fits(*fits)])


def _fit(folder: Path) -> Fit | None:
    return fitted(folder / FIT) if (folder / FIT).exists() else None


def _different_fits(there: Fit | None, here: Fit | None) -> list[str]:
    if there is None or here is None:
        return [] if there is here else [f"there is {'no ' if there is None else 'a '}fit"]
    return [
        f"the fit's {what} is {measured:.8g}, not {expected:.8g}"
        for what, measured, expected in zip(("value", "error"), there, here, strict=True)
        if abs(measured - expected) > FIT_TOLERANCE * abs(expected)
    ]


def figures(report: Mapping[str, Any], comparison: Comparison) -> dict[str, Any]:
    """Return the figures of a run that the gate's report shows."""
    there, here = comparison.fits
    return {
        "events": sum(report["events"].values()),
        "workers": report["num_workers"],
        "seconds of delivery": round(report["deliverytime"], 1),
        "seconds of analysis": round(report["walltime"], 1),
        "candidates scored": report["candidates"],
        "fit in the facility": there or "none",
        "fit without the facility": here or "none",
    }
