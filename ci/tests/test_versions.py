"""A version is set everywhere, and a release has the record of the gate that it passed."""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from shoppe_ci import changelog, images, release, versions
from shoppe_ci.errors import ShoppeError
from shoppe_ci.gate import record as records
from shoppe_ci.gate.hops import FAILED, HOPS, PROVED, Proof
from shoppe_ci.gate.record import Image, Record
from shoppe_ci.paths import ROOT, sha256

RESULT = "results/histograms.root"


# --- the number and the changelog, in a copy of the project


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project that is committed, with one fragment."""
    folder = tmp_path / "project"
    monkeypatch.setattr(versions, "ROOT", folder)
    monkeypatch.setattr(versions, "CHARTS", folder / "charts")
    monkeypatch.setattr(versions, "RELEASES", folder / "ci" / "releases")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    for name in listed:
        source, target = ROOT / name, folder / name
        if name.startswith("changelog.d/+") or not (source.is_file() or source.is_symlink()):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target, follow_symlinks=False)
    (folder / "changelog.d" / "+news.added.md").write_text("`agc` makes coffee.\n")
    for words in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "-m", "All"]):
        git(folder, *words)
    return folder


def git(folder: Path, *words: str) -> str:
    author = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    return subprocess.run(
        ["git", *author, *words], cwd=folder, check=True, capture_output=True, text=True
    ).stdout


def chart(folder: Path, name: str) -> dict[str, str]:
    content: dict[str, str] = yaml.safe_load((folder / "charts" / name / "Chart.yaml").read_text())
    return content


def numbers(folder: Path) -> set[str]:
    """Return all versions that the charts of a copy name for charts of the project."""
    present = set()
    for path in (folder / "charts").rglob("Chart.yaml"):
        content = yaml.safe_load(path.read_text())
        requires = content.get("dependencies", ())
        present |= {content["version"], *(each["version"] for each in requires)}
    return present


def test_a_version_is_prepared(project: Path) -> None:
    before, hub = versions.current(), chart(project, "jupyterhub")["appVersion"]
    (project / "more").touch()
    with pytest.raises(ShoppeError, match=r"changes that are not committed: \?\? more"):
        versions.prepare("7.1.0")
    assert numbers(project) == {before}
    (project / "more").unlink()
    versions.prepare("7.1.0")
    assert numbers(project) == {"7.1.0"}
    assert chart(project, "jupyterhub")["appVersion"] == hub
    assert yaml.safe_load((project / "CITATION.cff").read_text())["version"] == "7.1.0"
    collected = (project / "CHANGELOG.md").read_text()
    assert "## 7.1.0 (" in collected
    assert "- `agc` makes coffee." in collected
    assert not list((project / "changelog.d").glob("+*"))
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "-m", "Set the version")
    git(project, "clean", "-fdq")
    changelog.check(project)
    uv = os.environ.get("SHOPPE_UV", "uv")
    subprocess.run([uv, "lock", "--check"], cwd=project, check=True)
    with pytest.raises(ShoppeError, match=r"changelog\.d has no fragment"):
        versions.prepare("7.2.0")
    versions.start("7.2.0-dev")
    assert numbers(project) == {"7.2.0-dev"}
    assert versions.problems() == []


# --- the record


def gate(folder: Path, **changes: object) -> Path:
    """Write what an open gate on the present charts leaves, but for changes to its record."""
    folder.mkdir()
    chart = release.package(folder)
    (folder / records.MANIFESTS).mkdir()
    published = {}
    for name, image in images.declared().items():
        if image.values:
            path = folder / records.MANIFESTS / f"{name}.json"
            path.write_text(json.dumps({"config": {"digest": f"sha256:{name}"}}))
            published[name] = Image(images.reference(name), f"sha256:{sha256(path)}")
    for name in (RESULT, "results/plot.png", "logs/hub.log", "report.html"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)
    outcome = Record(
        version=versions.current(),
        commit="c0ffee",
        grade=records.SERVER,
        facility="http://127.0.0.1:1",
        started="2026-11-27T00:00:00+00:00",
        seconds=100.0,
        chart=chart.name,
        chart_digest=records.chart_digest(chart),
        programs={"Kubernetes": "v1.99.0"},
        images=published,
        hops=[Proof(hop.name, hop.title, PROVED) for hop in HOPS],
        differences=[],
        files={
            name: hashlib.sha256(name.encode()).hexdigest() for name in (RESULT, "results/plot.png")
        },
    )
    records.write(replace(outcome, **changes), folder)  # type: ignore[arg-type]
    return folder


@pytest.fixture
def releases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of releases, with a README and a changelog beside it."""
    readme, changelog = tmp_path / "README.md", tmp_path / "CHANGELOG.md"
    readme.write_text("# Title\n\n<!-- badge -->\nold\n<!-- end of badge -->\n\nText.\n")
    changelog.write_text(
        f"# Changelog\n\n## {versions.current()} (2026-12-01)\n\n### Added\n\n- Coffee.\n\n"
        "## 0.0.1 (2026-11-01)\n\n- Tea.\n"
    )
    monkeypatch.setattr(versions, "README", readme)
    monkeypatch.setattr(versions, "CHANGELOG", changelog)
    monkeypatch.setattr(versions, "RELEASES", ROOT / tmp_path / "releases")
    return tmp_path / "releases"


