"""Deliver public files of the field, and count what comes out equal, refused and wrong."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shoppe_ci import shell
from shoppe_ci.errors import ShoppeError
from shoppe_ci.paths import ROOT
from shoppe_ci.progress import step

PROGRAM = ROOT / "images" / "servicex" / "tests" / "field_comparison.py"
"""Prints an outcome in JSON for each tree and format; its list is beside it."""
KINDS = ("equal", "equal without refused columns", "refused", "wrong")
"""What becomes of a tree in a format."""
TIMEOUT_S = 4 * 3600


@dataclass(frozen=True)
class Comparison:
    """The outcomes of the files in a folder."""

    listed: int
    """Files of the list."""
    present: int
    """Those that are in the folder."""
    outcomes: Sequence[dict[str, Any]]

    @property
    def wrong(self) -> list[dict[str, Any]]:
        """Return the outcomes that are wrong."""
        return [outcome for outcome in self.outcomes if outcome["verdict"] == "wrong"]


def compare(folder: Path, table: Path | None = None) -> Comparison:
    """Compare the listed files below a folder; raises `ShoppeError` if there is none.

    `table` is another list of files.
    """
    program: list[str | Path] = ["python", PROGRAM, folder]
    program += ["--list", table] if table else []
    with step(f"comparing the files in {folder}") as note:

        def show(line: str) -> None:
            if line.startswith('{"next"'):
                note(json.loads(line)["next"])

        output = shell.run(program, note=show, timeout=TIMEOUT_S, what="the comparison")
    lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    counts = next(line for line in lines if "listed" in line)
    if not counts["present"]:
        raise ShoppeError(
            f"{folder} has none of the {counts['listed']} listed files",
            "clone the repositories that the list names into it",
        )
    return Comparison(**counts, outcomes=[line for line in lines if "verdict" in line])


def kind_of(outcome: dict[str, Any]) -> str:
    """Return the kind of an outcome."""
    verdict = str(outcome["verdict"])
    return KINDS[1] if verdict == "equal" and outcome["refused"] else verdict


def lines_of(comparison: Comparison) -> Iterator[str]:
    """Yield the lines of the report: counts by format, reasons of refusals, what is wrong."""
    counts = Counter((outcome["form"], kind_of(outcome)) for outcome in comparison.outcomes)
    yield f"{comparison.present} of {comparison.listed} listed files"
    yield f"{'trees, by format':24s}" + "".join(f"{kind:>32s}" for kind in KINDS)
    for form in sorted({form for form, _ in counts}):
        yield f"{form:24s}" + "".join(f"{counts[form, kind]:32d}" for kind in KINDS)
    reasons = Counter(reason for outcome in comparison.outcomes for reason in _reasons(outcome))
    if reasons:
        yield "columns and trees that are refused"
    for reason, count in reasons.most_common():
        yield f"{count:7d}  {reason}"
    for outcome in comparison.wrong:
        place = f"{outcome['file']}: {outcome['tree']}, {outcome['form']}"
        yield f"WRONG  {place}: {outcome['reason']}"


def _reasons(outcome: dict[str, Any]) -> Iterator[str]:
    for kind in outcome["refused_kinds"].values():
        yield f"{outcome['form']}: {kind}"
    if outcome["verdict"] == "refused" and not outcome["refused"]:
        yield f"{outcome['form']}: {outcome['reason']}"
