"""What is delivered has the values that uproot gives; the smallest inputs that once had not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from coffea_shoppe_servicex import functions, root_files
from coffea_shoppe_servicex.codegens import Codegens, funcadl
from coffea_shoppe_servicex.errors import TransformError
from coffea_shoppe_servicex.formats import Format
from servicex_helpers import columns, raw

FORMS: tuple[Format, ...] = ("parquet", "root-file", "root-rntuple")


@pytest.fixture(scope="module")
def flags(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hundred events with flags that are integers, as ATLAS' ntuples have them."""
    number = np.arange(100)
    path = tmp_path_factory.mktemp("flags") / "flags.root"
    jets = ak.unflatten(np.arange(150) % 7, number % 4)
    with uproot.recreate(path) as file:
        branches = {
            "event": number + 1000,
            "ejets": (number % 10 == 0).astype("i4"),
            "passT": (number % 15 == 0).astype("i1"),
            "weight": (number % 5) * 0.5 - 1,
            "bits": np.stack([number % 2, number % 3], axis=1).astype("i4"),
            "jet": ak.zip({"id": ak.values_astype(jets, "i4"), "pt": jets * 10.0}),
        }
        file.mktree("nominal", {name: ak.type(array).content for name, array in branches.items()})
        file["nominal"].extend(branches)
    return path


@pytest.fixture
def chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(root_files, "_step", lambda *_: 33)


CUTS = [
    *("ejets", "ejets | passT", "ejets * passT", "njet", "~ejets", "ejets & (event > 1050)"),
    *("weight", "event > 1050", "1", "0", "True", "ejets - 1", "(ejets == 1) & (passT != 0)"),
    *("~(1 > 0)", "~(1 < 0)", "~True", "~False"),
]


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("cut", CUTS)
def test_a_cut_is_a_mask_whatever_its_type(tmp_path: Path, flags: Path, cut: str) -> None:
    selection = raw(treename="nominal", filter_name="event", cut=cut)
    delivered = columns(tmp_path, selection, flags)
    with uproot.open({flags: "nominal"}) as tree:
        # uproot takes no constant for a cut.
        constants = dict.fromkeys(("1", "True", "~(1 < 0)", "~False"), "event > 0")
        constants |= dict.fromkeys(("0", "~(1 > 0)", "~True"), "event < 0")
        expected = tree.arrays(["event"], cut=constants.get(cut, cut))
    assert delivered.event.tolist() == expected.event.tolist()


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("cut", ["jet_id > 3", "jet_id", "jet_id & 1"])
def test_a_cut_on_objects_chooses_objects(tmp_path: Path, flags: Path, cut: str) -> None:
    selection = raw(treename="nominal", expressions=["jet_pt", "jet_id"], cut=cut)
    delivered = columns(tmp_path, selection, flags)
    with uproot.open({flags: "nominal"}) as tree:
        expected = tree.arrays(["jet_pt", "jet_id"], cut=cut)
    assert delivered.tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        ("jet_id > 3", "gives a list for each event, but 'event' is not a list"),
        ("bits", "gives a list for each event, but 'event' is not a list"),
        ("flatten(jet_pt, axis=1) > 0", "flatten along axis 1 leaves no list for each event"),
        ("event[event > 1010]", "gives 89 values for 100 events"),
        ("[ejets, passT]", "a list of arrays is not a column"),
        ("zip([ejets, passT])", "must give a number or a boolean"),
        ("'ejets'", "must give a number or a boolean"),
    ],
)
def test_a_cut_that_is_no_mask_is_refused(
    tmp_path: Path, flags: Path, cut: str, message: str
) -> None:
    with pytest.raises(TransformError, match=message):
        columns(tmp_path, raw(treename="nominal", expressions=["event"], cut=cut), flags)


@pytest.mark.parametrize(
    "expression", ["event[event > 1098]", "drop_none(mask(event, event < 9))", "[ejets, passT]"]
)
def test_a_column_has_a_value_for_each_event(tmp_path: Path, flags: Path, expression: str) -> None:
    with pytest.raises(TransformError, match=r"values for 100 events|is not a column"):
        columns(tmp_path, raw(treename="nominal", expressions=["event", expression]), flags)


