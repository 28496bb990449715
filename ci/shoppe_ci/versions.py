"""Makes a version: its number, its changelog, and the record of the gate that it passed.

ci/releases/VERSION/ has what `ci/shoppe gate` wrote (the packaged chart, the images' digests, the
results, the report and the badge), and notes.md, the notes for who installs or upgrades.
"""

import re
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import yaml
from packaging.version import Version

from shoppe_ci import images, release, shell
from shoppe_ci.errors import ShoppeError
from shoppe_ci.gate import badge, report
from shoppe_ci.gate import record as records
from shoppe_ci.gate.record import Record
from shoppe_ci.paths import CHARTS, ROOT

RELEASES = ROOT / "ci" / "releases"
README = ROOT / "README.md"
CHANGELOG = ROOT / "CHANGELOG.md"
NOTES = "notes.md"
SEMANTIC = re.compile(r"\d+\.\d+\.\d+(-(rc|dev)(\.\d+)?)?")
BADGE = re.compile(r"(?<=<!-- badge -->\n).*?(?=<!-- end of badge -->)", re.DOTALL)
SHOWN = ("*.png", "*.ipynb")
"""Results that a release does not keep: the report shows them."""
USER_IMAGE = "analysis"
CLIENTS = (
    *("awkward", "coffea", "dask", "dask-gateway", "mlflow-skinny", "servicex"),
    *("tritonclient", "uproot", "xgboost-cpu"),
)
"""The packages of the user's image that the notes name."""


def current() -> str:
    """Return the version of the charts."""
    return str(_chart("coffea-shoppe")["version"])


def _chart(name: str) -> dict[str, str]:
    content: dict[str, str] = yaml.safe_load((CHARTS / name / "Chart.yaml").read_text())
    return content


def recorded() -> list[str]:
    """Return the versions that were released, the newest last."""
    names = (path.name for path in RELEASES.iterdir()) if RELEASES.is_dir() else ()
    return sorted(names, key=Version)


# --- the number and the changelog


def start(version: str) -> None:
    """Set the version of all charts, which are released together.

    Raises `ShoppeError` for a version that does not follow the newest release.
    """
    if not SEMANTIC.fullmatch(version):
        raise ShoppeError(
            f"{version!r} is no version",
            "name it as 1.2.3, 1.2.3-rc.1 for a candidate, or 1.2.3-dev for what follows a release",
        )
    released = recorded()
    if released and Version(version) <= Version(released[-1]):
        raise ShoppeError(
            f"the version {version} does not follow {released[-1]}, the newest release",
            "choose a higher one",
        )
    if version != current():
        shell.run(
            [sys.executable, "-m", "bumpversion", "bump", "--new-version", version]
            + ["--allow-dirty", "--no-commit", "--no-tag"],
            cwd=ROOT,
            what=f"setting the version {version}",
            remedy="all charts must have one version: see tool.bumpversion in pyproject.toml",
        )


def prepare(version: str) -> None:
    """Set the version, and move the changelog's fragments into `CHANGELOG.md`.

    Raises `ShoppeError` where the tree has changes, or nothing to release.
    """
    if changes := shell.run(["git", "status", "--porcelain"], cwd=ROOT).splitlines():
        raise ShoppeError(
            f"the tree has changes that are not committed: {', '.join(changes[:5])}",
            "commit or stash them first: a release is made of commits",
        )
    if not any((ROOT / "changelog.d").glob("+*")):
        raise ShoppeError("changelog.d has no fragment", "a release without a change needs none")
    start(version)
    shell.run(
        [sys.executable, "-m", "towncrier", "build", "--yes", "--version", version],
        cwd=ROOT,
        what="collecting the changelog",
    )


# --- the record


def record(source: Path) -> Path:
    """Keep the record of an open gate as that of the present version; return its folder.

    Raises `ShoppeError` where the gate was closed, or ran on other charts than the present ones.
    """
    remedy = "commit everything, then run `ci/shoppe gate` again"
    outcome = records.verified(source)
    if not outcome.passed:
        raise ShoppeError(f"the gate is closed: {outcome.broken} is broken", remedy)
    if outcome.commit.endswith("-dirty"):
        raise ShoppeError("the gate ran on a tree with changes that are not committed", remedy)
    if outcome.version != current():
        raise ShoppeError(f"the gate ran on {outcome.version}, the charts are {current()}", remedy)
    with tempfile.TemporaryDirectory() as scratch:
        if records.chart_digest(release.package(Path(scratch))) != outcome.chart_digest:
            raise ShoppeError("the charts have changed since the gate ran", remedy)
    target = RELEASES / outcome.version
    if target.exists():
        raise ShoppeError(
            f"{target} is there already",
            "a release is never changed: set a higher version with `ci/shoppe release prepare`",
        )
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(report.LOGS, *SHOWN))
    files = {name: digest for name, digest in outcome.files.items() if (target / name).exists()}
    outcome = replace(outcome, files=files)
    records.write(outcome, target)
    badge.write(target)
    (target / NOTES).write_text(notes(outcome))
    README.write_text(BADGE.sub(lambda _: badge_line(outcome) + "\n", README.read_text()))
    return target


