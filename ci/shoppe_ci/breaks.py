"""Faults that the suite must detect: each is put into a copy of the tree, and a test must fail."""

import os
import re
import subprocess
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shoppe_ci import shell
from shoppe_ci.errors import ShoppeError
from shoppe_ci.paths import ROOT, cache
from shoppe_ci.progress import step

TABLE = ROOT / "e2e-tests" / "breaks.toml"
CLUSTER = "coffea-shoppe-broken"
TESTS_FAILED = 1
"""pytest's exit status if tests ran and some failed."""
TIMEOUT_S = 1800


@dataclass(frozen=True)
class Break:
    """A fault, and the test that must detect it."""

    name: str
    what: str
    file: str
    """The file that is broken; it contains `find` once, which becomes `replace`."""
    find: str
    replace: str
    test: str
    """The file or the node id of the test."""
    part: str = ""
    """The part of the long suites that the test is of; '' for the core suite."""

    @property
    def needs_cluster(self) -> bool:
        """Return whether the test is a story."""
        return self.test.startswith("e2e-tests/")

    def command(self) -> list[str]:
        """Return the arguments of `ci/shoppe` that run the test."""
        words = ["test", "--unchecked"]
        if self.part:
            words += ["--all", self.part]
        if self.needs_cluster:
            words += ["--keep", "--cluster", CLUSTER]
        elif not self.part:
            words.append("--fast")
        return [*words, "--", self.test, "-n1"]


def read_table(path: Path = TABLE) -> list[Break]:
    """Return all breaks."""
    return [Break(**row) for row in tomllib.loads(path.read_text())["break"]]


def choose(names: Sequence[str], table: Sequence[Break]) -> list[Break]:
    """Return the breaks of these names, or all; raises `ShoppeError` for an unknown name."""
    known = {entry.name: entry for entry in table}
    if unknown := set(names) - set(known):
        raise ShoppeError(
            f"there is no break {', '.join(sorted(unknown))}", f"the breaks are {', '.join(known)}"
        )
    return [known[name] for name in names or known]


def apply(entry: Break, root: Path) -> None:
    """Introduce the fault; raises `ShoppeError` if the text to replace does not occur once."""
    path = root / entry.file
    text = path.read_text()
    if text.count(entry.find) != 1:
        raise ShoppeError(
            f"the break {entry.name!r} does not fit: {entry.file} contains {entry.find!r} "
            f"{text.count(entry.find)} times",
            f"bring {TABLE.relative_to(ROOT)} up to date",
        )
    path.write_text(text.replace(entry.find, entry.replace))


def _git(*words: str, cwd: Path = ROOT) -> None:
    shell.run(["git", *words], cwd=cwd)


def _copy() -> Path:
    """Return a clean copy of the last commit; it is reused."""
    folder = cache("breaks", "tree")
    if not (folder / ".git").exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        _git("clone", "--quiet", "--no-hardlinks", str(ROOT), str(folder))
    _git("fetch", "--quiet", str(ROOT), "HEAD", cwd=folder)
    _git("checkout", "--quiet", "--force", "--detach", "FETCH_HEAD", cwd=folder)
    return folder


def _run(folder: Path, words: Sequence[str], log: Path) -> int:
    """Run `ci/shoppe` in a copy, with its output in a file; return its exit status."""
    environment: Mapping[str, str] = os.environ
    # The copy has its own Python environment.
    environment = {k: v for k, v in environment.items() if k != "VIRTUAL_ENV"}
    with log.open("a") as file:
        return subprocess.run(
            [folder / "ci" / "shoppe", *words],
            cwd=folder,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            timeout=TIMEOUT_S,
            check=False,
        ).returncode


def caught(entry: Break) -> bool:
    """Introduce a fault in a copy of the tree; return whether its test fails.

    Raises `ShoppeError` if the test could not run.
    """
    folder, log = _copy(), cache("breaks", f"{entry.name}.log")
    log.unlink(missing_ok=True)
    with step(f"breaking {entry.name}", f"({entry.what})"):
        apply(entry, folder)
        # Image tags and schemas follow the fault; other checks may fail.
        _run(folder, ["check", "--fix"], log)
        status = _run(folder, entry.command(), log)
    if status not in (0, TESTS_FAILED) or not re.search(r"\d+ (passed|failed)", log.read_text()):
        raise ShoppeError(f"the test of the break {entry.name!r} did not run; log: {log}")
    return status == TESTS_FAILED
