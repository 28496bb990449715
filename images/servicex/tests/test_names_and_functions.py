"""Names of branches that are no Python names, and the functions of expressions."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from coffea_shoppe_servicex import root_files
from coffea_shoppe_servicex.errors import QueryError, TransformError
from coffea_shoppe_servicex.expressions import Expression
from servicex_helpers import columns, raw

COUNT = 24
ODD = [
    "__event__",
    "B0 mass",
    "2mu_pt",
    "lambda",
    "mu+",
    "a:b",
    "x-y",
    "sum",
    "K*(892)",
    "é",
]
BRANCHES = {name: np.arange(COUNT) * (number + 1.0) for number, name in enumerate(ODD)}
OTHERS = {"x": np.arange(COUNT) * 100, "y": np.arange(COUNT) * 1.0}


def write_tree(file: Any, branches: dict[str, Any]) -> None:
    file.mktree("t", {name: ak.type(ak.Array(array)).content for name, array in branches.items()})
    file["t"].extend(branches)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("odd") / "odd.root"
    with uproot.recreate(path) as file:
        write_tree(file, BRANCHES | OTHERS)
    return path


@pytest.mark.parametrize("name", ODD)
def test_a_branch_of_that_very_name_comes_first(tmp_path: Path, odd: Path, name: str) -> None:
    def delivered(**query: Any) -> Any:
        return columns(tmp_path, raw(treename="t", **query), odd)

    branch = BRANCHES[name]
    assert delivered(filter_name=[name]).fields == [name]
    assert delivered(expressions=[name])[name].tolist() == branch.tolist()
    assert delivered(expressions=[f" {name}"])[f" {name}"].tolist() == branch.tolist()
    assert delivered(expressions=["y"], cut=name).y.tolist() == OTHERS["y"][1:].tolist()
    text = f"get({name!r}) + y"
    assert delivered(expressions=[text])[text].tolist() == (branch + OTHERS["y"]).tolist()
    far = f"get({name!r}) > 20"
    assert delivered(expressions=["y"], cut=far).y.tolist() == OTHERS["y"][branch > 20].tolist()
    renamed = delivered(expressions=["it"], aliases={"it": name})
    assert renamed.it.tolist() == branch.tolist()
    doubled = delivered(expressions=[name], aliases={name: f"get({name!r}) * 2"})
    assert doubled[name].tolist() == (branch * 2).tolist()
    select = "(call Select (call EventDataset 'x' 't') (lambda (list e) (* (subscript e '{}') 2)))"
    of_funcadl = columns(tmp_path, select.format(name), odd, codegen="uproot")
    assert of_funcadl.value.tolist() == (branch * 2).tolist()


def test_a_branch_named_like_a_function_leaves_the_function(tmp_path: Path, odd: Path) -> None:
    text = "__event__ + sum + abs(-x)"
    delivered = columns(tmp_path, raw(treename="t", expressions=[text]), odd)
    expected = BRANCHES["__event__"] + BRANCHES["sum"] + OTHERS["x"]
    assert delivered[text].tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("B1 mass", "'B1 mass' is neither a branch nor an expression; .*get"),
        ("x +", "'x .' is neither a branch nor an expression"),
        ("__events__", "has no branch '__events__'; is it '__event__'"),
        ("get('B1 mass')", "has no branch 'B1 mass'; is it 'B0 mass'"),
    ],
)
def test_a_name_that_no_branch_has(tmp_path: Path, odd: Path, text: str, message: str) -> None:
    for query in ({"expressions": [text]}, {"expressions": ["y"], "cut": text}):
        with pytest.raises(TransformError, match=message):
            columns(tmp_path, raw(treename="t", **query), odd)


@pytest.mark.parametrize("text", ["B0 mass > 5", "get(x)", "get('a', 'b')", "get()", "get(1)"])
def test_how_to_read_such_a_branch_is_told_at_submission(text: str) -> None:
    with pytest.raises(QueryError, match=r"read by get\('NAME'\) within an expression"):
        Expression(text)


def test_an_attribute_of_funcadl_cannot_be_private(tmp_path: Path, odd: Path) -> None:
    text = "(call Select (call EventDataset 'x' 't') (lambda (list e) (attr e '__event__')))"
    with pytest.raises(QueryError, match=r"write e\['__event__'\]"):
        columns(tmp_path, text, odd, codegen="uproot")


JETS = ak.Array(
    [[math.nan if i == 2 else 1.0 * (n + i) for i in range(n % 4)] for n in range(COUNT)]
)
X = ak.Array(np.arange(COUNT) * 0.5)
MUONS = ak.Array([[0.5 * (n - i) for i in range((n + 1) % 3)] for n in range(COUNT)])


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("objects") / "objects.root"
    with uproot.recreate(path) as file:
        write_tree(file, {"jet": JETS, "mu": MUONS, "x": X})
    return path


PAIRS = ak.cartesian([JETS, MUONS], axis=1)
FUNCTIONS: dict[str, Callable[[], Any]] = {
    "nansum(jet)": lambda: ak.nansum(JETS, axis=1),
    "nanprod(jet)": lambda: ak.nanprod(JETS, axis=1),
    "nanmin(jet)": lambda: ak.nanmin(JETS, axis=1),
    "nanmax(jet)": lambda: ak.nanmax(JETS, axis=1),
    "nanargmin(jet)": lambda: ak.nanargmin(JETS, axis=1),
    "nanargmax(jet)": lambda: ak.nanargmax(JETS, axis=1),
    "nanmean(jet)": lambda: ak.nanmean(JETS, axis=1),
    "nanvar(jet)": lambda: ak.nanvar(JETS, axis=1),
    "nanstd(jet)": lambda: ak.nanstd(JETS, axis=1),
    "nansum(jet, axis=-1)": lambda: ak.nansum(JETS, axis=-1),
    "moment(mu, 2)": lambda: ak.moment(MUONS, 2, axis=1),
    "softmax(mu)": lambda: ak.softmax(MUONS, axis=1),
    "isclose(x, 1.0)": lambda: ak.isclose(X, 1.0),
    "cartesian([jet, mu])['0']": lambda: PAIRS["0"],
    "sum(cartesian([jet, mu])['1'])": lambda: ak.sum(PAIRS["1"], axis=1),
    "num(argcartesian([jet, mu]))": lambda: ak.num(PAIRS),
    "argcartesian([mu, mu])['1']": lambda: ak.argcartesian([MUONS, MUONS], axis=1)["1"],
    "concatenate([jet, mu])": lambda: ak.concatenate([JETS, MUONS], axis=1),
    "np.concatenate([jet, mu], axis=1)": lambda: ak.concatenate([JETS, MUONS], axis=1),
    "broadcast_arrays(x, mu)[0]": lambda: ak.broadcast_arrays(X, MUONS)[0],
    "np.where(x > 2, x, 0)": lambda: ak.where(X > 2, X, 0),
    "np.where(mu > 2, mu, -mu)": lambda: ak.where(MUONS > 2, MUONS, -MUONS),
    "np.clip(x, 1, 3)": lambda: np.clip(X, 1, 3),
    "clip(mu, 1, 3)": lambda: ak.where(MUONS < 1, 1.0, ak.where(MUONS > 3, 3.0, MUONS)),
    "np.clip(mu, a_min=None, a_max=3)": lambda: ak.where(MUONS > 3, 3.0, MUONS),
    "np.sum(mu, axis=1)": lambda: ak.sum(MUONS, axis=1),
    "np.any(mu > 2)": lambda: ak.any(MUONS > 2, axis=1),
    "np.nan_to_num(jet)": lambda: ak.nan_to_num(JETS),
    "atan2(x, 2)": lambda: np.arctan2(X, 2),
    "neg(x)": lambda: -X,
}


def plain(array: Any) -> str:
    """Return a text in which NaN is equal to itself."""
    return str(ak.Array(array).tolist())


@pytest.mark.parametrize("text", FUNCTIONS)
def test_functions(
    tmp_path: Path, objects: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(root_files, "_step", lambda *_: 7)
    delivered = columns(tmp_path, raw(treename="t", expressions=["x", text]), objects)
    assert plain(delivered[text]) == plain(FUNCTIONS[text]())


def test_functions_of_uproot_s_own(tmp_path: Path, objects: Path) -> None:
    texts = [
        "erf(x)",
        "erfc(x)",
        "gamma(x + 1)",
        "lgamma(x + 1)",
        "factorial(x * 2)",
        "acos(x / 20)",
    ]
    delivered = columns(tmp_path, raw(treename="t", expressions=texts), objects)
    with uproot.open({objects: "t"}) as tree:
        for text in texts:
            assert delivered[text].tolist() == tree.arrays([text])[text].tolist(), text


def test_flatten_is_of_the_lists_within_an_event_s_lists(tmp_path: Path) -> None:
    path = tmp_path / "nested.root"
    nested = ak.Array([[[1, 2], [3]], [], [[4]]])
    with uproot.recreate(path) as file:
        file.mkrntuple("t", {"hits": ak.type(nested).content})
        file["t"].extend({"hits": nested})
    for text in ("flatten(hits)", "flatten(hits, axis=2)", "flatten(hits, axis=-1)"):
        delivered = columns(tmp_path, raw(treename="t", expressions=[text]), path)
        assert delivered[text].tolist() == [[1, 2, 3], [], [4]]
    for text in ("flatten(hits, axis=1)", "flatten(hits, axis=None)", "flatten(hits, axis=0)"):
        with pytest.raises(TransformError, match="leaves no list for each event; axis=2 is for"):
            columns(tmp_path, raw(treename="t", expressions=[text]), path)


@pytest.mark.parametrize(
    "text",
    [
        *("nansum(x)", "nanmax(x, axis=0)", "softmax(x)", "moment(x, 2)", "np.sum(x)", "np.max(x)"),
        *("cartesian([x, x], axis=0)", "concatenate([x, x])", "concatenate([mu, mu], axis=0)"),
        "argcartesian([x, x])",
    ],
)
def test_functions_over_events_are_refused(tmp_path: Path, objects: Path, text: str) -> None:
    with pytest.raises(TransformError, match="of the whole dataset is not supported"):
        columns(tmp_path, raw(treename="t", expressions=["x", text]), objects)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("almost_equal(x, mu)", "isclose compares value by value"),
        ("ak.almost_equal(x, mu)", "isclose compares value by value"),
        ("nanmedian(jet)", "there is no function 'nanmedian' here; is it 'nanmean'"),
        ("np.load('x')", "there is no function 'np.load' here"),
        ("count_nonzeros(mu)", "is it 'count_nonzero'"),
    ],
)
def test_other_functions_are_refused_at_submission(text: str, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        Expression(text)
