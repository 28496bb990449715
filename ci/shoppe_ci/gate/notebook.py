"""The executed notebook of a gate, and the source that it came from."""

from datetime import datetime
from pathlib import Path

import nbformat

from shoppe_ci import shell
from shoppe_ci.errors import ShoppeError
from shoppe_ci.gate.record import Section
from shoppe_ci.paths import ROOT


def commit() -> str:
    """Return the source's commit, marked if the tree has changes."""
    try:
        name = shell.run(["git", "rev-parse", "HEAD"], cwd=ROOT).strip()
        changes = shell.run(["git", "status", "--porcelain"], cwd=ROOT).strip()
    except ShoppeError:
        return "unknown"
    return f"{name}-dirty" if changes else name


def sections(notebook: Path) -> list[Section]:
    """Return the time of an executed notebook's cells, by the heading above them.

    There are none if the run ended before the notebook.
    """
    if not notebook.exists():
        return []
    title = "Imports"
    seconds: dict[str, float] = {}
    for cell in nbformat.read(notebook, as_version=4).cells:
        if cell.cell_type == "markdown" and cell.source.startswith("#"):
            title = cell.source.splitlines()[0].lstrip("# ")
        times = cell.metadata.get("execution", {})
        if cell.cell_type == "code" and "iopub.status.idle" in times:
            start, end = (
                datetime.fromisoformat(times[f"iopub.status.{state}"]) for state in ("busy", "idle")
            )
            seconds[title] = seconds.get(title, 0.0) + (end - start).total_seconds()
    return [Section(name, round(duration, 2)) for name, duration in seconds.items()]
