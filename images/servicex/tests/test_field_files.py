"""Files of each structure of the field: equal to uproot in each format, or refused by name.

A generator writes the files; `ci/shoppe fields` runs the same comparison on public ones.
"""

import csv
import json
import os
import re
from dataclasses import fields, replace
from pathlib import Path

import awkward as ak
import field_comparison
import numpy as np
import pytest
from coffea_shoppe_servicex.formats import Format
from field_comparison import (
    FORMS,
    Expected,
    Listed,
    answer_of,
    compare,
    difference,
    digest,
    read_list,
    sha256_of,
    trees,
)
from field_generator import STRUCTURES

REFUSED: dict[tuple[str, str], set[str]] = {
    ("vectors-of-vectors", "root-file"): {"vv"},
    ("vectors-of-vectors-of-vectors", "root-file"): {"vvv"},
    ("vectors-of-texts", "root-file"): {"vs"},
    ("rntuple-names-with-lengths", "root-file"): {"v[2]", "x[12]"},
    ("rntuple-lists-of-lists", "root-file"): {"vv", "vvv"},
    ("rntuple-lists-of-fixed-arrays", "root-file"): {"v"},
    ("rntuple-records-beside-their-names", "root-file"): {"p"},
    ("rntuple-records-of-records", "root-file"): {"a"},
    ("rntuple-records-of-lists", "root-file"): {"a"},
    ("rntuple-options", "root-file"): {"x", "n"},
    ("rntuple-options-of-lists", "root-file"): {"x"},
    ("rntuple-lists-of-options", "root-file"): {"x"},
    ("rntuple-lists-of-texts", "root-file"): {"s"},
    **{("rntuple-variants", form): {"u"} for form in FORMS},
}
"""Columns that a format cannot hold, by structure and format."""
UNREADABLE = {"unknown-classes": {"obj", "ptr"}}
"""Branches that uproot cannot read, either."""


@pytest.mark.parametrize("name", STRUCTURES)
def test_delivery_of_each_structure(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.root"
    STRUCTURES[name](path)
    expected = trees(path)
    assert expected, "no tree"
    unreadable = {branch for tree in expected.values() for branch in tree.unreadable}
    assert unreadable == UNREADABLE.get(name, set())
    for outcome in compare(path, expected):
        place = f"{outcome.tree}, {outcome.form}: {outcome.reason}"
        known = REFUSED.get((name, outcome.form), set())
        assert set(outcome.refused) == known, (place, outcome.refused)
        everything = set(expected[outcome.tree].arrays) == known
        assert outcome.verdict == ("refused" if everything else "equal"), place


def test_there_is_a_structure_for_each_public_file() -> None:
    rows = read_list()
    assert len(rows) >= 150
    assert len({row.sha256 for row in rows}) == len(rows)
    assert {row.structure for row in rows} <= set(STRUCTURES)
    for row in rows:
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", row.repository), row
        assert re.fullmatch(r"[0-9a-f]{64}", row.sha256), row
        assert re.fullmatch(r"[0-9a-f]{64}", row.answer), row


def test_structures_are_many_and_differ(tmp_path: Path) -> None:
    assert len(STRUCTURES) >= 60


# The comparison itself.


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (np.arange(3), np.arange(3.0)),
        (np.arange(3), np.array([0, 1, 3])),
        (np.array([0.0]), np.array([-0.0])),
        (ak.Array([[1], [2, 3]]), ak.Array([[1, 2], [3]])),
        (ak.Array([1, None]), ak.Array([None, 1])),
        (ak.Array([[], [1.5]]), ak.Array([None, [1.5]])),
        (ak.Array(["a", "bc"]), ak.Array(["ab", "c"])),
        (ak.Array([{"x": 1}]), ak.Array([{"y": 1}])),
        (ak.Array([{"x": 1, "y": 2}]), ak.Array([{"x": 2, "y": 1}])),
    ],
)
def test_other_values_have_another_digest(first: object, second: object) -> None:
    assert digest(ak.Array(first)) != digest(ak.Array(second))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (np.array([np.nan, 1.0]), np.array([np.nan, 1.0])),
        (np.arange(6).reshape(3, 2), ak.Array([[0, 1], [2, 3], [4, 5]])),
        (ak.Array([[1], [2, 3]])[::-1], ak.Array([[2, 3], [1]])),
        (ak.Array([1, None, 3])[[0, 1]], ak.Array([1, None])),
        (ak.mask(ak.Array([1, 2]), [True, False]), ak.Array([1, None])),
        (ak.Array([[]]), ak.Array([[1.0]])[:, :0]),
    ],
)
def test_equal_values_have_one_digest_however_they_are_stored(
    first: object, second: object
) -> None:
    assert digest(ak.Array(first)) == digest(ak.Array(second))


