"""FuncADL as its documentation shows it: sequences compared with others, elements that may lack."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from coffea_shoppe_servicex import root_files
from coffea_shoppe_servicex.errors import TransformError
from servicex import query as stock
from servicex_helpers import columns

COUNT = 30
JETS = ak.Array([[float((n + 2 * i) % 7) for i in range(n % 4)] for n in range(COUNT)])
MUONS = ak.Array([[float((2 * n + i) % 7) for i in range((n + 1) % 3)] for n in range(COUNT)])
EVENTS = [
    {"n": n, "jet": jets, "muon": muons}
    for n, (jets, muons) in enumerate(zip(JETS.tolist(), MUONS.tolist(), strict=True))
]
Value = Callable[[dict[str, Any]], Any]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("objects") / "objects.root"
    branches = {
        "n": np.arange(COUNT),
        "jet": ak.values_astype(JETS, "f4"),
        "muon": MUONS,
        "AnalysisElectronsAuxDyn.pt": MUONS * 2,
    }
    with uproot.recreate(path) as output:
        types = {name: ak.type(ak.Array(array)).content for name, array in branches.items()}
        output.mktree("t", types)
        output["t"].extend(branches)
    return path


@pytest.fixture(autouse=True)
def chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(root_files, "_step", lambda *_: 7)


def delivered(folder: Path, query: Any, path: Path) -> Any:
    return columns(folder, query.generate_selection_string(), path, codegen="uproot")


def events() -> Any:
    return stock.FuncADL_Uproot().FromTree("t")


def test_a_branch_with_a_dot_in_its_name(tmp_path: Path, file: Path) -> None:
    query = events().Select(lambda e: {"el_pt": e["AnalysisElectronsAuxDyn.pt"]})
    assert delivered(tmp_path, query, file).el_pt.tolist() == (MUONS * 2).tolist()


PAIRED: dict[str, tuple[str, Value]] = {
    "removal of overlaps": (
        "e.jet.Where(lambda j: e.muon.Where(lambda m: m > j).Count() == 0)",
        lambda e: [j for j in e["jet"] if not [m for m in e["muon"] if m > j]],
    ),
    "with the event, too": (
        "e.jet.Where(lambda j: e.muon.Where(lambda m: m + e.n > j + 9).Count() == 0)",
        lambda e: [j for j in e["jet"] if not [m for m in e["muon"] if m + e["n"] > j + 9]],
    ),
    "Any": (
        "e.jet.Where(lambda j: e.muon.Any(lambda m: m == j))",
        lambda e: [j for j in e["jet"] if any(m == j for m in e["muon"])],
    ),
    "All": (
        "e.jet.Where(lambda j: e.muon.All(lambda m: m < j))",
        lambda e: [j for j in e["jet"] if all(m < j for m in e["muon"])],
    ),
    "the same sequence": (
        "e.jet.Where(lambda j: e.jet.Where(lambda k: k > j).Count() == 0)",
        lambda e: [j for j in e["jet"] if not [k for k in e["jet"] if k > j]],
    ),
    "Select": (
        "e.jet.Select(lambda j: e.muon.Select(lambda m: m * j).Sum())",
        lambda e: [sum(m * j for m in e["muon"]) for j in e["jet"]],
    ),
    "lists of lists": (
        "e.jet.Select(lambda j: e.muon.Select(lambda m: m - j))",
        lambda e: [[m - j for m in e["muon"]] for j in e["jet"]],
    ),
    "three": (
        "e.jet.Where(lambda j: e.muon.Any(lambda m: e.jet.Any(lambda k: k + m == j)))",
        lambda e: [j for j in e["jet"] if any(k + m == j for m in e["muon"] for k in e["jet"])],
    ),
    "Contains": (
        "e.jet.Where(lambda j: e.muon.Contains(j))",
        lambda e: [j for j in e["jet"] if j in e["muon"]],
    ),
    "elements of all jets": (
        "e.jet.Select(lambda j: {'of_jet': j * j, 'sum': e.jet.Sum() + e.n}['sum'])",
        lambda e: [sum(e["jet"]) + e["n"] for j in e["jet"]],
    ),
    "the nearest": (
        "e.jet.Select(lambda j: e.muon.OrderBy(lambda m: (m - j) * (m - j)).First()"
        " if e.muon.Count() > 0 else -1)",
        lambda e: [
            sorted(e["muon"], key=lambda m: (m - j) ** 2)[0] if e["muon"] else -1 for j in e["jet"]
        ],
    ),
    "not only nested ones": (
        "e.jet.Where(lambda j: e.muon.Count() > 0)",
        lambda e: e["jet"] if e["muon"] else [],
    ),
}
GUARDED: dict[str, tuple[str, Value]] = {
    "First": ("e.jet.First() if e.jet.Count() > 0 else -1", lambda e: [*e["jet"], -1][0]),
    "else": ("-1 if e.jet.Count() == 0 else e.jet.First()", lambda e: [*e["jet"], -1][0]),
    "Last": ("e.jet.Last() if e.jet.Count() > 0 else -1", lambda e: [-1, *e["jet"]][-1]),
    "ElementAt": (
        "e.jet.ElementAt(1) if e.jet.Count() >= 2 else -1",
        lambda e: e["jet"][1] if len(e["jet"]) > 1 else -1,
    ),
    "nested": (
        "(e.jet.First() if e.jet.Count() > 0 else e.muon.First())"
        " if e.jet.Count() + e.muon.Count() > 0 else -1",
        lambda e: [*e["jet"], *e["muon"], -1][0],
    ),
    "and": (
        "e.jet.Count() > 0 and e.jet.First() > 2",
        lambda e: bool(e["jet"]) and e["jet"][0] > 2,
    ),
    "or": (
        "e.jet.Count() == 0 or e.jet.First() > 2",
        lambda e: not e["jet"] or e["jet"][0] > 2,
    ),
}


@pytest.mark.parametrize("name", [*PAIRED, *GUARDED])
def test_queries(tmp_path: Path, file: Path, name: str) -> None:
    text, value = (PAIRED | GUARDED)[name]
    query = events().Select(f"lambda e: {{'value': {text}}}")
    result = delivered(tmp_path, query, file)
    assert result.value.tolist() == [value(event) for event in EVENTS]
    assert "?" not in str(result.type)
    assert "union" not in str(result.type)


def test_an_element_keeps_its_type(tmp_path: Path, file: Path) -> None:
    query = events().Select(
        "lambda e: {'value': e.jet.First() if e.jet.Count() > 0 else e.jet.Sum()}"
    )
    assert str(delivered(tmp_path, query, file).value.type) == f"{COUNT} * float32"


@pytest.mark.parametrize(
    "text",
    [
        "e.jet.First() if e.muon.Count() > 0 else -1",
        "e.jet.First() if e.jet.Count() == 0 else -1",
        "e.jet.ElementAt(1) if e.jet.Count() > 0 else -1",
        "e.jet.First() > 2 and e.jet.Count() > 0",
        "e.jet.Count() == 0 and e.jet.First() > 2",
        "e.jet.Count() > 0 or e.jet.First() > 2",
        "e.jet.First()",
    ],
)
def test_an_element_that_is_needed_and_lacks_is_an_error(
    tmp_path: Path, file: Path, text: str
) -> None:
    query = events().Select(f"lambda e: {{'value': {text}}}")
    with pytest.raises(TransformError, match="an event has too few elements for First"):
        delivered(tmp_path, query, file)


WHOLE = [
    "e.jet.Select(lambda j: j + e.muon)",
    "e.jet.Select(lambda j: j + e.jet)",
    "e.jet.Select(lambda j: e.jet)",
    "e.jet.Select(lambda j: e)",
    "e.jet.Select(lambda j: e.jet.Select(lambda k: k + 1))",
    "e.jet.Where(lambda j: j > e.jet)",
    "e.jet.Select(lambda j: {'of_jet': j, 'of_event': e.jet})",
    "e.jet.Select(lambda j: j if e.n > 3 else e.jet)",
    "e.jet.OrderBy(lambda j: e.jet)",
    "e.jet.Select(lambda j: (j + e.jet).Sum())",
    "e.jet.Contains(e.jet)",
]


@pytest.mark.parametrize("text", WHOLE)
def test_a_sequence_is_not_paired_by_position_with_a_lambda_s_argument(
    tmp_path: Path, file: Path, text: str
) -> None:
    """Even where both have as many elements."""
    query = events().Select(f"lambda e: {{'value': {text}}}")
    with pytest.raises(TransformError, match=r"a lambda uses a sequence as a whole .* by Zip"):
        delivered(tmp_path, query, file)


DATASET = "(call EventDataset 'x' 't')"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (DATASET, "uses a sequence as a whole"),
        (f"(+ (attr e 'n') (attr {DATASET} 'n'))", "uses a sequence as a whole"),
        (f"(call Select {DATASET} (lambda (list a) (attr a 'n')))", "uses a sequence as a whole"),
        (
            f"(call Select {DATASET} (lambda (list a) (+ (attr a 'n') (attr e 'n'))))",
            "combines elements of two sequences",
        ),
        (
            f"(call Select {DATASET} (lambda (list a) (attr e 'n')))",
            "elements of another sequence than its argument's",
        ),
    ],
)
def test_events_are_not_paired_with_events(
    tmp_path: Path, file: Path, body: str, message: str
) -> None:
    query = f"(call Select {DATASET} (lambda (list e) {body}))"
    with pytest.raises(TransformError, match=message):
        columns(tmp_path, query, file, codegen="uproot")


@pytest.mark.parametrize(
    ("text", "name"), [("e.jet.ElementAt(e.n)", "ElementAt"), ("e.jet.Choose(e.n)", "Choose")]
)
def test_a_position_is_a_constant(tmp_path: Path, file: Path, text: str, name: str) -> None:
    query = events().Select(f"lambda e: {{'value': {text}}}")
    with pytest.raises(TransformError, match=f"{name} takes a constant whole number"):
        delivered(tmp_path, query, file)
