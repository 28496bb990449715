"""A rendering is shared by the tests of a run, and never by a chart that has changed."""

import os
import shutil
from pathlib import Path

import pytest
import rendering
from rendering import ALONE, CHARTS, HelmError, template

CHART = "objectstore"


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace the charts by a copy; return the list of values that Helm renders."""
    for name in (CHART, "shoppe-lib"):
        shutil.copytree(CHARTS / name, tmp_path / name, symlinks=True)
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
    file.write_text(file.read_text().replace("version: 0.1.0", "version: 0.1.1"))
    # A tool may keep the time of change, and the size is the same.
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    template(CHART, ALONE[CHART])
    assert len(calls) == 2


def test_a_refusal_is_shared_too(calls: list[str]) -> None:
    for _ in range(2):
        with pytest.raises(HelmError, match="persistance"):
            template(CHART, {**ALONE[CHART], "persistance": {}})
    assert len(calls) == 1
