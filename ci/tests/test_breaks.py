from pathlib import Path

import pytest
from shoppe_ci import breaks
from shoppe_ci.errors import ShoppeError
from shoppe_ci.paths import ROOT

TABLE = breaks.read_table()


@pytest.mark.parametrize("entry", TABLE, ids=[entry.name for entry in TABLE])
def test_a_break_fits_the_tree(entry: breaks.Break, tmp_path: Path) -> None:
    copy = tmp_path / entry.file
    copy.parent.mkdir(parents=True)
    copy.write_text((ROOT / entry.file).read_text())
    breaks.apply(entry, tmp_path)
    assert copy.read_text() != (ROOT / entry.file).read_text()
    path, _, test = entry.test.partition("::")
    content = (ROOT / path).read_text()
    assert f"def {test.partition('[')[0]}" in content
    assert not entry.part or f'mark.part("{entry.part}")' in content


def test_a_break_that_does_not_fit_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("twice twice")
    entry = breaks.Break("any", "", "file", "twice", "once", "test")
    with pytest.raises(ShoppeError, match="'any' does not fit: file contains 'twice' 2 times"):
        breaks.apply(entry, tmp_path)


def test_breaks_are_chosen_by_name() -> None:
    assert [entry.name for entry in breaks.choose(["policy", "hop"], TABLE)] == ["policy", "hop"]
    assert breaks.choose([], TABLE) == TABLE
    with pytest.raises(ShoppeError, match="there is no break nothing"):
        breaks.choose(["nothing"], TABLE)


def test_a_test_of_a_part_is_run_in_it() -> None:
    """pytest collects a test of a part in that part only."""

    def command(test: str, part: str = "") -> list[str]:
        return breaks.Break("any", "", "file", "a", "b", test, part).command()

    cluster = ["--keep", "--cluster", breaks.CLUSTER]
    story, unit = "e2e-tests/suites/test_x.py", "ci/tests/test_x.py::test_y"
    start = ["test", "--unchecked"]
    assert command(story) == [*start, *cluster, "--", story, "-n1"]
    assert command(unit) == [*start, "--fast", "--", unit, "-n1"]
    assert command(story, "faults") == [*start, "--all", "faults", *cluster, "--", story, "-n1"]
    assert command(unit, "properties") == [*start, "--all", "properties", "--", unit, "-n1"]


def test_there_are_breaks_of_each_kind() -> None:
    names = {entry.name for entry in TABLE}
    assert {"hop", "right", "policy", "upgrade", "schema"} <= names
    assert len(names) >= 8
