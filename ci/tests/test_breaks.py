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
    assert f"def {test.partition('[')[0]}" in (ROOT / path).read_text()


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


def test_there_are_breaks_of_each_kind() -> None:
    names = {entry.name for entry in TABLE}
    assert {"hop", "right", "policy", "upgrade", "schema"} <= names
    assert len(names) >= 8
