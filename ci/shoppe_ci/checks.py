"""Everything that can be checked without a cluster."""

import json
import os
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import yaml

from shoppe_ci import (
    catalogue,
    changelog,
    history,
    images,
    schema,
    shell,
    toolchain,
    versions,
    words,
)
from shoppe_ci.errors import ShoppeError
from shoppe_ci.paths import CHARTS, ROOT
from shoppe_ci.progress import step

TESTS = ("ci", "operator", "images", "charts", "e2e-tests")
"""Folders with tests."""


def _lint() -> None:
    shell.run(["ruff", "check", "."], cwd=ROOT, remedy="ruff check --fix .")
    shell.run(["ruff", "format", "--check", "."], cwd=ROOT, remedy="ruff format .")


def _types() -> None:
    shell.run(["mypy"], cwd=ROOT)


def _contracts() -> None:
    shell.run(["lint-imports", "--no-cache"], cwd=ROOT)


def _lock() -> None:
    shell.run([os.environ.get("SHOPPE_UV", "uv"), "lock", "--check"], cwd=ROOT, remedy="uv lock")


def chart_folders() -> list[Path]:
    """Return the charts that `ct.yaml` selects."""
    settings = yaml.safe_load((ROOT / "ct.yaml").read_text())
    excluded = set(settings["excluded-charts"])
    charts = []
    for folder in settings["chart-dirs"]:
        for path in sorted((ROOT / folder).iterdir()):
            if path.name not in excluded and path.is_dir():
                charts.append(path)
    return charts


def _charts() -> None:
    helm = toolchain.program("helm")
    for chart in chart_folders():
        if not (chart / "Chart.yaml").exists():
            raise ShoppeError(f"{chart} is not a chart", "name it under excluded-charts in ct.yaml")
        file = chart / catalogue.ALONE
        extra = ["--values", str(file)] if file.exists() else []
        shell.run(
            [helm, "lint", "--strict", "--quiet", chart, *extra], what=f"linting {chart.name}"
        )


def _dependencies() -> None:
    """Every dependency must be in the folder `charts`, with the version that the chart names."""
    for chart in chart_folders():
        declared = yaml.safe_load((chart / "Chart.yaml").read_text()).get("dependencies", [])
        for dependency in declared:
            linked = chart / "charts" / dependency["name"]
            other = CHARTS / dependency["name"]
            if linked.resolve() != other.resolve():
                raise ShoppeError(
                    f"{chart.name}: no link to its dependency {dependency['name']}",
                    f"ln -s ../../{dependency['name']} charts/{chart.name}/charts/",
                )
            version = yaml.safe_load((other / "Chart.yaml").read_text())["version"]
            if version != dependency["version"]:
                raise ShoppeError(
                    f"{chart.name} requires {dependency['name']} {dependency['version']}, "
                    f"but its version is {version}",
                    f"set the dependency's version in charts/{chart.name}/Chart.yaml to {version}",
                )


def _generated() -> None:
    if stale := schema.outdated():
        names = ", ".join(str(path.relative_to(ROOT)) for path in stale)
        raise ShoppeError(f"out of date: {names}", "ci/shoppe check --fix")


def _descriptions() -> None:
    if lacking := schema.undescribed():
        raise ShoppeError(
            "values without a full description:\n" + "\n".join(lacking),
            "write the comment above the key as docs/contributing/add-a-value.md says",
        )


def _pins() -> None:
    if stale := images.stale_pins():
        raise ShoppeError(
            "image tags are out of date:\n" + "\n".join(stale), "ci/shoppe check --fix"
        )


def repeated_modules(root: Path) -> list[str]:
    """Return the names of test modules that several folders have: pytest imports one of them."""
    folders = defaultdict(list)
    for tests in TESTS:
        for path in (root / tests).rglob("test_*.py"):
            folders[path.name].append(str(path.parent.relative_to(root)))
    return [f"{name}: {', '.join(sorted(of))}" for name, of in folders.items() if len(of) > 1]


def _test_modules() -> None:
    if repeated := repeated_modules(ROOT):
        raise ShoppeError(
            "test modules with the same name:\n" + "\n".join(repeated), "rename all but one"
        )


def _notebooks() -> None:
    """Notebooks are committed without outputs."""
    for path in (ROOT / "images").rglob("*.ipynb"):
        cells = json.loads(path.read_text())["cells"]
        if any(cell.get("outputs") for cell in cells):
            raise ShoppeError(f"{path.relative_to(ROOT)} contains outputs", "clear them and save")


def _commits() -> None:
    if subjects := history.long_subjects():
        raise ShoppeError(
            f"commit subjects have more than {history.MAX_LENGTH} characters:\n"
            + "\n".join(subjects),
            "git commit --amend, or git rebase --interactive; the body has room for the rest",
        )


def _names() -> None:
    if refused := words.problems():
        raise ShoppeError(
            "names that do not say what they are:\n" + "\n".join(refused),
            f"name a variable after what it contains; the words are in {words.GLOSSARY}",
        )


def _sentences() -> None:
    if refused := words.sentence_problems():
        raise ShoppeError(
            "sentences with words that the field does not use:\n" + "\n".join(refused),
            f'the words are in {words.GLOSSARY}, "In sentences"',
        )


def _workflows() -> None:
    """Workflows keep to GitHub's schema, and to what zizmor asks for, such as pinned actions."""
    folder = Path(".github") / "workflows"
    for schema_of, files in (
        ("github-workflows", sorted((ROOT / folder).glob("*.yaml"))),
        ("citation-file-format", [ROOT / "CITATION.cff"]),
    ):
        shell.run(["check-jsonschema", "--builtin-schema", f"vendor.{schema_of}", *files])
    shell.run(
        ["zizmor", "--offline", "--no-progress", "--quiet", "--persona", "pedantic", folder],
        cwd=ROOT,
        what="auditing the workflows",
        remedy="https://docs.zizmor.sh/audits has each audit and its remedy",
    )


def _releases() -> None:
    if wrong := versions.problems():
        raise ShoppeError(
            "\n".join(wrong), "RELEASE.md says how versions are set and releases are recorded"
        )


CHECKS: dict[str, Callable[[], None]] = {
    "lock": _lock,
    "lint": _lint,
    "names": _names,
    "sentences": _sentences,
    "test modules": _test_modules,
    "types": _types,
    "import contracts": _contracts,
    "generated files": _generated,
    "descriptions of values": _descriptions,
    "image tags": _pins,
    "chart dependencies": _dependencies,
    "charts": _charts,
    "notebooks": _notebooks,
    "changelog": changelog.check,
    "workflows": _workflows,
    "releases": _releases,
    "commits": _commits,
}


def run_all() -> list[ShoppeError]:
    """Run every check and return what failed."""
    failed = []
    for name, check in CHECKS.items():
        try:
            with step(f"checking {name}"):
                check()
        except ShoppeError as error:
            failed.append(error)
    return failed


def fix() -> None:
    """Fix what needs no decision."""
    shell.run(["ruff", "check", "--fix-only", "--quiet", "."], cwd=ROOT)
    shell.run(["ruff", "format", "--quiet", "."], cwd=ROOT)
    images.pin()
    schema.outdated(write=True)
