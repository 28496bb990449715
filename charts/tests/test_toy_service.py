"""A service is added by its own new files, and by lines in at most six others.

`toy/new` has the files of a service with everything that a service can have, and
`toy/edits.yaml` the lines.  The tests add both to a copy of the tree, generate what
`ci/shoppe check --fix` generates, and run the service's own tests there.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from shoppe_ci.affected import read_table, select
from shoppe_ci.paths import ROOT
from shoppe_ci.suite import read_budgets

NEW = Path(__file__).parent / "toy" / "new"
EDITS: dict[str, list[dict[str, Any]]] = yaml.safe_load((NEW.parent / "edits.yaml").read_text())
COPIED = (
    *("charts", "ci/shoppe_ci", "ci/toolchain", "docs/reference", "e2e-tests", "operator"),
    "images/services/tests",
)
"""Folders that the tests need."""
MAX_EDITED = 6

GENERATE = """
from shoppe_ci import checks, schema
schema.outdated(write=True)
checks._dependencies()
print(schema.undescribed())
"""


def add_toy(copy: Path) -> None:
    """Copy the tree, and add the toy's new files and the lines in others."""
    for folder in COPIED:
        left_out = shutil.ignore_patterns("__pycache__", "toy")
        shutil.copytree(ROOT / folder, copy / folder, symlinks=True, ignore=left_out)
    for file in ("pyproject.toml", "conftest.py", "ct.yaml"):
        shutil.copy(ROOT / file, copy / file)
    shutil.copytree(NEW, copy, dirs_exist_ok=True)
    links = ("coffea-shoppe/charts/toy", "toy"), ("toy/charts/shoppe-lib", "shoppe-lib")
    for link, chart in links:
        (copy / "charts" / link).parent.mkdir(exist_ok=True)
        (copy / "charts" / link).symlink_to(f"../../{chart}")
    for name, additions in EDITS.items():
        text = (copy / name).read_text()
        for addition in additions:
            after = addition["after"]
            assert after in text, f"{name} has changed: {after!r}"
            text = text.replace(after, after + addition["add"], 1)
        (copy / name).write_text(text)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("tree")
    add_toy(copy)
    assert run(copy, "-c", GENERATE).splitlines() == ["[]"]
    return copy


def run(copy: Path, *arguments: str) -> str:
    """Run Python with the copy's operator and tools; return what it prints."""
    path = os.pathsep.join(map(str, (copy / "ci", copy / "operator" / "operator")))
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=copy,
        env=dict(os.environ, PYTHONPATH=path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_at_most_six_hand_written_files_are_edited() -> None:
    assert len(EDITS) <= MAX_EDITED
    assert all((ROOT / name).is_file() for name in EDITS)
    assert [path for path in NEW.rglob("*") if (ROOT / path.relative_to(NEW)).is_file()] == []


def test_the_guide_lists_these_files() -> None:
    guide = (ROOT / "docs" / "contributing" / "add-a-service.md").read_text()
    edited = guide.partition("## Edited files")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `([^`]+)` \|", edited, re.MULTILINE) == list(EDITS)


def test_the_facility_has_the_toy_and_everything_that_belongs_to_it(copy: Path) -> None:
    tests = ("charts/tests/test_toy_in_facility.py", "charts/tests/test_connection_matrix.py")
    run(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests)


def test_the_toy_s_story_has_a_budget_and_runs_when_the_toy_changes(copy: Path) -> None:
    assert read_budgets(copy / "e2e-tests" / "budgets.toml")["stories"]["test_toy"] == 30
    table = read_table(copy / "e2e-tests" / "affected.toml")
    assert select(["charts/toy/values.yaml"], table).reason == ""
    assert (copy / "e2e-tests" / "suites" / "test_toy.py").is_file()