def where(condition: str, source: str = "(call EventDataset 'x' 'nominal')") -> str:
    return f"(call Where {source} (lambda (list e) {condition}))"


def selected(condition: str) -> str:
    record = "(dict (list 'event') (list (attr e 'event')))"
    return f"(call Select {where(condition)} (lambda (list e) {record}))"


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize(
    ("condition", "cut"),
    [
        ("(attr e 'ejets')", "ejets"),
        ("(& (attr e 'ejets') (> (attr e 'event') 1050))", "ejets & (event > 1050)"),
        ("(* (attr e 'ejets') (attr e 'passT'))", "ejets * passT"),
        ("(call Count (attr e 'jet_pt'))", "njet"),
        ("(> (attr e 'event') 1050)", "event > 1050"),
    ],
)
def test_where_takes_a_mask_whatever_its_type(
    tmp_path: Path, flags: Path, condition: str, cut: str
) -> None:
    delivered = columns(tmp_path, selected(condition), flags, codegen="uproot")
    with uproot.open({flags: "nominal"}) as tree:
        assert delivered.event.tolist() == tree.arrays(["event"], cut=cut).event.tolist()


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("branch", ["jet_id", "bits"])
@pytest.mark.parametrize("condition", ["(& j 1)", "(> j 0)", "j"])
def test_where_within_an_event_takes_a_mask(
    tmp_path: Path, flags: Path, branch: str, condition: str
) -> None:
    chosen = f"(call Where (attr e '{branch}') (lambda (list j) {condition}))"
    text = "(call Select (call EventDataset 'x' 'nominal') (lambda (list e) "
    delivered = columns(
        tmp_path, f"{text}(dict (list 'x') (list {chosen}))))", flags, codegen="uproot"
    )
    masks: dict[str, Callable[[int], int]] = {
        "(& j 1)": lambda j: j & 1,
        "(> j 0)": lambda j: j > 0,
        "j": lambda j: j,
    }
    passes = masks[condition]
    with uproot.open({flags: "nominal"}) as tree:
        events = tree[branch].array().tolist()
    assert delivered.x.tolist() == [[j for j in event if passes(j)] for event in events]


def test_where_with_a_list_for_each_event_is_refused(tmp_path: Path, flags: Path) -> None:
    with pytest.raises(TransformError, match="gives a list for each element; reduce it by Any"):
        columns(tmp_path, selected("(> (attr e 'jet_pt') 30)"), flags, codegen="uproot")


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("cut", "passes"),
    [
        ("max(jet_pt) > 30", lambda pt, _: max(pt) > 30),
        ("firsts(jet_pt) > 30", lambda pt, _: pt[0] > 30),
        ("~(max(jet_pt) <= 30)", lambda pt, _: max(pt) > 30),
        ("max(jet_id)", lambda _, flag: max(flag) != 0),
        ("(max(jet_pt) > 30) | (min(jet_pt) == 0)", lambda pt, _: max(pt) > 30 or min(pt) == 0),
        # Whatever a condition needs that is missing: all of it is missing.
        ("(event > 0) | (max(jet_pt) > 30)", lambda *_: True),
    ],
)
def test_what_is_missing_does_not_pass_a_cut(
    tmp_path: Path, flags: Path, cut: str, passes: Callable[..., bool], form: Format
) -> None:
    selection = raw(treename="nominal", filter_name=["event", "jet_pt"], cut=cut)
    delivered = columns(tmp_path, selection, flags, form=form)
    with uproot.open({flags: "nominal"}) as tree:
        events = tree.arrays(["event", "jet_pt", "jet_id"]).tolist()
    expected = [e for e in events if e["jet_pt"] and passes(e["jet_pt"], e["jet_id"])]
    assert delivered.event.tolist() == [event["event"] for event in expected]
    assert delivered.jet_pt.tolist() == [event["jet_pt"] for event in expected]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("operator", ["Max", "Min"])
def test_what_is_missing_does_not_pass_where(
    tmp_path: Path, flags: Path, operator: str, form: Format
) -> None:
    text = selected(f"(> (call {operator} (attr e 'jet_pt')) 20)")
    delivered = columns(tmp_path, text, flags, codegen="uproot", form=form)
    best = {"Max": max, "Min": min}[operator]
    with uproot.open({flags: "nominal"}) as tree:
        events = tree.arrays(["event", "jet_pt"]).tolist()
    expected = [e["event"] for e in events if e["jet_pt"] and best(e["jet_pt"]) > 20]
    assert delivered.event.tolist() == expected


