"""Branches that uproot cannot read in a healthy file: named, and no reason for a retry."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import awkward as ak
import isal.isal_zlib  # noqa: F401  (uproot expects that somebody has imported it)
import numpy as np
import pytest
import uproot
from coffea_shoppe_servicex import root_files
from coffea_shoppe_servicex.errors import TransformError, UnreadableError
from field_generator import NUMBER, STRUCTURES, lists
from servicex_helpers import columns, raw
from split_trees import Branch, vector, write
from uproot.behaviors.TBranch import TBranch
from uproot.interpretation.jagged import AsJagged
from uproot.interpretation.numerical import AsDouble32, AsFloat16


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A tree with a readable branch, and two of classes that are no arrays."""
    STRUCTURES["unknown-classes"](tmp_path / "a.root")
    return tmp_path / "a.root"


@pytest.fixture
def truncated(tmp_path: Path) -> Path:
    """A tree with vectors whose bytes are not those of vectors."""
    branches = [
        Branch("x", NUMBER),
        Branch("v", [b"\x40\x00" for _ in NUMBER], class_name="vector<vector<float> >"),
        Branch("w", vector("f4", lists().tolist()), class_name="vector<float>"),
    ]
    return write(tmp_path / "b.root", "tree", branches)


def test_all_branches_are_those_that_are_arrays(tmp_path: Path, path: Path) -> None:
    delivered = columns(tmp_path, raw(treename="tree"), path)
    assert delivered.fields == ["x"]
    assert delivered.x.tolist() == NUMBER.tolist()


@pytest.mark.parametrize("name", ["obj", "ptr"])
def test_a_branch_that_is_no_array_is_named(tmp_path: Path, path: Path, name: str) -> None:
    with pytest.raises(TransformError, match=f"'{name}' .* cannot be a column") as refused:
        columns(tmp_path, raw(treename="tree", filter_name=[name, "x"]), path)
    assert refused.value.reason == "UnreadableBranch"
    with pytest.raises(TransformError, match="has no branch 'objects'"):
        columns(tmp_path, raw(treename="tree", filter_name=["objects", "x"]), path)


@pytest.mark.parametrize("name", ["obj", "ptr"])
def test_an_expression_of_no_array_is_named(tmp_path: Path, path: Path, name: str) -> None:
    with pytest.raises(TransformError, match=f"'{name}' .* cannot be read") as refused:
        columns(tmp_path, raw(treename="tree", expressions=["x", name]), path)
    assert refused.value.reason == "UnreadableBranch"
    assert not isinstance(refused.value, UnreadableError)


@pytest.mark.parametrize("kind", [AsFloat16, AsDouble32])
def test_a_branch_that_uproot_misreads_is_named(
    tmp_path: Path, truncated: Path, monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    """As in go-hep's ndim-slice.root: each time other values, of what else is in memory."""
    assert not root_files.is_misread(AsJagged(kind(0.0, 0.0, 12)))
    assert not root_files.is_misread(kind(0.0, 0.0, 12, to_dims=(24,)))
    assert columns(tmp_path, raw(treename="tree", filter_name=["x", "w"]), truncated).fields
    misread = AsJagged(kind(0.0, 0.0, 12, to_dims=(24,)))
    own = TBranch.interpretation.fget

    def interpretation(branch: Any) -> Any:
        return misread if branch.name == "w" else own(branch)

    monkeypatch.setattr(TBranch, "interpretation", property(interpretation))
    for query, words in (
        ({"filter_name": ["x", "w"]}, "'w' .* cannot be a column"),
        ({"expressions": ["x", "w"]}, "'w' .* cannot be read: uproot misreads lists"),
    ):
        with pytest.raises(TransformError, match=words) as refused:
            columns(tmp_path, raw(treename="tree", **query), truncated)
        assert refused.value.reason == "UnreadableBranch"
    assert columns(tmp_path, raw(treename="tree", filter_name="x"), truncated).fields == ["x"]


def test_values_that_cannot_be_read_name_their_branch(tmp_path: Path, truncated: Path) -> None:
    with pytest.raises(TransformError, match=r"'v' .* cannot be read.*; leave it out") as refused:
        columns(tmp_path, raw(treename="tree"), truncated)
    assert refused.value.reason == "UnreadableBranch"
    assert not isinstance(refused.value, UnreadableError)
    assert "origin" not in str(refused.value)
    delivered = columns(tmp_path, raw(treename="tree", filter_name=["x", "w"]), truncated)
    assert delivered.w.tolist() == lists().tolist()


@pytest.mark.parametrize("library", ["zlib", "isal"])
def test_damaged_numbers_may_be_read_elsewhere(
    tmp_path: Path, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uproot.compression._DecompressZLIB, "library", library)
    path = tmp_path / "c.root"
    with uproot.recreate(path, compression=uproot.ZLIB(1)) as file:
        file.mktree("t", {"x": "i8"})
        file["t"].extend({"x": np.arange(10_000)})
    with uproot.open({path: "t"}) as tree:
        seek = int(tree["x"].member("fBasketSeek")[0])
    content = bytearray(path.read_bytes())
    content[seek + 200 : seek + 400] = bytes(200)
    path.write_bytes(content)
    with pytest.raises(UnreadableError, match="is damaged"):
        columns(tmp_path, raw(treename="t"), path)


def test_fields_that_are_stored_as_objects_are_known_with_what_contains_them() -> None:
    role = uproot.const.RNTupleFieldRole
    parents = [(0, role.RECORD), (0, role.STREAMER), (2, role.LEAF), (3, role.RECORD)]
    parents += [(3, role.RECORD), (4, role.STREAMER)]
    records: Any = [
        SimpleNamespace(parent_field_id=parent, struct_role=each) for parent, each in parents
    ]
    assert root_files._streamed_fields(SimpleNamespace(field_records=records)) == {0, 1, 3, 4, 5}
    assert root_files._streamed_fields(SimpleNamespace(field_records=records[2:3])) == set()


def test_fields_with_dots_in_their_names(tmp_path: Path) -> None:
    path = tmp_path / "d.root"
    fields = {"Jet.pt": NUMBER * 1.5, "Jet": ak.zip({"pt": NUMBER * 2, "a/b": NUMBER})}
    with uproot.recreate(path) as file:
        file.mkrntuple("t", {name: ak.Array(array).type.content for name, array in fields.items()})
        file["t"].extend(fields)
    delivered = columns(tmp_path, raw(treename="t"), path)
    assert delivered["Jet.pt"].tolist() == (NUMBER * 1.5).tolist()
    assert delivered["Jet"].tolist() == fields["Jet"].tolist()
    alone = columns(tmp_path, raw(treename="t", filter_name=["Jet.pt"]), path)
    assert alone["Jet.pt"].tolist() == (NUMBER * 1.5).tolist()
