"""What transformers make of files, and what they say of those that they cannot use."""

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from coffea_shoppe_contract.addresses import shown_address
from coffea_shoppe_servicex import root_files, transform
from coffea_shoppe_servicex.codegen import Outcome, Source
from coffea_shoppe_servicex.codegens import Codegens
from coffea_shoppe_servicex.errors import QueryError, TransformError, UnreadableError
from coffea_shoppe_servicex.expressions import Expression
from servicex_helpers import columns, make, raw


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a + 2 * b", [11, 22]),
        ("(a > 1) & ~(b > 15)", [False, True]),
        ("a > 1 and b > 1", [False, True]),
        ("0 < a <= 1", [True, False]),
        ("where(a > 1, b, -b)", [-5, 10]),
        ("b if a > 1 else 0", [0, 10]),
        ("b if 1 > 0 else a", [5, 10]),
        ("where(0 > 1, b, a)", [1, 2]),
        ("sum(j)", [3, 7]),
        ("ak.num(j)", [2, 2]),
        ("j[:, 0]", [1, 3]),
        ("np.sqrt(a * a)", [1, 2]),
        ("twice - a", [1, 2]),
        ("any(j > 3)", [False, True]),
        ("max(combinations(j, 2)['0'])", [1, 3]),
    ],
)
def test_expressions(text: str, value: list[Any]) -> None:
    names = {"a": ak.Array([1, 2]), "b": ak.Array([5, 10]), "j": ak.Array([[1, 2], [3, 4]])}
    names["twice"] = names["a"] * 2
    assert Expression(text).evaluate(names.get).tolist() == value


@pytest.mark.parametrize(
    "text",
    [
        *("__import__('os')", "().__class__", "a.__class__", "eval('1')", "a.tolist()"),
        *("[x for x in a]", "lambda: 1", "open('/etc/passwd')", "np.load('x')"),
        *("ak.from_json('1')", "{a}"),
        *("f'{a}'", "a := 1", "(yield)", "np.os.system('x')", "getattr(a, 'x')", "b'x'"),
    ],
)  # fmt: skip
def test_expressions_reach_nothing_but_arrays(text: str) -> None:
    with pytest.raises(QueryError):
        Expression(text)


@pytest.mark.parametrize("name", ["eval", "exec", "open", "__import__", "getattr"])
def test_neither_does_funcadl(name: str) -> None:
    dataset = "(call EventDataset 'x' 'Events')"
    for body in (f"(call {name} 'x')", "(attr e '__class__')", "(call (attr e 'tolist'))"):
        text = f"(call Select {dataset} (lambda (list e) {body}))"
        with pytest.raises(QueryError):
            Codegens.load().parse("uproot", text, "parquet")


def test_a_file_is_read_from_where_it_can_be(tmp_path: Path, inputs: list[Path]) -> None:
    selection = raw(treename="Events", expressions=["met"])
    result = columns(tmp_path, selection, tmp_path / "away.root", inputs[0])
    assert len(result) == 1000
    with pytest.raises(UnreadableError, match=r"away\.root: no such file"):
        columns(tmp_path, selection, tmp_path / "away.root")


@pytest.mark.parametrize(
    ("reasons", "message"),
    [
        (["LoginFailed", "LoginFailed"], "the credential has expired"),
        (["CannotOpen", "LoginFailed"], "a login is needed"),
        (["LoginFailed", "CannotOpen"], "the credential has expired"),
    ],
)
def test_a_cache_that_could_not_log_in_says_why(
    tmp_path: Path, reasons: list[str], message: str
) -> None:
    origin = "root://origin:1094//a.root"
    failures = {
        f"root://cache:1094//{origin}": (reasons[0], "the credential has expired"),
        origin: (reasons[1], "a login is needed"),
    }

    class Query:
        def transform(self, source: Source, *_: object) -> Outcome:
            reason, sentence = failures[source.url]
            raise UnreadableError(reason, f"{shown_address(source.url)}: {sentence}")

    with pytest.raises(UnreadableError) as caught:
        transform.transform(Query(), list(failures), tmp_path / "out", "parquet")  # type: ignore[arg-type]
    assert (str(caught.value), caught.value.reason) == (f"{origin}: {message}", "LoginFailed")