@pytest.mark.usefixtures("chunks")
def test_what_is_missing_is_no_object_of_a_cut(tmp_path: Path, flags: Path) -> None:
    cut = "mask(jet_pt, jet_pt > 10) > 30"
    delivered = columns(tmp_path, raw(treename="nominal", expressions=["jet_pt"], cut=cut), flags)
    with uproot.open({flags: "nominal"}) as tree:
        events = tree["jet_pt"].array().tolist()
    assert delivered.jet_pt.tolist() == [[pt for pt in event if pt > 30] for event in events]


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("cut", "passes"),
    [
        ("mask(jet_pt, ejets == 0) > 30", lambda e, pt: pt > 30 and not e["ejets"]),
        ("jet_pt < max(jet_pt)", lambda e, pt: pt < max(e["jet_pt"])),
        ("jet_pt == firsts(jet_pt)", lambda e, pt: pt == e["jet_pt"][0]),
        (
            "jet_pt - max(mask(jet_pt, passT == 0))",
            lambda e, pt: not e["passT"] and pt != max(e["jet_pt"]),
        ),
        ("mask(jet_pt, event < 0) > 30", lambda e, pt: False),
    ],
)
def test_objects_of_a_list_that_is_missing_in_a_cut_do_not_pass(
    tmp_path: Path, flags: Path, cut: str, passes: Callable[..., bool], form: Format
) -> None:
    selection = raw(treename="nominal", expressions=["jet_pt", "jet_id"], cut=cut)
    delivered = columns(tmp_path, selection, flags, form=form)
    with uproot.open({flags: "nominal"}) as tree:
        events = tree.arrays().tolist()
    chosen = [[passes(event, pt) for pt in event["jet_pt"]] for event in events]
    for name in ("jet_pt", "jet_id"):
        expected = [
            [value for value, holds in zip(event[name], event_chosen, strict=True) if holds]
            for event, event_chosen in zip(events, chosen, strict=True)
        ]
        assert delivered[name].tolist() == expected
        assert not any(mark in str(delivered[name].type) for mark in ("?", "option"))


HIGHEST = "(call Max (attr e 'jet_pt'))"


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("body", "value"),
    [
        (
            f"(call Where (attr e 'jet_pt') (lambda (list j) (< j {HIGHEST})))",
            lambda pts: [pt for pt in pts if pt < max(pts)],
        ),
        (
            "(call Select (attr e 'jet_pt') (lambda (list j) (call Count (call Where "
            f"(attr e 'jet_pt') (lambda (list k) (< (+ j k) {HIGHEST}))))))",
            lambda pts: [sum(pt + other < max(pts) for other in pts) for pt in pts],
        ),
    ],
)
def test_objects_of_a_list_that_is_missing_in_where_do_not_pass(
    tmp_path: Path, flags: Path, body: str, value: Callable[[Any], Any], form: Format
) -> None:
    delivered = columns(tmp_path, SELECT.format(body), flags, codegen="uproot", form=form)
    with uproot.open({flags: "nominal"}) as tree:
        events = tree["jet_pt"].array().tolist()
    assert delivered.value.tolist() == [value(pts) for pts in events]


