"""Branches within branches, and fields of RNTuples: delivered and named as uproot does."""

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from coffea_shoppe_servicex import transform
from coffea_shoppe_servicex.codegens.uproot_raw import UprootRaw
from coffea_shoppe_servicex.errors import TransformError
from servicex_helpers import columns, raw

RECORDED = Path(__file__).parent / "recorded"
MUONS = RECORDED / "uproot-issue443.root"
SPLIT = RECORDED / "uproot-small-evnt-tree-fullsplit.root"
SELECT = "(call Select (call EventDataset 'x' '{}') (lambda (list e) {}))"


def as_uproot(path: Path, tree: str, names: list[str]) -> dict[str, Any]:
    """Return branches read one by one; their names may be paths."""
    with uproot.open({path: tree}) as branches:
        return {name: branches[name].array() for name in names}


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({"filter_name": "I32"}, ["I32"]),
        ({"filter_name": ["evt/I32"]}, ["I32"]),
        ({"filter_name": ["/evt/I32"]}, ["I32"]),
        ({"filter_name": ["I*"]}, ["I16", "I32", "I64"]),
        ({"filter_name": ["evt/I*"]}, ["I16", "I32", "I64"]),
        ({"filter_name": "/i[0-9]+/i"}, ["I16", "I32", "I64"]),
        ({"filter_typename": "float"}, ["F32"]),
        ({"filter_typename": "/float|double/"}, ["F32", "F64"]),
        ({"filter_name": "SliceI*", "filter_typename": "int64*"}, ["SliceI64"]),
    ],
)
def test_filters_find_branches_within_branches(
    tmp_path: Path, filters: dict[str, Any], names: list[str]
) -> None:
    delivered = columns(tmp_path, raw(treename="tree", **filters), SPLIT)
    with uproot.open({SPLIT: "tree"}) as tree:
        assert set(delivered.fields) == set(tree.arrays(**filters).fields)
    assert set(delivered.fields) >= set(names)
    for name, array in as_uproot(SPLIT, "tree", names).items():
        assert delivered[name].tolist() == array.tolist(), name


def test_all_branches_are_those_that_uproot_reads(tmp_path: Path) -> None:
    delivered = columns(tmp_path, raw(treename="tree"), SPLIT)
    with uproot.open({SPLIT: "tree"}) as tree:
        expected = tree.arrays()
    assert len(expected.fields) > 30
    assert delivered.fields == expected.fields
    assert delivered.tolist() == expected.tolist()


def test_columns_of_the_same_name_are_named_by_their_paths(tmp_path: Path) -> None:
    delivered = columns(tmp_path, raw(treename="muonDataTree", filter_name="*/f[XY]"), MUONS)
    with uproot.open({MUONS: "muonDataTree"}) as tree:
        paths = [path for path in tree.keys() if path.endswith(("/fX", "/fY"))]  # noqa: SIM118
    assert set(delivered.fields) == set(paths)
    for path, array in as_uproot(MUONS, "muonDataTree", paths).items():
        assert delivered[path].tolist() == array.tolist(), path
    one = columns(tmp_path, raw(treename="muonDataTree", filter_name="trkInnerPos/f[XY]"), MUONS)
    assert one.fields == ["fX", "fY"]


def test_a_record_is_read_as_a_whole_where_its_name_is_given(tmp_path: Path) -> None:
    delivered = columns(tmp_path, raw(treename="muonDataTree", filter_name="trkInnerPos"), MUONS)
    with uproot.open({MUONS: "muonDataTree"}) as tree:
        expected = tree.arrays(filter_name="trkInnerPos")
    assert delivered.fields == expected.fields == ["trkInnerPos"]
    assert delivered.tolist() == expected.tolist()


def test_all_branches_of_a_tree_with_repeated_names(tmp_path: Path) -> None:
    delivered = columns(tmp_path, raw(treename="muonDataTree"), MUONS)
    with uproot.open({MUONS: "muonDataTree"}) as tree:
        assert "fX" not in delivered.fields
        for name in delivered.fields:
            assert delivered[name].tolist() == tree[name].array().tolist(), name


@pytest.mark.parametrize("name", ["fW", "trkInnerPos/fW"])
def test_a_name_that_no_branch_has_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(TransformError, match=f"has no branch '{name}'"):
        columns(tmp_path, raw(treename="muonDataTree", filter_name=[name, "fX"]), MUONS)


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ("(attr e 'I32')", "I32"),
        ("(subscript e 'I32')", "I32"),
        ("(subscript e 'evt/I32')", "evt/I32"),
        ("(call Count (attr e 'SliceI64'))", None),
    ],
)
def test_funcadl_reads_branches_within_branches(
    tmp_path: Path, body: str, name: str | None
) -> None:
    delivered = columns(tmp_path, SELECT.format("tree", body), SPLIT, codegen="uproot")
    with uproot.open({SPLIT: "tree"}) as tree:
        expected = tree[name].array() if name else ak.num(tree["SliceI64"].array())
    assert delivered.value.tolist() == expected.tolist()


