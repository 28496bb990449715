"""The analysis' results of the facility, compared with those of this machine alone."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shoppe_ci import shell
from shoppe_ci.analysis import FIT, Sample, fitted
from shoppe_ci.errors import ShoppeError
from shoppe_ci.progress import step

HISTOGRAMS = ("histograms.root", "histograms_ml.root")
FIT_TOLERANCE = 1e-6
"""Relative, of the fitted normalisation and of its error."""
FACILITY, ALONE = "results", "without-facility"
"""Folders with the results of the facility, and with those of this machine."""


@dataclass(frozen=True)
class Comparison:
    """The results that were computed without the facility, and how the facility's differ."""

    fit: tuple[float, float]
    candidates: int
    differences: list[str]


def _write_fileset(samples: Sequence[Sample], path: Path) -> None:
    content: dict[str, Any] = {}
    for file, process, variation, events in samples:
        entry = content.setdefault(process, {}).setdefault(variation, {"files": []})
        entry["files"].append({"path": str(file), "nevts": events})
    path.write_text(json.dumps(content))


def _differences(here: Path, there: Path) -> list[str]:
    """Return the histograms that differ, a sentence each."""
    if not there.exists():
        return [f"{there.name} is missing"]
    try:
        shell.run(["agc", "validate", there, "--reference", here], what=f"comparing {there.name}")
    except ShoppeError as error:
        lines = error.problem.splitlines()
        return [f"{there.name}: {line.strip()}" for line in lines if line.startswith("  ")] or [
            error.problem
        ]
    return []


def compare(samples: Sequence[Sample], folder: Path, report: dict[str, Any]) -> Comparison:
    """Analyse the same files in a process of this machine, with the facility's models.

    `folder` is the gate's, and `report` the report of the facility's results there.  All bins,
    the number of scored candidates and the fit must be the same.
    """
    alone, facility = folder / ALONE, folder / FACILITY
    alone.mkdir(exist_ok=True)
    _write_fileset(samples, alone / "fileset.json")
    with step("analysing the same files without the facility") as note:
        words: list[str | Path] = ["--fileset", alone / "fileset.json", "--no-cache"]
        words += ["--models", facility / "models", "--output", alone / HISTOGRAMS[0]]
        words += ["--report", alone / "report.json"]
        shell.run(["agc", "run", *words], note=note)
        shell.run(
            ["agc", "fit", alone / HISTOGRAMS[0], "--output", (alone / FIT).parent], note=note
        )
    differences = [
        sentence for name in HISTOGRAMS for sentence in _differences(alone / name, facility / name)
    ]
    candidates = json.loads((alone / "report.json").read_text())["candidates"]
    if report["candidates"] != candidates:
        differences.append(f"{report['candidates']} candidates were scored, not {candidates}")
    expected = fitted(alone / FIT)
    if not (facility / FIT).exists():
        differences.append("there is no fit")
    else:
        for what, there, here in zip(
            ("value", "error"), fitted(facility / FIT), expected, strict=True
        ):
            if abs(there - here) > FIT_TOLERANCE * abs(here):
                differences.append(f"the fit's {what} is {there:.8g}, not {here:.8g}")
    return Comparison(expected, candidates, differences)