HIGH = "(call Where (attr e 'jet_pt') (lambda (list h) (> h 20)))"


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("form", ["parquet", "root-rntuple"])
@pytest.mark.parametrize(
    ("body", "value"),
    [
        (f"(- j {HIGHEST})", lambda pt, pts: pt - max(pts)),
        (f"(- j (call Max {HIGH}))", lambda pt, pts: pt - max(pts) if max(pts) > 20 else None),
        (f"(call Max {HIGH})", lambda pt, pts: max(pts) if max(pts) > 20 else None),
        (f"(if (> j 30) j (call Max {HIGH}))", lambda pt, pts: max(pts) if max(pts) > 20 else None),
        (
            f"(call Max (call Select {HIGH} (lambda (list k) (- k (call Max {HIGH})))))",
            lambda pt, pts: 0 if max(pts) > 20 else None,
        ),
    ],
)
def test_a_value_that_an_event_lacks_is_missing_for_each_object(
    tmp_path: Path, flags: Path, body: str, value: Callable[[Any, Any], Any], form: Format
) -> None:
    text = SELECT.format(f"(call Select (attr e 'jet_pt') (lambda (list j) {body}))")
    delivered = columns(tmp_path, text, flags, codegen="uproot", form=form)
    with uproot.open({flags: "nominal"}) as tree:
        events = tree["jet_pt"].array().tolist()
    expected = [[value(pt, pts) for pt in pts] for pts in events]
    if body.startswith("(if"):
        expected = [[pt if pt > 30 else value(pt, pts) for pt in pts] for pts in events]
    assert delivered.value.tolist() == expected


@pytest.mark.parametrize(
    ("mask", "array", "expected"),
    [
        ([True, False], [1, 2], [True, False]),
        ([[True], None, []], [[1], [2, 3], []], [[True], [False, False], []]),
        ([None, [True]], [None, [1]], [None, [True]]),
        ([[None], None, [[True]]], [[[1]], None, [[2]]], [[[False]], None, [[True]]]),
        (
            [[[True], None], None, [], [None]],
            [[[1], [2, 3]], [[4, 5], []], [], [[6]]],
            [[[True], [False, False]], [[False, False], []], [], [[False]]],
        ),
    ],
)
def test_missing_lists_of_a_mask_are_as_long_as_those_of_the_array(
    mask: list[Any], array: list[Any], expected: list[Any]
) -> None:
    assert functions.filled(ak.Array(mask), ak.Array(array)).tolist() == expected


HEAVY = where("(> (attr e 'weight') 0)")


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "text",
    [
        HEAVY,
        where("(>= (attr e 'weight') 0)", HEAVY),
        f"(call Select {HEAVY} (lambda (list e) e))",
    ],
)
def test_events_that_pass_where_have_all_branches(
    tmp_path: Path, flags: Path, text: str, form: Format
) -> None:
    delivered = columns(tmp_path, text, flags, codegen="uproot", form=form)
    with uproot.open({flags: "nominal"}) as tree:
        expected = tree.arrays(cut="weight > 0")
    assert set(delivered.fields) == set(expected.fields)
    for name in expected.fields:
        assert delivered[name].tolist() == expected[name].tolist(), name


@pytest.mark.parametrize(
    ("text", "branches"),
    [
        (HEAVY, None),
        (selected("(> (attr e 'weight') 0)"), ["event", "weight"]),
        ("(call EventDataset 'x' 'nominal')", None),
        (
            "(call Select (call EventDataset 'x') (lambda (list e) (dict (list 'n') (list e))))",
            None,
        ),
        ("(call Select (call EventDataset 'x') (lambda (list e) (subscript e 0)))", None),
        ("(call Select (call EventDataset 'x') (lambda (list e) (subscript e 'jet')))", ["jet"]),
        ("(call Select (call EventDataset 'x') (lambda (list e) 1))", []),
        (
            "(call Select (call EventDataset 'x') (lambda (list e)"
            " (call Select (attr e 'jet') (lambda (list e) e))))",
            ["jet"],
        ),
    ],
)
def test_all_branches_are_read_where_events_are_taken_whole(
    text: str, branches: list[str] | None
) -> None:
    query = Codegens.load().parse("uproot", text, "parquet")
    assert isinstance(query, funcadl.FuncAdl)
    assert funcadl.reads(query.body, ["event", "weight", "jet"]) == branches