def test_funcadl_takes_whole_events_with_branches_within_branches(tmp_path: Path) -> None:
    text = "(call Where (call EventDataset 'x' 'tree') (lambda (list e) (> (attr e 'I32') 5)))"
    delivered = columns(tmp_path, text, SPLIT, codegen="uproot")
    with uproot.open({SPLIT: "tree"}) as tree:
        expected = tree.arrays(cut="I32 > 5")
    assert 0 < len(delivered) < 100
    assert delivered.tolist() == expected.tolist()


def test_funcadl_refuses_a_name_that_two_branches_have(tmp_path: Path) -> None:
    text = SELECT.format("muonDataTree", "(attr e 'fX')")
    with pytest.raises(TransformError, match=r"'fX' is ambiguous .*: give 'trkInnerPos/fX', "):
        columns(tmp_path, text, MUONS, codegen="uproot")
    record = SELECT.format("muonDataTree", "(attr (attr e 'trkInnerPos') 'fX')")
    delivered = columns(tmp_path, record, MUONS, codegen="uproot")
    with uproot.open({MUONS: "muonDataTree"}) as tree:
        assert delivered.value.tolist() == tree["trkInnerPos/fX"].array().tolist()


FIELDS = {
    "x": ak.Array(np.arange(10) * 1.0),
    "jet": ak.zip({"pt": ak.Array([[n * 1.0] * (n % 3) for n in range(10)])}),
    "point": ak.zip({"x": ak.Array(np.arange(10)), "y": ak.Array(np.arange(10) * 2)}),
}


@pytest.fixture(scope="module")
def rntuple(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rntuple") / "fields.root"
    with uproot.recreate(path) as file:
        file["t"] = ak.zip(FIELDS, depth_limit=1)
    return path


@pytest.mark.parametrize(
    ("body", "value"),
    [
        ("(attr e 'x')", FIELDS["x"]),
        ("(subscript e 'point.y')", FIELDS["point"].y),
        ("(attr (attr e 'point') 'y')", FIELDS["point"].y),
        ("(call Sum (subscript e 'jet.pt'))", ak.sum(FIELDS["jet"].pt, axis=1)),
        ("(call Count (attr e 'jet'))", ak.num(FIELDS["jet"])),
        (
            "(call Select (attr e 'jet') (lambda (list j) (* (attr j 'pt') 2)))",
            FIELDS["jet"].pt * 2,
        ),
    ],
)
def test_funcadl_reads_an_rntuple(tmp_path: Path, rntuple: Path, body: str, value: Any) -> None:
    delivered = columns(tmp_path, SELECT.format("t", body), rntuple, codegen="uproot")
    assert delivered.value.tolist() == value.tolist()


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, FIELDS),
        ({"filter_name": ["x"]}, {"x": FIELDS["x"]}),
        ({"filter_name": ["p*"]}, {"point": FIELDS["point"]}),
        ({"filter_name": "point.y"}, {"point.y": FIELDS["point"].y}),
        ({"expressions": ["point.y + x"]}, {"point.y + x": FIELDS["point"].y + FIELDS["x"]}),
        ({"expressions": ["jet.pt"]}, {"jet.pt": FIELDS["jet"].pt}),
    ],
)
def test_fields_of_an_rntuple(
    tmp_path: Path, rntuple: Path, query: dict[str, Any], expected: dict[str, Any]
) -> None:
    delivered = columns(tmp_path, raw(treename="t", **query), rntuple)
    assert delivered.tolist() == ak.zip(expected, depth_limit=1).tolist()


def test_two_fields_are_read_without_looking_at_all_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uproot would look through all fields once for those below each field."""
    path = tmp_path / "many.root"
    with uproot.recreate(path) as file:
        file["t"] = {f"x{number}": np.arange(3) for number in range(100)}
    visited = []
    fields = uproot.behaviors.RNTuple.HasFields.fields.fget

    def counted(holder: Any) -> Any:
        if holder._fields is None:
            visited.append(holder)
        return fields(holder)

    monkeypatch.setattr(uproot.behaviors.RNTuple.HasFields, "fields", property(counted))
    query = UprootRaw.parse(raw(treename="t", filter_name=["x3", "x4"]), "parquet")
    target = tmp_path / "out"
    transform.transform(query, [str(path)], target, "parquet", local_files=True)
    assert ak.from_parquet(target).fields == ["x3", "x4"]
    assert len(visited) < 10
