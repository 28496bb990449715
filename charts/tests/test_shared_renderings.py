"""A rendering is shared by tests and runs, and never by a chart that has changed."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import rendering
from lib import api_schemas
from rendering import ALONE, CHARTS, HelmError, template
from shoppe_ci import toolchain

CHART = "objectstore"


def forget_digests() -> None:
    """Forget what this process knows, as the next run."""
    for remembered in (rendering._digest, rendering._folder, rendering._tools):
        remembered.cache_clear()


def copy_charts(target: Path) -> None:
    for name in (CHART, "shoppe-lib"):
        shutil.copytree(CHARTS / name, target / name, symlinks=True)


@pytest.fixture
def renderings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of renderings, which is empty at first."""
    # Helm is in the cache folder.
    helm = toolchain.program("helm")
    monkeypatch.setattr(toolchain, "program", lambda _: helm)
    monkeypatch.setenv("SHOPPE_CACHE", str(tmp_path / "cache"))
    forget_digests()
    yield tmp_path / "cache" / "renderings"
    forget_digests()


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renderings: Path) -> list[str]:
    """Replace the charts by a copy; return the list of values that Helm renders."""
    copy_charts(tmp_path)
    made: list[str] = []
    helm = rendering._helm

    def recorded(chart: str, values: str, release: str) -> object:
        made.append(values)
        return helm(chart, values, release)

    monkeypatch.setattr(rendering, "CHARTS", tmp_path)
    monkeypatch.setattr(rendering, "_helm", recorded)
    return made


def test_one_rendering_serves_all_and_each_has_its_own_objects(calls: list[str]) -> None:
    first = template(CHART, ALONE[CHART])
    second = template(CHART, ALONE[CHART])
    assert len(calls) == 1
    assert first == second
    first[0]["kind"] = "Changed"
    assert template(CHART, ALONE[CHART]) == second
    template(CHART, ALONE[CHART], again=True)
    template(CHART, ALONE[CHART], release="other")
    assert len(calls) == 3


@pytest.mark.parametrize("changed", [CHART, "shoppe-lib"])
def test_a_changed_chart_is_rendered_again(calls: list[str], tmp_path: Path, changed: str) -> None:
    template(CHART, ALONE[CHART])
    file = tmp_path / changed / "Chart.yaml"
    before = file.stat()
    file.write_text(file.read_text().replace("\nversion: 0", "\nversion: 9"))
    # A tool may keep the time of change, and the size is the same.
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    template(CHART, ALONE[CHART])
    assert len(calls) == 2


def test_a_refusal_is_shared_too(calls: list[str]) -> None:
    for _ in range(2):
        with pytest.raises(HelmError, match="persistance"):
            template(CHART, {**ALONE[CHART], "persistance": {}})
    assert len(calls) == 1


def test_a_later_run_renders_only_what_has_changed(
    calls: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = template(CHART, ALONE[CHART])
    forget_digests()
    assert template(CHART, ALONE[CHART]) == first
    # In another checkout, too.
    copy_charts(tmp_path / "checkout")
    monkeypatch.setattr(rendering, "CHARTS", tmp_path / "checkout")
    assert template(CHART, ALONE[CHART]) == first
    assert len(calls) == 1
    for version in ("1.30", "1.31"):
        # Objects are checked against other schemas.
        monkeypatch.setattr(api_schemas, "VERSIONS", [version])
        forget_digests()
        template(CHART, ALONE[CHART])
    assert len(calls) == 3


def test_an_object_that_is_refused_is_not_kept(
    calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(rendering, "check", lambda manifests: pytest.fail("refused"))
        with pytest.raises(pytest.fail.Exception, match="refused"):
            template(CHART, ALONE[CHART])
    assert template(CHART, ALONE[CHART])
    assert len(calls) == 2


def test_renderings_of_unused_charts_are_removed(calls: list[str], renderings: Path) -> None:
    unused, used = renderings / "unused", renderings / "used"
    for folder in (unused, used):
        folder.mkdir(parents=True)
    os.utime(unused, (0, 0))
    template(CHART, ALONE[CHART])
    assert not unused.exists()
    assert used.exists()
    assert len(list(renderings.iterdir())) == 2