def badge_line(outcome: Record) -> str:
    """Return the README's line with the badge of a release, which leads to the report."""
    label, message = badge.texts(outcome)
    folder = f"ci/releases/{outcome.version}"
    return f"[![{label}: {message}]({folder}/{badge.SVG})]({folder}/{report.PAGE})"


def section(version: str) -> str:
    """Return a version's section of the changelog, without its title."""
    lines = iter(CHANGELOG.read_text().splitlines())
    for line in lines:
        if line.startswith(f"## {version} ("):
            return "\n".join(_until_title(lines)).strip()
    raise ShoppeError(
        f"CHANGELOG.md has no section of {version}", f"run `ci/shoppe release prepare {version}`"
    )


def _until_title(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        if line.startswith("## "):
            return
        yield line


def notes(outcome: Record) -> str:
    """Return the notes of a release: what it runs with, its images, what changed."""
    requirements = images.requirements(images.declared()[USER_IMAGE].requirements)
    locked = dict(re.findall(r"^([\w.-]+)==([\w.+-]+)", requirements, re.MULTILINE))
    rows = [
        ("Kubernetes", _chart("coffea-shoppe")["kubeVersion"].removesuffix("-0")),
        *((f"{name} of the gate", value) for name, value in outcome.programs.items()),
        *((chart.name, _chart(chart.name)["appVersion"]) for chart in _upstream_charts()),
        *((f"{name} (user's image)", locked[name]) for name in CLIENTS),
    ]
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    digests = "\n".join(
        f"| `{image.reference}` | `{image.digest}` |" for image in outcome.images.values()
    )
    _, message = badge.texts(outcome)
    return f"""# Coffea Shoppe {outcome.version}

{message}: [report]({report.PAGE}), [record]({records.FILE}), of commit {outcome.commit}.

## Compatibility

| with | version |
|---|---|
{table}

## Images

| image | digest of the gate's build |
|---|---|
{digests}

The packaged chart is [{outcome.chart}]({outcome.chart}); the digest of its files is
`{outcome.chart_digest}`.

## Changes

{section(outcome.version)}
"""


def _upstream_charts() -> list[Path]:
    """Return the charts of programs that have a version of their own."""
    folders = (path.parent for path in sorted(CHARTS.glob("*/Chart.yaml")))
    return [path for path in folders if _chart(path.name).get("appVersion", current()) != current()]


# --- checks


def problems() -> list[str]:
    """Return what is wrong with the versions and the releases, each as a sentence."""
    wrong = []
    numbers = {path.parent.name: path for path in sorted(CHARTS.glob("*/Chart.yaml"))}
    wrong += [
        f"chart {name} has the version {_chart(name)['version']}, not {current()}"
        for name in numbers
        if _chart(name)["version"] != current()
    ]
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["bumpversion"]
    if tool["current_version"] != current():
        wrong.append(f"pyproject.toml names the version {tool['current_version']}")
    released = recorded()
    for version in released:
        wrong += _wrong_record(RELEASES / version)
    if released and not wrong:
        newest = RELEASES / released[-1]
        if badge_line(records.read(newest)) not in README.read_text():
            wrong.append(f"README.md does not show the badge of {released[-1]}")
        wrong += _unchanged_version(newest)
    return wrong


def _wrong_record(folder: Path) -> list[str]:
    """Return what a release's folder has other than its record says."""
    try:
        outcome = records.verified(folder)
    except ShoppeError as error:
        return [error.problem]
    wrong = []
    if outcome.version != folder.name or not outcome.passed:
        wrong.append(f"{folder}: the record is not of a gate that {folder.name} passed")
    if (folder / badge.SVG).read_text() != badge.of(outcome):
        wrong.append(f"{folder / badge.SVG} is not the record's badge")
    return wrong


def _unchanged_version(newest: Path) -> list[str]:
    """Return that the charts changed and kept the version of a release, if it is so."""
    outcome = records.read(newest)
    if outcome.version != current():
        return []
    with tempfile.TemporaryDirectory() as scratch:
        if records.chart_digest(release.package(Path(scratch))) == outcome.chart_digest:
            return []
    return [f"the charts differ from those of {current()}, which is released"]
