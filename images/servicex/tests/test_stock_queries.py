"""Queries as the documentation of the stock client describes them, and what is near them."""

import base64
import inspect
import json
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from coffea_shoppe_servicex import transform
from coffea_shoppe_servicex.codegen import Size, Source
from coffea_shoppe_servicex.codegens import Codegens
from coffea_shoppe_servicex.codegens.uproot_raw import UprootRaw
from coffea_shoppe_servicex.errors import QueryError, TransformError
from servicex import query as stock
from servicex_helpers import columns, raw

CODEGENS = Codegens.load()
COUNT = 60
NUMBER = np.arange(COUNT)
JETS = ak.Array([[20e3 * (1 + (n + i) % 4) for i in range(n % 6)] for n in NUMBER])
ELECTRONS = ak.Array([[1e3 * (n + i) for i in range(n % 3)] for n in NUMBER])


@pytest.fixture(scope="module")
def ntuple(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ntuple with the branches and objects that the documentation's examples name."""
    path = tmp_path_factory.mktemp("ntuple") / "ntuple.root"
    with uproot.recreate(path) as file:
        branches = {
            "runNumber": NUMBER + 300_000,
            "lbn": NUMBER // 10,
            "mu": NUMBER * 0.5,
            "mu_actual": NUMBER * 0.25,
            "jet_pt_NOSYS": JETS,
            "el_pt_NOSYS": ELECTRONS,
        }
        file.mktree("reco", {name: ak.type(ak.Array(b)).content for name, b in branches.items()})
        file["reco"].extend(branches)
        file["CutBookkeeper_1_NOSYS"] = np.histogram(NUMBER, bins=3)
        file["CutBookkeeper_2_NOSYS"] = np.histogram(NUMBER, bins=4)
        file["cflow_mu"] = np.histogram(NUMBER, bins=5)
        file["other"] = np.histogram(NUMBER, bins=6)
        file["folder/cflow_el"] = np.histogram(NUMBER, bins=7)
        file["metadata"] = "made for a test"
    return path


def result(folder: Path, selection: str, path: Path, codegen: str = "uproot-raw") -> Any:
    """Return the file that a transform writes, opened."""
    target = folder / "out"
    query = CODEGENS.parse(codegen, selection, "root-file")
    transform.transform(query, [str(path)], target, "root-file", local_files=True)
    return uproot.open(target)


def selection(entries: Any) -> str:
    """Return what the stock client submits for an uproot-raw query."""
    return str(stock.UprootRaw(entries).generate_selection_string())


DOCUMENTED = [
    {
        "treename": "reco",
        "filter_name": ["/mu.*/", "runNumber", "lbn", "jet_pt_*"],
        "cut": "(count_nonzero(jet_pt_NOSYS>40e3)>=3)",
    },
    {"copy_histograms": ["CutBookkeeper*", "/cflow.*/", "metadata", "listOfSystematics"]},
]


def test_columns_and_histograms_by_glob_and_regular_expression(
    tmp_path: Path, ntuple: Path
) -> None:
    with result(tmp_path, selection(DOCUMENTED), ntuple) as file, uproot.open(ntuple) as source:
        names = set(file.keys(cycle=False, filter_classname=["TH1*", "TObjString"]))
        assert names == {"CutBookkeeper_1_NOSYS", "CutBookkeeper_2_NOSYS", "cflow_mu", "metadata"}
        for name in names - {"metadata"}:
            assert file[name].values().tolist() == source[name].values().tolist()
        assert str(file["metadata"]) == "made for a test"
        delivered = file["reco"].arrays()
        passes = ak.sum(JETS > 40e3, axis=1) >= 3
        expected = source["reco"].arrays()[passes]
    names = {"runNumber", "lbn", "mu", "mu_actual", "jet_pt_NOSYS"}
    assert names <= set(delivered.fields)
    assert "el_pt_NOSYS" not in delivered.fields
    assert 0 < len(delivered) < COUNT
    for name in names:
        assert delivered[name].tolist() == expected[name].tolist()


@pytest.mark.parametrize(
    ("names", "copied"),
    [
        ("other", {"other"}),
        ("other;1", {"other"}),
        (["other", "absent"], {"other"}),
        ("absent", set()),
        ("absent*", set()),
        ("/CFLOW.*/i", {"cflow_mu"}),
        ("folder/cflow_el", {"folder/cflow_el"}),
        ("folder/*", {"folder/cflow_el"}),
        ("/.*cflow.*/", {"cflow_mu", "folder/cflow_el"}),
        (["cflow*", "cflow_mu"], {"cflow_mu"}),
    ],
)
def test_which_objects_are_copied(
    tmp_path: Path, ntuple: Path, names: Any, copied: set[str]
) -> None:
    entries = [{"copy_histograms": names}, {"treename": "reco", "expressions": ["lbn"]}]
    with result(tmp_path, selection(entries), ntuple) as file:
        assert set(file.keys(cycle=False, filter_classname="TH1*")) == copied
        assert file["reco"].num_entries == COUNT


def test_patterns_copy_no_trees_and_no_folders(tmp_path: Path, ntuple: Path) -> None:
    entries = [{"copy_histograms": "*"}, {"treename": "reco", "expressions": ["lbn"]}]
    with result(tmp_path, selection(entries), ntuple) as file:
        assert file["reco"].keys() == ["lbn"]
        assert file["folder/cflow_el"].values().sum() == COUNT


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            {"treename": "reco", "filter_nam": "mu"},
            "filter_nam: a query has no such key; is it 'filter_name'?",
        ),
        ({"treename": "reco", "xyz": 1}, "xyz: a query has no such key; the keys are treename, "),
        ({"filter_name": "mu"}, "treename: Field required"),
    ],
)
def test_an_invalid_key_of_a_query_is_named(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(QueryError) as refused:
        UprootRaw.parse(json.dumps([entry]), "root-file")
    assert str(refused.value).startswith(message)


@pytest.mark.parametrize("field", ["filter_name", "filter_typename", "copy_histograms"])
@pytest.mark.parametrize("pattern", ["/mu(/", "/a/L"])
def test_a_bad_regular_expression_is_refused(field: str, pattern: str) -> None:
    tree = {} if field == "copy_histograms" else {"treename": "reco"}
    for good in ("/mu.*/", "/MU[0-9]+/i", "mu(", "mu*"):
        UprootRaw.parse(json.dumps([{**tree, field: good}]), "root-file")
    with pytest.raises(QueryError, match=f"{field}.* is not a regular expression"):
        UprootRaw.parse(json.dumps([{**tree, field: pattern}]), "root-file")


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trees") / "trees.root"
    with uproot.recreate(path) as file:
        file["nominal"] = {"x": NUMBER}
        file["up"] = {"x": NUMBER * 2}
    return path


ABSENT_IS_EMPTY = {"fail_on_missing_trees": False}
ABSENT_FAILS = {"fail_on_missing_trees": True}


def queries(names: Any, **options: Any) -> list[list[dict[str, Any]]]:
    """Return a query of a list of trees, and the same as a list of queries of a tree each."""
    return [
        [{"treename": names, "expressions": ["x"], **options}],
        [{"treename": name, "expressions": ["x"], **options} for name in names],
    ]


@pytest.mark.parametrize("form", [0, 1])
@pytest.mark.parametrize(
    ("names", "options", "delivered"),
    [
        (["nominal", "up"], {}, {"nominal", "up"}),
        (["nominal", "up"], ABSENT_FAILS, {"nominal", "up"}),
        (["nominal", "down"], {}, {"nominal"}),
        (["nominal", "down"], ABSENT_IS_EMPTY, {"nominal"}),
        (["down"], ABSENT_IS_EMPTY, set()),
        (["down", "gone"], ABSENT_IS_EMPTY, set()),
        (["down", "gone"], {}, "has none of the trees down, gone; it contains: nominal, up"),
        (["nominal", "down"], ABSENT_FAILS, "has no tree 'down'; it contains: nominal, up"),
        (["down"], {}, "has no tree 'down'"),
    ],
)
def test_an_absent_tree(
    tmp_path: Path, trees: Path, names: list[str], options: Any, delivered: Any, form: int
) -> None:
    text = selection(queries(names, **options)[form])
    if isinstance(delivered, str):
        with pytest.raises(TransformError, match=delivered):
            result(tmp_path, text, trees)
        return
    with result(tmp_path, text, trees) as file:
        assert set(file.keys(cycle=False)) == delivered
    rows = columns(tmp_path, text, trees)
    assert len(rows) == COUNT * len(delivered)


def test_an_absent_tree_that_is_empty_costs_nothing(trees: Path) -> None:
    (query,) = queries(["down"], **ABSENT_IS_EMPTY)[:1]
    parsed = UprootRaw.parse(selection(query), "parquet")
    with uproot.open(trees) as file:
        assert parsed.estimate(file, Source(str(trees))) == Size(0, 0)


@pytest.mark.parametrize(
    ("names", "output"),
    [("nominal;1", "nominal"), (["nominal;1"], "nominal"), ({"nominal;1": "a;2"}, "a")],
)
def test_a_cycle_is_no_part_of_a_name(tmp_path: Path, trees: Path, names: Any, output: str) -> None:
    text = selection([{"treename": names, "expressions": ["x"]}])
    with result(tmp_path, text, trees) as file:
        assert file.keys() == [f"{output};1"]
        assert file[output]["x"].array().tolist() == NUMBER.tolist()


def test_two_cycles_of_one_tree_need_two_names() -> None:
    with pytest.raises(QueryError, match="two trees would be named t: rename one"):
        UprootRaw.parse(raw(treename=["t;1", "t;2"]), "parquet")
    UprootRaw.parse(raw(treename={"t;1": "a", "t;2": "b"}), "parquet")


def function(source: str) -> str:
    return base64.b64encode(inspect.cleandoc(source).encode()).decode()


OF_ONE_ARRAY = """
def run_query(input_filenames=None):
    import uproot
    with uproot.open({input_filenames: "reco"}) as o:
        br = o.arrays("el_pt_NOSYS")
    return br
"""


def test_an_array_that_a_function_returns(tmp_path: Path, ntuple: Path) -> None:
    with result(tmp_path, function(OF_ONE_ARRAY), ntuple, codegen="python") as file:
        assert file.keys() == ["servicex;1"]
        assert file["servicex"]["el_pt_NOSYS"].array().tolist() == ELECTRONS.tolist()


def test_arrays_that_a_function_returns_by_tree(tmp_path: Path, ntuple: Path) -> None:
    source = OF_ONE_ARRAY.replace("return br", "return {'first': br, 'second': br[:5]}")
    with result(tmp_path, function(source), ntuple, codegen="python") as file:
        assert file["first"]["el_pt_NOSYS"].array().tolist() == ELECTRONS.tolist()
        assert file["second"]["el_pt_NOSYS"].array().tolist() == ELECTRONS[:5].tolist()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{}", "a dict without trees; return an Awkward Array"),
        ("{'a': [1]}", "returned {'a': list}; return an Awkward Array"),
        ("{1: br}", "returned {1: Array}; return an Awkward Array"),
        ("None", "returned NoneType; return an Awkward Array"),
        ("(br, br)", "returned tuple; return an Awkward Array"),
    ],
)
def test_what_a_function_must_not_return(
    tmp_path: Path, ntuple: Path, value: str, message: str
) -> None:
    source = OF_ONE_ARRAY.replace("return br", f"return {value}")
    with pytest.raises(TransformError, match=message):
        result(tmp_path, function(source), ntuple, codegen="python")