def test_a_record_is_kept_and_shown(releases: Path, tmp_path: Path) -> None:
    version = versions.current()
    folder = versions.record(gate(tmp_path / "gate"))
    assert folder == releases / version
    kept = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {RESULT, "gate.json", "badge.svg", "report.html", "notes.md"} <= kept
    assert not kept & {"results/plot.png", "logs/hub.log"}
    assert records.verified(folder).passed
    title = f"coffea-shoppe {version}: AGC crosses 7 of 7 services"
    line = f"[![{title}](ci/releases/{version}/badge.svg)](ci/releases/{version}/report.html)"
    assert versions.README.read_text() == (
        f"# Title\n\n<!-- badge -->\n{line}\n<!-- end of badge -->\n\nText.\n"
    )
    assert versions.problems() == []
    notes = (folder / "notes.md").read_text()
    for words in (
        "| Kubernetes of the gate | v1.99.0 |",
        "| jupyterhub | 6.",
        "| coffea (user's image) | 20",
        f"| `{images.reference('hub')}` | `sha256:",
        "- Coffee.",
    ):
        assert words in notes
    assert "Tea" not in notes


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"hops": [Proof("hub", "JupyterHub", FAILED)], "broken": "JupyterHub"}, "gate is closed"),
        ({"commit": "c0ffee-dirty"}, "changes that are not committed"),
        ({"version": "0.0.1"}, "the gate ran on 0.0.1"),
        ({"grade": records.CLIENT}, "a badge needs the services' counters"),
        ({"chart_digest": "sha256:0"}, "does not match its files"),
    ],
)
def test_a_record_that_is_no_release_s(
    releases: Path, tmp_path: Path, changes: dict[str, object], problem: str
) -> None:
    with pytest.raises(ShoppeError, match=problem):
        versions.record(gate(tmp_path / "gate", **changes))
    assert not releases.exists()
    assert "old" in versions.README.read_text()


def test_a_record_of_other_charts_and_a_second_one_are_refused(
    releases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = gate(tmp_path / "gate")
    versions.record(source)
    with pytest.raises(ShoppeError, match="is there already"):
        versions.record(source)
    shutil.rmtree(releases)
    monkeypatch.setattr(release, "package", other_chart)
    with pytest.raises(ShoppeError, match="the charts have changed since the gate ran"):
        versions.record(source)


def other_chart(folder: Path) -> Path:
    """Package a chart that differs from the project's."""
    chart = folder / "other"
    shutil.copytree(ROOT / "charts" / "shoppe-lib", chart)
    done = subprocess.run(
        ["tar", "-czf", "other.tgz", "other"], cwd=folder, check=True, capture_output=True
    )
    assert done.returncode == 0
    return folder / "other.tgz"


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda folder: (folder / RESULT).write_text("x"), f"{RESULT}: its content is not"),
        (lambda folder: (folder / "badge.svg").write_text("green"), "is not the record's badge"),
        (lambda folder: folder.rename(folder.parent / "9.9.9"), "is not of a gate that 9.9.9"),
        (lambda _: versions.README.write_text(""), "README.md does not show the badge"),
    ],
)
def test_a_release_that_was_changed_is_named(
    releases: Path, tmp_path: Path, damage: Callable[[Path], object], problem: str
) -> None:
    damage(versions.record(gate(tmp_path / "gate")))
    (wrong,) = versions.problems()
    assert problem in wrong


def test_charts_that_changed_need_another_version(
    releases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions.record(gate(tmp_path / "gate"))
    monkeypatch.setattr(release, "package", other_chart)
    current = versions.current()
    assert versions.problems() == [f"the charts differ from those of {current}, which is released"]


def test_versions_are_in_the_order_of_their_numbers(releases: Path) -> None:
    for name in ("0.10.0", "0.9.0", "0.10.0-rc.1", "0.2.0-dev"):
        (releases / name).mkdir(parents=True)
    assert versions.recorded() == ["0.2.0-dev", "0.9.0", "0.10.0-rc.1", "0.10.0"]


@pytest.mark.parametrize("version", ["7.1", "v7.1.0", "7.1.0-beta", "7.1.0+1", ""])
def test_what_is_no_version(version: str) -> None:
    with pytest.raises(ShoppeError, match="is no version"):
        versions.start(version)


@pytest.mark.parametrize("version", ["0.10.0", "0.10.0-rc.2", "0.9.1"])
def test_a_version_must_follow_the_newest_release(releases: Path, version: str) -> None:
    (releases / "0.10.0").mkdir(parents=True)
    with pytest.raises(ShoppeError, match=f"{version} does not follow 0.10.0"):
        versions.start(version)