EXPECTED = Expected(2, {"x": ak.Array([1, 2]), "Jet/pt": ak.Array([[1.0], []])})


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"x": [1, 2], "pt": [[1.0], []]}, ""),
        ({"x": [1, 2], "Jet/pt": [[1.0], []]}, ""),
        ({"x": [1, 3], "pt": [[1.0], []]}, "'x': entry 1 is 3, uproot reads 2"),
        ({"x": [1], "pt": [[1.0], []]}, "'x': 1 entries, uproot reads 2"),
        ({"x": [1.0, 2.0], "pt": [[1.0], []]}, "'x': entry 0 is 1.0, uproot reads 1"),
        ({"x": [1, 2]}, "'Jet/pt' is not delivered"),
        ({"x": [1, 2], "pt": [[1.0], []], "y": [1, 2]}, "'y' is delivered, and no branch"),
        ({"x": [1, 2], "pt": [[1.0], []], "npt": [1, 0]}, "'npt' is delivered, and no branch"),
    ],
)
def test_a_difference_is_named(columns: dict[str, list[object]], problem: str) -> None:
    delivered = {name: ak.Array(values) for name, values in columns.items()}
    assert difference(EXPECTED, delivered, set(), "parquet").startswith(problem)
    if not problem:
        assert difference(EXPECTED, delivered, set(), "parquet") == ""


def test_a_counter_of_a_ttree_must_count() -> None:
    lists = {"x": ak.Array([1, 2]), "pt": ak.Array([[1.0], []])}
    right = lists | {"npt": ak.Array([1, 0])}
    assert difference(EXPECTED, right, set(), "root-file") == ""
    wrong = lists | {"npt": ak.Array([1, 1])}
    assert "'npt' is delivered" in difference(EXPECTED, wrong, set(), "root-file")


# The list and the command.


@pytest.fixture
def listed(tmp_path: Path) -> tuple[Path, Path, Listed]:
    """A folder with a file below it, a list that names the file, and its row."""
    path = tmp_path / "clone" / "tests" / "a.root"
    path.parent.mkdir(parents=True)
    STRUCTURES["lists"](path)
    row = Listed("owner/name", "tests/a.root", sha256_of(path), answer_of(trees(path)), "lists")
    return tmp_path / "clone", write_list(tmp_path / "list.csv", row), row


def write_list(path: Path, *rows: Listed) -> Path:
    names = [each.name for each in fields(Listed)]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: getattr(row, name) for name in names} for row in rows)
    return path


def lines(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[dict[str, object]]:
    field_comparison.main([str(argument) for argument in arguments])
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_the_listed_files_of_a_folder_are_compared(
    listed: tuple[Path, Path, Listed], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, table, _ = listed
    (folder / "other.root").write_bytes(b"not listed")
    counts, following, *outcomes = lines(capsys, folder, "--list", table)
    assert counts == {"listed": 1, "present": 1}
    assert following == {"next": "owner/name/tests/a.root"}
    assert [(each["form"], each["verdict"]) for each in outcomes] == [
        (form, "equal") for form in FORMS
    ]


def test_another_answer_of_uproot_is_wrong(
    listed: tuple[Path, Path, Listed], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder, _, row = listed
    table = write_list(tmp_path / "changed.csv", replace(row, answer="0" * 64))
    _, _, first, *others = lines(capsys, folder, "--list", table)
    assert (first["verdict"], first["form"]) == ("wrong", "uproot")
    assert first["reason"] == "uproot reads other values than the list says"
    assert {each["verdict"] for each in others} == {"equal"}


def test_rows_for_new_files_are_printed(
    listed: tuple[Path, Path, Listed], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _, row = listed
    field_comparison.main([str(folder), "--rows", "owner/name"])
    expected = f"owner/name,tests/a.root,{row.sha256},{row.answer},\n"
    assert capsys.readouterr().out == expected


REAL = ("NanoAODv5_sample.root", "nanoAOD_2015_CMS_Open_Data_ttbar.root")


@pytest.mark.reference
@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("form", FORMS)
def test_delivery_of_real_nanoaod(name: str, form: Format) -> None:
    path = Path(os.environ["SHOPPE_REFERENCE_DATA"]) / name
    for outcome in compare(path, trees(path), [form]):
        assert outcome.verdict == "equal", (outcome.tree, outcome.reason)
        assert not outcome.refused, outcome.tree