ACROSS = [
    *("nJ / sum(nJ)", "sum(nJ, axis=0)", "sum(nJ, axis=None)", "sum(nJ, axis=-1)", "max(nJ, None)"),
    *("sum(jet_pt, axis=0)", "sum(jet_pt, axis=-2)", "mean(jet_pt, axis=None)", "num(nJ, axis=0)"),
    *("sort(event, axis=0)", "argsort(event, axis=0)", "local_index(event, axis=0)", "std(event)"),
    *("local_index(event, axis=-1)", "firsts(event, axis=0)", "combinations(event, 2, axis=0)"),
    *("argcombinations(event, 2, axis=0)", "count(event, axis=0)", "pad_none(event, 200, axis=0)"),
    *("event[0]", "event[::-1]", "event[ejets]", "jet_pt[0, :]", "event[[1, 0]]", "event[None]"),
    *("jet_pt[local_index(event * 0, axis=0)]", "max([event, ejets])", "event[-1] + event"),
]


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("standard", [False, True])
@pytest.mark.parametrize("expression", ACROSS)
def test_what_goes_over_events_is_refused(
    tmp_path: Path, flags: Path, expression: str, standard: bool
) -> None:
    message = "of the whole dataset is not supported|index of events is not|give axis=0"
    query = {"treename": "nominal", "aliases": {"nJ": "njet"}}
    for selection in (
        raw(**query, expressions=["event", expression], use_standard_awkward_axis=standard),
        raw(**query, expressions=["event"], cut=expression, use_standard_awkward_axis=standard),
    ):
        with pytest.raises(TransformError, match=message):
            columns(tmp_path, selection, flags)


@pytest.mark.parametrize("expression", ["sum(jet_pt)", "njet / sum(njet)", "sort(jet_pt, None)"])
def test_awkward_s_own_axis_goes_over_events(tmp_path: Path, flags: Path, expression: str) -> None:
    query = {"treename": "nominal", "expressions": [expression]}
    with pytest.raises(TransformError, match="of the whole dataset is not supported"):
        columns(tmp_path, raw(**query, use_standard_awkward_axis=True), flags)


WITHIN: dict[str, Callable[[Any], Any]] = {
    "sum(jet_pt)": lambda e: sum(e["jet_pt"]),
    "sum(jet_pt, axis=1)": lambda e: sum(e["jet_pt"]),
    "sum(jet_pt, 1)": lambda e: sum(e["jet_pt"]),
    "sum(jet_pt, axis=-1)": lambda e: sum(e["jet_pt"]),
    "max([event, ejets], axis=0)": lambda e: max(e["event"], e["ejets"]),
    "sort(jet_pt)": lambda e: sorted(e["jet_pt"]),
    "jet_pt[:, :1]": lambda e: e["jet_pt"][:1],
    "jet_pt[jet_id > 2]": lambda e: [
        p for p, i in zip(e["jet_pt"], e["jet_id"], strict=True) if i > 2
    ],
    "jet_pt[argmax(jet_pt, keepdims=True)]": lambda e: (
        [max(e["jet_pt"])] if e["jet_pt"] else [None]
    ),
    "bits[:, 1]": lambda e: e["bits"][1],
    "num(combinations(jet_pt, 2))": lambda e: len(e["jet_pt"]) * (len(e["jet_pt"]) - 1) // 2,
    "sum(combinations(jet_pt, 2)['0'])": lambda e: sum(
        pt * (len(e["jet_pt"]) - 1 - i) for i, pt in enumerate(e["jet_pt"])
    ),
}


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("expression", WITHIN)
def test_what_goes_over_an_event_s_own_objects_is_delivered(
    tmp_path: Path, flags: Path, expression: str
) -> None:
    selection = raw(treename="nominal", expressions=["event", expression])
    delivered = columns(tmp_path, selection, flags)
    with uproot.open({flags: "nominal"}) as tree:
        events = tree.arrays().tolist()
    assert delivered[expression].tolist() == [WITHIN[expression](event) for event in events]


