"""What results look like: types that a format lacks, lists that share a counter."""

from collections.abc import Callable
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot
from coffea_shoppe_servicex import root_files
from coffea_shoppe_servicex.errors import TransformError
from coffea_shoppe_servicex.formats import Format
from coffea_shoppe_servicex.writers import RootWriter, counters_by_content
from servicex_helpers import columns, raw

COUNT = 40
COUNTS = np.arange(COUNT) % 4
LISTS = ak.unflatten(np.arange(COUNTS.sum()) * 1.0, COUNTS)
Deliver = Callable[..., list[str]]


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Events of which the first and last ten have no `x` above 0."""
    path = tmp_path_factory.mktemp("nano") / "nano.root"
    number = np.arange(COUNT)
    with uproot.recreate(path) as file:
        branches = {
            "event": number,
            "x": ((number >= 10) & (number < 30)).astype("i4"),
            "Jet": ak.zip({"pt": LISTS, "eta": LISTS * 0.1}),
            "other": LISTS[::-1],
            "nothing": number * 2,
        }
        file.mktree("Events", {name: ak.type(ak.Array(b)).content for name, b in branches.items()})
        file["Events"].extend(branches)
        file["Scalars"] = {"nJet": number, "Jet_id": number}
    return path


@pytest.fixture(autouse=True)
def chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(root_files, "_step", lambda *_: 10)


@pytest.fixture
def deliver(tmp_path: Path, nano: Path) -> Deliver:
    def delivered(selection: str, codegen: str = "uproot-raw") -> list[str]:
        """Return the branches of the tree that is written, after a comparison of its values."""
        arrays = columns(tmp_path, selection, nano, codegen=codegen, form="root-file")
        parquet = columns(tmp_path, selection, nano, codegen=codegen)
        for name in parquet.fields:
            assert arrays[name].tolist() == parquet[name].tolist(), name
        return sorted(arrays.fields)

    return delivered


NAMES = ["event", "nJet", "Jet_pt", "Jet_eta"]
PASSING = ["x", "x > 5", "x < 5", "event < 10", "event >= 30", "event == 15"]


@pytest.mark.parametrize("cut", PASSING)
@pytest.mark.parametrize("key", ["filter_name", "expressions"])
def test_lists_share_the_counter_that_they_have_in_the_input(
    deliver: Deliver, cut: str, key: str
) -> None:
    assert deliver(raw(treename="Events", cut=cut, **{key: NAMES})) == sorted(NAMES)


@pytest.mark.parametrize("cut", PASSING)
def test_all_branches_come_out_as_they_went_in(deliver: Deliver, cut: str, nano: Path) -> None:
    with uproot.open({nano: "Events"}) as tree:
        names = sorted(tree.keys())
    assert deliver(raw(treename="Events", cut=cut)) == names
    condition = f"(> (attr e '{cut}') 0)" if cut == "x" else "(> (attr e 'event') 100)"
    text = f"(call Where (call EventDataset 'x' 'Events') (lambda (list e) {condition}))"
    assert deliver(text, "uproot") == names


RECORD = "(dict (list {}) (list {}))"
SELECT = f"(call Select (call EventDataset 'x' 'Events') (lambda (list e) {RECORD}))"


@pytest.mark.parametrize(
    ("selection", "codegen", "names"),
    [
        # The counter of other lists, of which an empty chunk is no proof.
        (
            raw(
                treename="Events",
                expressions=["nJet", "Jet_high", "Jet_pt"],
                aliases={"Jet_high": "Jet_pt[Jet_pt > 20]"},
                cut="x",
            ),
            "uproot-raw",
            ["Jet_high", "Jet_pt", "nJet", "nJet_high"],
        ),
        (
            raw(
                treename="Events",
                expressions=["nJet", "Jet_pt"],
                aliases={"Jet_pt": "Jet_pt[:, :1]"},
            ),
            "uproot-raw",
            ["Jet_pt", "nJet", "nJet_pt"],
        ),
        (
            SELECT.format(
                "'nJet' 'Jet_pt'",
                "(attr e 'nJet') (call Where (attr e 'Jet_pt') (lambda (list j) (> j 20)))",
            ),
            "uproot",
            ["Jet_pt", "nJet", "nJet_pt"],
        ),
        # A column that has the name which a counter would get.
        (
            SELECT.format("'jets' 'njets'", "(attr e 'Jet_pt') (attr e 'event')"),
            "uproot",
            ["jets", "n_jets", "njets"],
        ),
        (
            SELECT.format("'njets' 'jets'", "(call Count (attr e 'Jet_pt')) (attr e 'Jet_pt')"),
            "uproot",
            ["jets", "n_jets", "njets"],
        ),
        (raw(treename="Scalars"), "uproot-raw", ["Jet_id", "nJet"]),
        *(
            (raw(treename="Events", expressions=names), "uproot-raw", names)
            for names in (["other", "nother"], ["nother", "other"])
        ),
        (raw(treename="Events", expressions=["Jet_pt"]), "uproot-raw", ["Jet_pt", "nJet_pt"]),
    ],
)
def test_other_lists_have_counters_of_their_own(
    deliver: Deliver, selection: str, codegen: str, names: list[str]
) -> None:
    assert deliver(selection, codegen) == sorted(names)


@pytest.mark.parametrize("codegen", ["uproot-raw", "uproot"])
@pytest.mark.parametrize("form", ["parquet", "root-file", "root-rntuple"])
def test_files_without_survivors_look_as_the_others(
    tmp_path: Path, nano: Path, codegen: str, form: Format
) -> None:
    def selection(cut: str) -> str:
        if codegen == "uproot-raw":
            texts = [*NAMES, "sum(Jet_pt)", "Jet_pt[Jet_pt > 20]", "num(other)"]
            return raw(treename="Events", expressions=texts, cut=cut)
        where = f"(call Where (call EventDataset 'x' 'Events') (lambda (list e) ({cut})))"
        values = "(attr e 'nJet') (attr e 'Jet_pt') (call Sum (attr e 'Jet_pt'))"
        record = f"(dict (list 'n' 'pt' 'sum') (list {values}))"
        return f"(call Select {where} (lambda (list e) {record}))"

    none, some = (
        ("event < 0", "event >= 0")
        if codegen == "uproot-raw"
        else ("< (attr e 'event') 0", ">= (attr e 'event') 0")
    )
    empty = columns(tmp_path, selection(none), nano, codegen=codegen, form=form)
    full = columns(tmp_path, selection(some), nano, codegen=codegen, form=form)
    assert (len(empty), len(full)) == (0, COUNT)
    assert str(empty.type).partition("*")[2] == str(full.type).partition("*")[2]


REMEDIES = {"root-file": "request parquet or root-rntuple", "root-rntuple": "request parquet"}


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("max(Jet_pt)", r"'max\(Jet_pt\)' \(\?float64\) .*or fill_none\(max\(Jet_pt\), …\)"),
        ("mask(event, x > 0)", r"\(\?int64\) is not a type of a TTree: .*fill_none\(mask"),
        ("singletons(mask(Jet_pt, x > 0), axis=0)", r"\(var \* var \* float64\) is not a type"),
    ],
)
def test_a_type_that_a_ttree_lacks_is_named_with_a_remedy(
    tmp_path: Path, nano: Path, expression: str, message: str
) -> None:
    selection = raw(treename="Events", expressions=["event", expression])
    for form in ("parquet", "root-rntuple"):
        assert expression in columns(tmp_path, selection, nano, form=form).fields
    with pytest.raises(TransformError, match=message) as refusal:
        columns(tmp_path, selection, nano, form="root-file")
    assert "request parquet or root-rntuple" in str(refusal.value)


def test_a_type_that_parquet_lacks_is_named_with_a_remedy(tmp_path: Path, nano: Path) -> None:
    selection = raw(treename="Events", expressions=["event", "where(x > 0, event, zip([x]))"])
    with pytest.raises(TransformError, match=r"\(union\[.* is not a type of parquet: leave it out"):
        columns(tmp_path, selection, nano)


def test_counters_of_rows_that_are_all_there(tmp_path: Path) -> None:
    jets = ak.Array([[1.0], [], [2.0, 3.0]])
    branches = {"nJet": ak.num(jets), "Jet_pt": jets, "nMu": ak.Array([5, 6, 7]), "Mu_pt": jets}
    rows = ak.zip(branches, depth_limit=1)
    counters = counters_by_content(rows)
    assert counters == {"Jet_pt": "nJet"}
    writer = RootWriter(tmp_path / "out.root", "mktree")
    writer.extend("t", rows, counters)
    writer.close()
    with uproot.open({tmp_path / "out.root": "t"}) as tree:
        assert set(tree.keys()) == {"nJet", "Jet_pt", "nMu", "Mu_pt", "nMu_pt"}
        assert tree.arrays(rows.fields).tolist() == rows.tolist()