def test_a_truncated_file_is_refused_whatever_is_asked_of_it(
    tmp_path: Path, inputs: list[Path]
) -> None:
    part, whole = tmp_path / "part.root", inputs[0].read_bytes()
    selection = raw(treename="Events", expressions=["met"])
    part.write_bytes(whole)
    assert len(columns(tmp_path, selection, part)) == 1000
    for length in (len(whole) - 1, len(whole) // 2, 500, 0):
        part.write_bytes(whole[:length])
        with pytest.raises(UnreadableError, match=r"is cut short|is empty"):
            columns(tmp_path, selection, part)


def test_chunks_make_no_difference(
    tmp_path: Path, inputs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    selection = raw(treename="Events", expressions=["event", "Jet_pt"], cut="nJet > 1")
    whole = columns(tmp_path, selection, inputs[0])
    monkeypatch.setattr(root_files, "_step", lambda *_: 77)
    assert ak.to_list(columns(tmp_path, selection, inputs[0])) == ak.to_list(whole)


def test_an_event_selection_that_none_passes_gives_empty_columns(
    tmp_path: Path, inputs: list[Path]
) -> None:
    selection = raw(treename="Events", expressions=["met", "Jet_pt"], cut="met < 0")
    result = columns(tmp_path, selection, inputs[0])
    assert len(result) == 0
    assert result.fields == ["met", "Jet_pt"]


def test_a_tree_without_entries_gives_empty_columns(tmp_path: Path) -> None:
    empty = make(tmp_path / "none.root", count=0)
    assert len(columns(tmp_path, raw(treename="Events", filter_name="met"), empty)) == 0


def test_histograms_are_copied(tmp_path: Path, inputs: list[Path]) -> None:
    target = tmp_path / "out.root"
    selection = json.dumps([{"copy_histograms": "h"}, {"treename": "Events", "filter_name": "met"}])
    query = Codegens.load().parse("uproot-raw", selection, "root-file")
    transform.transform(query, [str(inputs[0])], target, "root-file", local_files=True)
    with uproot.open(target) as file, uproot.open(inputs[0]) as original:
        assert file["h"].values().tolist() == original["h"].values().tolist()
        assert file["Events"].num_entries == 1000


def test_aliases_and_missing_trees(tmp_path: Path, inputs: list[Path]) -> None:
    aliases = {"double": "met * 2", "quadruple": "double * 2"}
    result = columns(
        tmp_path,
        raw(treename=["Events", "Gone"], expressions=["quadruple"], aliases=aliases),
        inputs[0],
    )
    assert ak.all(result.quadruple == 4 * np.arange(1000))
    strict = raw(treename=["Events", "Gone"], expressions=["met"], fail_on_missing_trees=True)
    with pytest.raises(TransformError, match="no tree 'Gone'"):
        columns(tmp_path, strict, inputs[0])


STEP_MB = 16
MEASURE = f"""
import resource, sys
from pathlib import Path
from coffea_shoppe_servicex import root_files, transform
from coffea_shoppe_servicex.codegens import Codegens
root_files.STEP_BYTES = {STEP_MB} * 1_000_000
form, target, *paths = sys.argv[1:]
query = Codegens.load().parse("uproot-raw", '[{{"treename": "t", "filter_name": "*"}}]', form)
for path in paths:
    transform.transform(query, [path], Path(target), form, local_files=True)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000)
"""


@pytest.fixture(scope="module")
def growing(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A file of three steps, and one of twelve, of numbers that do not compress."""
    folder = tmp_path_factory.mktemp("growing")
    rows, generator = STEP_MB * 1_000_000 // (8 * 16) // 5, np.random.default_rng(1)
    paths = []
    for steps in (3, 12):
        path = folder / f"{steps}.root"
        with uproot.recreate(path, compression=None) as file:
            tree = file.mktree("t", dict.fromkeys((f"x{n}" for n in range(16)), "f8"))
            for _ in range(5 * steps):
                tree.extend({f"x{n}": generator.random(rows) for n in range(16)})
        paths.append(path)
    return paths


@pytest.mark.parametrize("form", ["parquet", "root-file", "root-rntuple"])
def test_memory_does_not_grow_with_the_file(growing: list[Path], tmp_path: Path, form: str) -> None:
    command = [sys.executable, "-c", MEASURE, form, str(tmp_path / "out"), *map(str, growing)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    few, many = map(float, done.stdout.split())
    assert few > 3 * STEP_MB, "what is measured is the transform's memory, in MB"
    assert many - few < 3 * STEP_MB, "nine more steps would take nine more of it"


JOIN = {"treename": "Weights", "columns": "weight"}


def test_columns_of_a_second_tree_are_joined(tmp_path: Path, inputs: list[Path]) -> None:
    selection = raw(treename="Events", expressions=["event"], join=JOIN, cut="nJet == 3")
    result = columns(tmp_path, selection, inputs[1])
    assert len(result) == 250
    assert ak.all(result.weight == result.event * 0.5)


def test_columns_of_a_second_directory_are_joined(tmp_path: Path) -> None:
    first = make(tmp_path / "nano" / "a.root")
    make(tmp_path / "friends" / "a.root")
    join = {**JOIN, "replace": ["/nano/", "/friends/"]}
    selection = raw(treename="Events", filter_name="met", join=join)
    assert ak.all(columns(tmp_path, selection, first).weight == np.arange(1000) * 0.5)
    with pytest.raises(TransformError, match=r"join\.replace: the URL does not contain '/x/'"):
        columns(tmp_path, raw(treename="Events", join={**JOIN, "replace": ["/x/", "y"]}), first)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda keys: keys[::-1], "entry 0 is .* event 9, but .* event 0"),
        (lambda keys: np.delete(keys, 4), "entry 4 is .* event 5, but .* event 4"),
        (lambda keys: keys[:-1], "lacks .* event 9$"),
        (lambda keys: np.append(keys, 10), "has further events, beginning with .* event 10$"),
    ],
)
def test_another_order_or_a_missing_event_is_named(tmp_path: Path, change: Any, told: str) -> None:
    event = change(np.arange(10))
    other = {
        "run": np.ones(len(event), "u4"),
        "luminosityBlock": (event // 100).astype("u4"),
        "event": event.astype("u8"),
        "x": event * 1.0,
    }
    file = make(tmp_path / "a.root", count=10, Other=other)
    join = {"treename": "Other", "columns": ["x"]}
    with pytest.raises(TransformError, match=told):
        columns(tmp_path, raw(treename="Events", expressions=["met"], join=join), file)


def encoded(source: str) -> str:
    return base64.b64encode(source.encode()).decode()


def test_a_function_may_write_its_result_itself(tmp_path: Path, inputs: list[Path]) -> None:
    source = (
        "def run_query(file, out):\n"
        "    import awkward as ak\n"
        "    ak.to_parquet(ak.Array({'x': [1, 2, 3]}), out)\n"
    )
    result = columns(tmp_path, encoded(source), inputs[0], codegen="python")
    assert result.x.tolist() == [1, 2, 3]


def test_a_function_that_returns_no_array_is_told_so(tmp_path: Path, inputs: list[Path]) -> None:
    with pytest.raises(TransformError, match="returned list; return an Awkward Array"):
        columns(tmp_path, encoded("def run_query(f): return [1]"), inputs[0], codegen="python")


def funcadl(body: str) -> str:
    return f"(call Select (call EventDataset 'x' 'Events') (lambda (list e) {body}))"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("(dict (list 'x') (list (attr e 'Jet_pT')))", "no branch 'Jet_pT'; is it 'Jet_pt'"),
        ("(dict (list 'x') (list (call First (attr e 'Jet_pt'))))", "too few elements"),
    ],
)
def test_funcadl_that_does_not_fit_the_tree(
    tmp_path: Path, inputs: list[Path], body: str, told: str
) -> None:
    with pytest.raises(TransformError, match=told):
        columns(tmp_path, funcadl(body), inputs[0], codegen="uproot")


JETS = "(attr e 'Jet_pt')"
SCALED = f"(call Select {JETS} (lambda (list j) (* j 2)))"


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (f"(call Count {JETS})", [1, 2, 3]),
        (f"(call Sum {JETS})", [1, 5, 12]),
        (f"(call Max {JETS})", [1, 3, 5]),
        (f"(call First {JETS})", [1, 2, 3]),
        (f"(call Last {JETS})", [1, 3, 5]),
        (f"(call ElementAt {JETS} 0)", [1, 2, 3]),
        (f"(call Any {JETS} (lambda (list j) (> j 2)))", [False, True, True]),
        (f"(call All {JETS} (lambda (list j) (> j 1)))", [False, True, True]),
        (SCALED, [[2], [4, 6], [6, 8, 10]]),
        (f"(call Where {JETS} (lambda (list j) (> j (attr e 'met'))))", [[], [3], [4, 5]]),
        (f"(call OrderByDescending {JETS} (lambda (list j) j))", [[1], [3, 2], [5, 4, 3]]),
        (f"(call Count (call Choose {JETS} 2))", [0, 1, 3]),
        (f"(call Concat {JETS} {JETS})", [[1, 1], [2, 3, 2, 3], [3, 4, 5, 3, 4, 5]]),
        (f"(call Contains {JETS} 3)", [False, True, True]),
        ("(if (> (attr e 'met') 1) (attr e 'met') 0)", [0, 2, 3]),
        ("(call sqrt (* (attr e 'met') (attr e 'met')))", [1, 2, 3]),
        ("(and (> (attr e 'met') 1) (not (> (attr e 'met') 2)))", [False, True, False]),
    ],
)
def test_funcadl_s_operators(tmp_path: Path, value: str, wanted: list[Any]) -> None:
    file = make(tmp_path / "three.root", first=1, count=3)
    result = columns(tmp_path, funcadl(f"(dict (list 'x') (list {value}))"), file, codegen="uproot")
    assert result.x.tolist() == wanted


def test_selectmany_gives_a_row_an_element(tmp_path: Path) -> None:
    file = make(tmp_path / "three.root", first=1, count=3)
    text = f"(call SelectMany (call EventDataset 'x' 'Events') (lambda (list e) {SCALED}))"
    assert columns(tmp_path, text, file, codegen="uproot").value.tolist() == [2, 4, 6, 6, 8, 10]


def test_elements_of_two_sequences_meet_each_with_each(tmp_path: Path) -> None:
    file = make(tmp_path / "three.root", first=1, count=3)
    inner = "(call Select (attr e 'Jet_eta') (lambda (list k) (+ j k)))"
    body = f"(dict (list 'x') (list (call Select {JETS} (lambda (list j) {inner}))))"
    delivered = columns(tmp_path, funcadl(body), file, codegen="uproot")
    events = uproot.open(file)["Events"].arrays(["Jet_pt", "Jet_eta"])
    sums = [ak.flatten(event.Jet_pt[:, None] + event.Jet_eta).tolist() for event in events]
    assert ak.num(delivered.x, axis=2).tolist() == [[1], [2, 2], [3, 3, 3]]
    assert ak.flatten(delivered.x, axis=2).tolist() == [pytest.approx(each) for each in sums]