SELECT = "(call Select (call EventDataset 'x' 'nominal') (lambda (list e) {}))"


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize(
    "body",
    [
        "(/ (attr e 'njet') (call sum (attr e 'njet')))",
        "(call sum (attr e 'njet'))",
        "(call sum (attr e 'jet_pt') 0)",
        "(call sort (attr e 'event'))",
        "(call Select (attr e 'jet_pt') (lambda (list j) (call sum j)))",
    ],
)
def test_what_goes_over_events_is_refused_in_funcadl(
    tmp_path: Path, flags: Path, body: str
) -> None:
    with pytest.raises(TransformError, match="of the whole dataset is not supported"):
        columns(tmp_path, SELECT.format(body), flags, codegen="uproot")


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("body", ["(call sum (attr e 'jet_pt'))", "(call Sum (attr e 'jet_pt'))"])
def test_funcadl_sums_an_event_s_own_objects(tmp_path: Path, flags: Path, body: str) -> None:
    delivered = columns(tmp_path, SELECT.format(body), flags, codegen="uproot")
    with uproot.open({flags: "nominal"}) as tree:
        events = tree["jet_pt"].array().tolist()
    assert delivered.value.tolist() == [sum(event) for event in events]


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("form", ["parquet", "root-rntuple"])
@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("mask(event, ejets == 0)", lambda e: None if e["ejets"] else e["event"]),
        ("max(jet_pt)", lambda e: max(e["jet_pt"], default=None)),
        ("mask(jet_pt, jet_id > 2)", lambda e: [p if p > 20 else None for p in e["jet_pt"]]),
        ("mask(jet_pt, ejets == 0)", lambda e: None if e["ejets"] else e["jet_pt"]),
    ],
)
def test_missing_values_stay_where_they_are(
    tmp_path: Path, flags: Path, expression: str, value: Callable[..., Any], form: Format
) -> None:
    selection = raw(treename="nominal", expressions=[expression])
    delivered = columns(tmp_path, selection, flags, form=form)
    with uproot.open({flags: "nominal"}) as tree:
        events = tree.arrays().tolist()
    assert delivered[expression].tolist() == [value(event) for event in events]


@pytest.mark.parametrize("form", ["parquet", "root-rntuple"])
def test_a_chunk_may_lack_a_list_in_every_event(
    tmp_path: Path, flags: Path, monkeypatch: pytest.MonkeyPatch, form: Format
) -> None:
    monkeypatch.setattr(root_files, "_step", lambda *_: 1)
    expression = "(jet_pt + firsts(jet_pt))[jet_id >= 0]"
    selection = raw(treename="nominal", expressions=[expression], cut="event < 1010")
    delivered = columns(tmp_path, selection, flags, form=form)
    with uproot.open({flags: "nominal"}) as tree:
        jets = tree["jet_pt"].array(entry_stop=10).tolist()
    expected = [[pt + event[0] for pt in event] if event else None for event in jets]
    assert None in expected
    assert delivered[expression].tolist() == expected


RECORDED = Path(__file__).parent / "recorded"
MUONS = RECORDED / "uproot-issue443.root"


@pytest.mark.parametrize(
    "query",
    [
        {"expressions": ["fX"]},
        {"expressions": ["evtNum"], "cut": "fX > 0"},
        {"expressions": ["far"], "aliases": {"far": "abs(fX)"}},
    ],
)
def test_a_name_that_two_branches_have_is_refused(tmp_path: Path, query: dict[str, Any]) -> None:
    message = "'fX' is ambiguous in 'muonDataTree': give 'trkInnerPos/fX', 'trkOuterPos/fX', .* or"
    with pytest.raises(TransformError, match=message):
        columns(tmp_path, raw(treename="muonDataTree", **query), MUONS)


def test_a_branch_s_path_is_not_ambiguous(tmp_path: Path) -> None:
    names = ["trkInnerPos/fX", "hitPosRaw/fX", "fString", "hitEnd"]
    delivered = columns(tmp_path, raw(treename="muonDataTree", expressions=names), MUONS)
    assert delivered.fields == names


def test_where_gives_no_value_for_objects_whose_condition_has_none() -> None:
    """As of an event without muons; also where awkward stores nothing for its list."""
    jets, muons = ak.Array([[1.0, 2.0], [3.0, 4.0, 5.0], []]), ak.Array([[1.5], [], [2.0]])
    largest = ak.max(muons, axis=1)
    chosen = functions.where(jets > largest, jets, jets * 10)
    assert chosen.tolist() == [[10.0, 2.0], [None, None, None], []]
    assert functions.where(jets > 1, largest, jets)[1].tolist() == [None, None, None]
    lists = ak.mask(jets, [True, False, True])
    chosen = functions.where(jets > 1, lists, 0)
    assert chosen.tolist() == [[0.0, 2.0], [None, None, None], []]
    assert "union" not in str(chosen.type)
    assert functions.where(jets > 1, jets, 0).tolist() == [[0.0, 2.0], [3.0, 4.0, 5.0], []]
