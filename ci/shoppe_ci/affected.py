"""Selects the tests that a change can affect, from the changed files."""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shoppe_ci import shell
from shoppe_ci.paths import ROOT

TABLE = ROOT / "e2e-tests" / "affected.toml"
SUITES = "e2e-tests/suites"
EVERYTHING = ("ci", "operator", "images", "charts", "e2e-tests")
"""All folders of tests."""


@dataclass(frozen=True)
class Selection:
    """The tests to run."""

    paths: tuple[str, ...]
    """Files and folders for pytest."""
    reason: str
    """Reason for running the whole suite; empty for a part of it."""

    @property
    def stories(self) -> tuple[str, ...]:
        """Return the names of the chosen stories."""
        return tuple(Path(path).stem for path in self.paths if path.startswith(f"{SUITES}/"))


def read_table(path: Path = TABLE) -> list[dict[str, Any]]:
    """Return the rows of the table: `paths`, `tests` and `stories` of each component."""
    rows: list[dict[str, Any]] = tomllib.loads(path.read_text())["component"]
    return rows


def changed_files(since: str) -> list[str]:
    """Return the files that differ from a commit, including new ones.

    Raises `ShoppeError` for a name that is not a commit.
    """

    def git(*words: str) -> list[str]:
        remedy = "give a commit or a branch: --affected=main"
        return shell.run(["git", *words], cwd=ROOT, remedy=remedy).splitlines()

    new = git("ls-files", "--others", "--exclude-standard")
    return sorted({*git("diff", "--name-only", since, "--"), *new})


def select(changed: Iterable[str], table: Sequence[Mapping[str, Any]]) -> Selection:
    """Return the tests that these files can affect: the whole suite for a file without a row."""
    paths: set[str] = set()
    for file in changed:
        if file.startswith(f"{SUITES}/"):
            paths.add(file)
            continue
        row = next((row for row in table if file.startswith(tuple(row["paths"]))), None)
        if row is None:
            return Selection(EVERYTHING, f"{file} may touch everything")
        paths |= {*row["tests"], *(f"{SUITES}/{story}.py" for story in row["stories"])}
    # A story that was deleted cannot run.
    return Selection(tuple(sorted(path for path in paths if (ROOT / path).exists())), "")
