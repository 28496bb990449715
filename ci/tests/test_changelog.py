"""The check of the changelog's fragments, with the project's configuration."""

from pathlib import Path

import pytest
from shoppe_ci import changelog
from shoppe_ci.errors import ShoppeError
from shoppe_ci.paths import ROOT


def project(folder: Path, fragment: str) -> Path:
    (folder / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    (folder / "CHANGELOG.md").write_text("# Changelog\n")
    (folder / "changelog.d").mkdir()
    (folder / "changelog.d" / fragment).write_text("A change.\n")
    return folder


@pytest.mark.parametrize("kind", ["added", "changed", "fixed", "removed"])
def test_a_fragment_of_each_kind_is_accepted(tmp_path: Path, kind: str) -> None:
    changelog.check(project(tmp_path, f"+some-change.{kind}.md"))


@pytest.mark.parametrize(
    "name", ["+some-change.md", "+some-change.improved.md", "19.fixed.md", "some-change.fixed.md"]
)
def test_a_fragment_with_another_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ShoppeError) as refused:
        changelog.check(project(tmp_path, name))
    assert name in refused.value.problem
    assert "+NAME.KIND.md" in refused.value.remedy
