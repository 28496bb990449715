"""Generated trees and queries: what is delivered is what uproot and awkward give of the whole file.

Trees of a few events are written, with objects, flags, empty events and, as an RNTuple,
missing values and records.  They are transformed in chunks of a few events into every
format.  uproot-raw queries are evaluated by Python with awkward's functions on all events
at once, FuncADL queries event by event on lists.

The core suite has the same examples in each run; the long one begins with others each time.
A failure prints the seed of its examples: `SHOPPE_SEED=N` runs them first.
"""

import ast
import itertools
import math
import operator
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from unittest import mock

import awkward as ak
import numpy as np
import pytest
import uproot
from coffea_shoppe_servicex import root_files
from coffea_shoppe_servicex.codegens.funcadl import OPERATORS, parse
from coffea_shoppe_servicex.errors import TransformError
from coffea_shoppe_servicex.formats import Format
from coffea_shoppe_servicex.writers import without_masks
from hypothesis import HealthCheck, Phase, find, given, note, reject, seed, settings
from hypothesis import strategies as st
from servicex_helpers import columns, raw

FORMS: tuple[Format, ...] = ("parquet", "root-file", "root-rntuple")
EXAMPLES = 25
"""In one round."""
CORE_ROUNDS = 4
LONG_S = 450


# Trees.

SMALL = st.integers(-4, 4)
FLAT = {"event": "i8", "flag": "i4", "bits": "u1", "x": "f8", "w": "f4", "ok": "?"}
JETS = {"Jet_pt": "f8", "Jet_id": "i4", "Jet_ok": "?"}


@dataclass(frozen=True)
class Tree:
    """The content of a tree, and how it is stored and read."""

    branches: dict[str, Any]
    kind: str
    step: int

    def write(self, path: Path) -> Path:
        with uproot.recreate(path) as file:
            if self.kind == "rntuple":
                file["t"] = ak.zip(self.branches, depth_limit=1)
                return path
            jets = ak.zip({name[4:]: self.branches[name] for name in JETS})
            stored = {name: self.branches[name] for name in FLAT} | {"Jet": jets}
            stored |= {name: self.branches[name] for name in ("other", "pair")}
            types = {name: ak.type(array).content for name, array in stored.items()}
            file.mktree("t", types)
            if len(jets):
                file["t"].extend(stored)
        return path


@st.composite
def trees(draw: Any) -> Tree:
    count = draw(st.integers(0, 9))
    kind = draw(st.sampled_from(["ttree", "rntuple"]))

    def numbers(length: int, dtype: str) -> Any:
        drawn = draw(st.lists(SMALL, min_size=length, max_size=length))
        return np.abs(drawn).astype(dtype) if dtype in "u1?" else np.array(drawn, dtype)

    branches: dict[str, Any] = {name: numbers(count, dtype) for name, dtype in FLAT.items()}
    branches["event"] = np.arange(count, dtype="i8")
    for names in (JETS, {"other": "f8"}):
        counts = np.array(draw(st.lists(st.integers(0, 3), min_size=count, max_size=count)), "i4")
        for name, dtype in names.items():
            content = numbers(int(counts.sum()), dtype)
            branches[name] = ak.unflatten(content, counts)
        if names is JETS:
            branches["nJet"] = counts
    branches["pair"] = numbers(2 * count, "i4").reshape(count, 2)
    if kind == "rntuple":
        absent = draw(st.lists(st.booleans(), min_size=count, max_size=count))
        present = ~np.array(absent, bool)
        branches["maybe"] = without_masks(ak.mask(branches["x"], present))
        branches["lists"] = without_masks(ak.mask(branches["Jet_pt"], present))
        branches["point"] = ak.zip({"x": branches["x"], "y": branches["w"]})
    arrays = {name: ak.Array(array) for name, array in branches.items()}
    return Tree(arrays, kind, draw(st.integers(1, 4)))


# uproot-raw: expressions are texts, of which Python knows the value, too.

Texts = st.SearchStrategy[str]
CONSTANTS = st.sampled_from(["0", "1", "2", "0.5", "-1"])


def joined(left: Texts, operators: str, right: Texts) -> Texts:
    parts = st.tuples(left, st.sampled_from(operators.split()), right)
    return parts.map(lambda part: f"({' '.join(part)})")


def called(names: str, *arguments: Texts) -> Texts:
    parts = st.tuples(st.sampled_from(names.split()), st.tuples(*arguments))
    return parts.map(lambda part: f"{part[0]}({', '.join(part[1])})")


def inverted(of: Texts) -> Texts:
    return of.map(lambda text: f"~{text}")


NUMBER = st.sampled_from(["event", "flag", "x", "w", "nJet", "alias", "maybe"]) | CONSTANTS
FLAG = st.one_of(
    st.sampled_from(["flag", "bits", "ok", "nJet"]),
    joined(st.sampled_from(["flag", "ok", "nJet"]), "& | ^", st.sampled_from(["flag", "bits"])),
    inverted(st.sampled_from(["flag", "ok", "nJet"])),
)
CONDITION = st.one_of(st.just("ok"), joined(NUMBER, "< <= == != > >=", NUMBER))
OBJECT = st.sampled_from(["Jet_pt", "Jet_id"])
MAYBE_LISTS = st.just("lists")
"""Missing in some events of an RNTuple: no argument of where, which fails or not by the layout."""
RAW_STAND_INS = {"maybe": "x", "lists": "Jet_pt"}
"""What a TTree has instead of missing values and missing lists of an RNTuple."""
CHOICE = st.one_of(st.just("Jet_ok"), joined(OBJECT, "< >=", NUMBER))
for _ in range(2):  # So deep are expressions.
    NUMBER, CONDITION, OBJECT, CHOICE = (
        st.one_of(
            NUMBER,
            joined(NUMBER, "+ - *", NUMBER),
            called("abs", NUMBER),
            called("sum max min num count firsts mean", OBJECT | MAYBE_LISTS),
            called("sum any all", CHOICE | joined(MAYBE_LISTS, "< >=", NUMBER)),
            called("where", CONDITION, NUMBER, NUMBER),
        ),
        st.one_of(
            CONDITION,
            joined(NUMBER, "< <= == != > >=", NUMBER),
            joined(CONDITION, "& |", CONDITION),
            inverted(joined(NUMBER, "< >", NUMBER)),
            called("any all", CHOICE),
            called("logical_not", CONDITION),
        ),
        st.one_of(
            OBJECT,
            joined(OBJECT, "+ - *", OBJECT),
            joined(OBJECT, "+ - *", NUMBER),
            called("abs", OBJECT),
            called("where", CHOICE, OBJECT, OBJECT),
        ),
        st.one_of(CHOICE, joined(OBJECT, "< == >=", OBJECT), joined(CHOICE, "& |", CHOICE)),
    )
ANY_CHOICE = CHOICE | joined(MAYBE_LISTS, "< == >=", NUMBER | OBJECT)
CHOSEN = st.tuples(OBJECT, ANY_CHOICE).map("{0[0]}[{0[1]}]".format)
EVERY = NUMBER.map("(event + {})".format)
ACROSS = st.one_of(
    called("sum max min sort local_index", EVERY, st.sampled_from(["axis=None", "axis=0"])),
    called("sum max mean", OBJECT, st.sampled_from(["axis=None", "axis=0"])),
    EVERY.map("{}[0]".format),
    EVERY.map("event * 0 + sum({}, axis=None)".format),
)
"""What may be refused; if it is not, its value is that of the whole file."""
OF_OBJECTS = st.one_of(
    ANY_CHOICE,
    joined(OBJECT, "< >= ==", called("max min sum", OBJECT | MAYBE_LISTS)),
)
"""Cuts that choose objects; in an event without a value to compare with, none of them."""
FILTERS = st.lists(
    st.sampled_from(["*", "Jet_*", "?", "event", "[ex]*", "nJet", "other", "pair", "flag"]),
    min_size=1,
    max_size=3,
)


@dataclass(frozen=True)
class RawQuery:
    columns: tuple[str, ...]
    filters: tuple[str, ...]
    cut: str
    alias: str
    across: bool
    of_objects: bool
    """Whether the cut chooses objects, and columns are of the same objects."""

    def selection(self) -> str:
        query: dict[str, Any] = {"treename": "t", "aliases": {"alias": self.alias}}
        if self.filters:
            query["filter_name"] = list(self.filters)
        else:
            query["expressions"] = list(self.columns)
        return raw(**query, cut=self.cut or None)

    def without_missing_values(self) -> "RawQuery":
        """Return the query for a TTree."""

        def instead(text: str) -> str:
            for name, stand_in in RAW_STAND_INS.items():
                text = text.replace(name, stand_in)
            return text

        columns = tuple(dict.fromkeys(map(instead, self.columns)))
        return replace(self, columns=columns, cut=instead(self.cut), alias=instead(self.alias))


def flat(alias: str) -> bool:
    return "alias" not in alias


@st.composite
def raw_queries(draw: Any) -> RawQuery:
    own = draw(st.integers(0, 3))
    texts = st.one_of(NUMBER, FLAG, CONDITION, OBJECT, CHOICE, CHOSEN, called("sort", OBJECT))
    texts = st.one_of(texts, st.sampled_from(["Jet_pt", "nJet", "other", "pair", "event"]))
    if across := draw(st.integers(0, 5)) == 0:
        texts = ACROSS
    of_objects = not across and own != 0 and draw(st.integers(0, 4)) == 0
    if of_objects:
        texts = st.sampled_from(["Jet_pt", "Jet_id", "Jet_ok", "Jet_pt + Jet_id"])
    cuts = st.one_of(st.just(""), CONDITION, FLAG, NUMBER, CONDITION)
    drawn = draw(st.lists(texts, min_size=1, max_size=3, unique=True))
    return RawQuery(
        columns=tuple(drawn),
        filters=tuple(draw(FILTERS)) if own == 0 and not across else (),
        cut=draw(OF_OBJECTS if of_objects else cuts),
        alias=draw(st.one_of(NUMBER, CONDITION).filter(flat)),
        across=across,
        of_objects=of_objects,
    )


def within(name: str) -> Callable[..., Any]:
    """Return a function of awkward's that goes over an event's own objects."""
    function = getattr(ak, name)
    return lambda array, axis=1: function(array, axis=axis)


WITHIN = [
    "sum",
    "max",
    "min",
    "num",
    "count",
    "firsts",
    "mean",
    "any",
    "all",
    "sort",
    "local_index",
]
FUNCTIONS = {
    **{name: within(name) for name in WITHIN},
    **{"abs": abs, "where": ak.where, "logical_not": np.logical_not},
    "inverse": lambda value: not value if isinstance(value, bool) else ~value,
}


class Inverses(ast.NodeTransformer):
    """Calls `inverse` for `~`: of a condition of constants, Python's own would be a number."""

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        self.generic_visit(node)
        if not isinstance(node.op, ast.Invert):
            return node
        return ast.Call(ast.Name("inverse", ast.Load()), [node.operand], [])


def expected_of_raw(query: RawQuery, branches: dict[str, Any]) -> dict[str, Any]:
    count = len(branches["event"])
    scope = {**FUNCTIONS, **branches}

    def value(text: str) -> Any:
        tree = ast.fix_missing_locations(Inverses().visit(ast.parse(text, mode="eval")))
        column = eval(compile(tree, text, "eval"), {"__builtins__": {}}, scope)  # noqa: S307
        return column if isinstance(column, ak.Array) else ak.Array(np.full(count, column))

    scope["alias"] = value(query.alias)
    if query.filters:
        chosen = {
            name: array
            for name, array in branches.items()
            if any(fnmatch(name, pattern) for pattern in query.filters)
        }
    else:
        chosen = {text: value(text) for text in query.columns}
    if query.cut:
        mask = value(query.cut) != 0
        if query.of_objects:
            # As many flags as objects, also where all of them have no value.
            mask = ak.fill_none(ak.fill_none(mask, [], axis=0), False, axis=1)
            full = ak.num(mask) == ak.num(branches["Jet_pt"])
            mask = ak.where(full, mask, ak.zeros_like(branches["Jet_pt"], dtype=bool))
        else:
            mask = ak.fill_none(mask, False, axis=0)
        chosen = {name: array[mask] for name, array in chosen.items()}
    return chosen


# What is compared.


def plain(value: Any) -> Any:
    """Return lists of plain numbers, in which NaN is equal to itself."""
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    if isinstance(value, float) and math.isnan(value):
        return "nan"
    return value


def unwritable(selection: str, expected: dict[str, Any]) -> bool:
    """Return whether a TTree cannot hold the columns: missing values, records, no known type.

    Max, Min and `maybe` may be missing, whether they are here or not.
    """
    types = " ".join(str(array.type) for array in expected.values())
    named = any(part in selection for part in ("call Max", "call Min", "'maybe'"))
    named = named or "maybe" in expected
    return named or any(mark in types for mark in ("?", "option", "unknown", "{"))


def compare(
    tree: Tree, selection: str, codegen: str, expected: dict[str, Any], *, may: str
) -> None:
    """Assert that all formats have the expected columns; `may` says what may be refused."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = tree.write(folder / "in.root")
        for form in FORMS:
            note(f"{form}, {tree.kind}, chunks of {tree.step}: {selection}")
            with mock.patch.object(root_files, "_step", lambda *_: tree.step):
                try:
                    delivered = columns(folder, selection, path, codegen=codegen, form=form)
                except TransformError as error:
                    note(str(error))
                    if error.reason == "CannotWrite":
                        assert form == "root-file", error
                        assert unwritable(selection, expected), error
                        continue
                    assert may, error
                    assert may in str(error)
                    continue
            assert set(expected) <= set(delivered.fields), delivered.fields
            for column, array in expected.items():
                assert plain(delivered[column].tolist()) == plain(array.tolist()), column


def run_rounds(
    language: str, *, seed_by_default: int, rounds: int | None = None, seconds: float = math.inf
) -> None:
    """Run so many rounds of examples, or until the time is over, each from a seed of its own."""
    strategies, check = CHECKS[language]
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    how = settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=checks,
        report_multiple_bugs=False,
    )
    first = int(os.environ.get("SHOPPE_SEED") or seed_by_default)
    print(f"SHOPPE_SEED={first}")
    end = time.monotonic() + seconds
    for number in itertools.islice(itertools.count(first), rounds):
        seed(number)(how(given(**strategies)(noted(check, number))))()
        if time.monotonic() > end:
            return


def noted(check: Callable[..., None], number: int) -> Callable[..., None]:
    """Return a check whose failure tells the seed."""

    def example(**drawn: Any) -> None:
        note(f"SHOPPE_SEED={number}")
        check(**drawn)

    return example


def check_raw(tree: Tree, query: RawQuery) -> None:
    if tree.kind == "ttree":
        query = query.without_missing_values()
    try:
        expected = expected_of_raw(query, tree.branches)
    except (TypeError, IndexError):
        # NumPy does not subtract booleans, and a tree without events has no first one.
        reject()
    except ValueError as error:
        # awkward's where fails on missing lists, or does not, by how they are stored.
        assert "cannot broadcast" in str(error)
        reject()
    may = "no branch" if query.filters and not expected else ""
    may = "not supported" if query.across else may
    compare(tree, query.selection(), "uproot-raw", expected, may=may)


# FuncADL: texts in qastle, with the function of Python that gives the value for one event.


@dataclass(frozen=True)
class Part:
    text: str
    value: Callable[[dict[str, Any]], Any]
    """Of the names in its scope."""


Parts = st.SearchStrategy[Part]


def branch(name: str) -> Part:
    return Part(f"(attr e '{name}')", lambda scope: scope["e"][name])


def applied(text: str, function: Callable[..., Any], *parts: Part) -> Part:
    """Return a part in whose value a part that is missing makes all missing."""

    def value(scope: dict[str, Any]) -> Any:
        values = [part.value(scope) for part in parts]
        return None if any(one is None for one in values) else function(*values)

    return Part(text.format(*(part.text for part in parts)), value)


def chosen(test: Part, body: Part, other: Part) -> Part:
    """Return a part with the value of one of two: the other one may be missing."""

    def value(scope: dict[str, Any]) -> Any:
        holds = test.value(scope)
        return None if holds is None else (body if holds else other).value(scope)

    return Part(f"(if {test.text} {body.text} {other.text})", value)


SYMBOLS: dict[str, Callable[..., Any]] = {
    **{"+": operator.add, "-": operator.sub, "*": operator.mul},
    **{"<": operator.lt, "<=": operator.le, ">": operator.gt, "==": operator.eq},
    **{"and": lambda a, b: a and b, "or": lambda a, b: a or b},
}


def binary(left: Parts, symbols: str, right: Parts) -> Parts:
    return st.tuples(left, st.sampled_from(symbols.split()), right).map(
        lambda part: applied(f"({part[1]} {{}} {{}})", SYMBOLS[part[1]], part[0], part[2])
    )


def present(values: list[Any]) -> list[Any]:
    return [value for value in values if value is not None]


REDUCED: dict[str, Callable[[list[Any]], Any]] = {
    "Count": len,
    "Sum": lambda values: sum(present(values)),
    "Max": lambda values: max(present(values), default=None),
    "Min": lambda values: min(present(values), default=None),
}


def reduced(sequences: Parts) -> Parts:
    return st.tuples(st.sampled_from(sorted(REDUCED)), sequences).map(
        lambda part: applied(f"(call {part[0]} {{}})", REDUCED[part[0]], part[1])
    )


def quantified(sequences: Parts, conditions: Parts) -> Parts:
    def made(name: str, sequence: Part, condition: Part) -> Part:
        def value(scope: dict[str, Any]) -> Any:
            holds = [condition.value({**scope, "j": j}) for j in sequence.value(scope)]
            return {"Any": any, "All": all}[name](present(holds))

        return Part(f"(call {name} {sequence.text} (lambda (list j) {condition.text}))", value)

    return st.builds(made, st.sampled_from(["Any", "All"]), sequences, conditions)


def zipped(symbols: str, comparisons: str, numbers: Parts) -> Parts:
    """Return a number for each jet whose `Jet_id` passes, by records of both branches."""

    def made(symbol: str, comparison: str, number: Part) -> Part:
        def value(scope: dict[str, Any]) -> Any:
            limit = number.value(scope)
            pairs = zip(scope["e"]["Jet_pt"], scope["e"]["Jet_id"], strict=True)
            return [
                SYMBOLS[symbol](first, second)
                for first, second in pairs
                if limit is not None and SYMBOLS[comparison](second, limit)
            ]

        jets = "(dict (list 'first' 'second') (list (attr e 'Jet_pt') (attr e 'Jet_id')))"
        passing = f"(lambda (list j) ({comparison} (attr j 'second') {number.text}))"
        result = f"(lambda (list j) ({symbol} (attr j 'first') (attr j 'second')))"
        return Part(f"(call Select (call Where (call Zip {jets}) {passing}) {result})", value)

    operators = (st.sampled_from(symbols.split()), st.sampled_from(comparisons.split()))
    return st.builds(made, *operators, numbers)


def over(name: str, sequences: Parts, bodies: Parts) -> Parts:
    """Return Select, Where or an order of a sequence by a lambda of its elements."""

    def made(sequence: Part, body: Part) -> Part:
        def value(scope: dict[str, Any]) -> Any:
            elements = sequence.value(scope)
            results = [body.value({**scope, "j": j}) for j in elements]
            if name == "Select":
                return results
            if name == "Where":
                return [j for j, passes in zip(elements, results, strict=True) if passes]
            order = sorted(range(len(elements)), key=lambda i: results[i])
            if name == "OrderByDescending":
                order = sorted(range(len(elements)), key=lambda i: results[i], reverse=True)
            return [elements[i] for i in order]

        return Part(f"(call {name} {sequence.text} (lambda (list j) {body.text}))", value)

    return st.builds(made, sequences, bodies)


def contained(sequences: Parts, numbers: Parts) -> Parts:
    return st.tuples(sequences, numbers).map(
        lambda part: applied("(call Contains {} {})", lambda v, n: n in v, *part)
    )


ELEMENT = st.just(Part("j", lambda scope: scope["j"]))
WHOLE = st.integers(0, 2).map(lambda number: Part(str(number), lambda _: number))
MAYBE = Part("(attr e 'maybe')", lambda scope: scope["e"]["maybe"])
"""Missing in some events of an RNTuple."""
MEMBER = Part("(attr (attr e 'point') 'y')", lambda scope: scope["e"]["point"]["y"])
STAND_INS = {MAYBE.text: "(attr e 'x')", MEMBER.text: "(attr e 'w')"}
"""What a TTree has instead."""
EVENTS = st.sampled_from([branch(name) for name in ("event", "flag", "x", "nJet")]) | WHOLE
EVENTS = st.one_of(EVENTS, EVENTS, EVENTS, st.sampled_from([MAYBE, MEMBER]))
SEQUENCES = st.sampled_from([branch(name) for name in ("Jet_pt", "Jet_id", "other")])
PASSES = st.just(branch("ok")) | binary(EVENTS, "< <= > ==", EVENTS)
for _ in range(2):
    OF_ELEMENTS = ELEMENT | binary(ELEMENT, "+ - *", EVENTS)
    EVENTS, SEQUENCES, PASSES = (
        st.one_of(
            *(EVENTS, reduced(SEQUENCES), binary(EVENTS, "+ - *", EVENTS)),
            st.builds(chosen, PASSES, EVENTS, EVENTS),
            SEQUENCES.map(
                lambda part: applied(
                    "(call Count (call Choose {} 2))", lambda v: len(v) * (len(v) - 1) // 2, part
                )
            ),
        ),
        st.one_of(
            SEQUENCES,
            over("Select", SEQUENCES, OF_ELEMENTS),
            over("Where", SEQUENCES, binary(ELEMENT, "< > ==", EVENTS)),
            over("Where", SEQUENCES, contained(SEQUENCES, ELEMENT)),
            over("OrderBy", st.just(branch("Jet_id")), ELEMENT),
            over("OrderByDescending", st.just(branch("Jet_pt")), ELEMENT),
            st.tuples(SEQUENCES, SEQUENCES).map(
                lambda part: applied("(call Concat {} {})", operator.add, *part)
            ),
            zipped("+ - *", "< > ==", EVENTS),
        ),
        st.one_of(
            *(PASSES, binary(EVENTS, "< <= > ==", EVENTS), binary(PASSES, "and or", PASSES)),
            quantified(SEQUENCES, binary(ELEMENT, "< > ==", EVENTS)),
            PASSES.map(lambda part: applied("(not {})", operator.not_, part)),
            contained(SEQUENCES, WHOLE),
        ),
    )
LISTS = over("Select", SEQUENCES, SEQUENCES)
"""For each element a whole sequence, which may be refused."""
EXTREME = binary(reduced(SEQUENCES), "< >", WHOLE)
"""Of events without objects there is none."""
ELEMENTS_AT = {"(call First {})": 0, "(call Last {})": -1, "(call ElementAt {} 0)": 0}


@dataclass(frozen=True)
class FuncAdl:
    text: str
    expected: Callable[[list[Any], list[str]], dict[str, list[Any]]]
    """Of all events, as records, and the tree's branches."""
    may: str = ""
    """Words of the error by which the query may be refused."""

    def __repr__(self) -> str:
        return self.text


@st.composite
def funcadl_queries(draw: Any) -> FuncAdl:
    text, conditions = "(call EventDataset 'x' 't')", draw(st.lists(PASSES, max_size=2))
    if draw(st.booleans()):
        conditions.append(draw(EXTREME))
    kind = draw(
        st.sampled_from(["record", "record", "whole", "many", "first", "across", "lists", "lists"])
    )
    if kind == "first":
        conditions = [applied("(> {} 0)", bool, branch("nJet")), *conditions]
    if kind == "lists":
        # Of all events, since one in many examples has such a query.
        conditions = []
    for condition in conditions:
        text = f"(call Where {text} (lambda (list e) {condition.text}))"

    def events(every: list[Any]) -> list[dict[str, Any]]:
        return [
            {"e": e} for e in every if all(condition.value({"e": e}) for condition in conditions)
        ]

    if kind == "whole":
        return FuncAdl(
            text, lambda every, names: {n: [s["e"][n] for s in events(every)] for n in names}
        )
    if kind == "many":
        part = draw(SEQUENCES)
        rows = f"(call SelectMany {text} (lambda (list e) {part.text}))"
        return FuncAdl(
            rows, lambda every, _: {"value": [v for s in events(every) for v in part.value(s)]}
        )
    if kind == "first":
        form = draw(st.sampled_from(sorted(ELEMENTS_AT)))
        parts = [applied(form, lambda v: v[ELEMENTS_AT[form]], branch("Jet_pt"))]
    elif kind == "lists":
        parts = [draw(LISTS)]
    else:
        parts = draw(st.lists(EVENTS | SEQUENCES | PASSES, min_size=1, max_size=3))
    if kind == "across":
        total = "(+ (attr e 'event') (call sum (attr e 'nJet')))"
        return FuncAdl(
            f"(call Select {text} (lambda (list e) (dict (list 'c0') (list {total}))))",
            lambda every, _: {
                "c0": [
                    s["e"]["event"] + sum(t["e"]["nJet"] for t in events(every))
                    for s in events(every)
                ]
            },
            may="not supported",
        )
    names = [f"c{number}" for number in range(len(parts))]
    keys, values = " ".join(map(repr, names)), " ".join(part.text for part in parts)
    body = f"(dict (list {keys}) (list {values}))"
    return FuncAdl(
        f"(call Select {text} (lambda (list e) {body}))",
        lambda every, _: {
            name: [part.value(s) for s in events(every)]
            for name, part in zip(names, parts, strict=True)
        },
        may="uses a sequence as a whole" if kind == "lists" else "",
    )


def check_funcadl(tree: Tree, query: FuncAdl) -> None:
    every, text = ak.zip(tree.branches, depth_limit=1).to_list(), query.text
    if tree.kind == "ttree":
        every = [{**e, "maybe": e["x"], "point": {"y": e["w"]}} for e in every]
        for part, stand_in in STAND_INS.items():
            text = text.replace(part, stand_in)
    expected = {
        name: ak.Array(values) if values else ak.Array([])
        for name, values in query.expected(every, list(tree.branches)).items()
    }
    compare(tree, text, "uproot", expected, may=query.may)


CHECKS: dict[str, tuple[dict[str, Any], Callable[..., None]]] = {
    "uproot-raw": ({"tree": trees(), "query": raw_queries()}, check_raw),
    "funcadl": ({"tree": trees(), "query": funcadl_queries()}, check_funcadl),
}


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_queries_with_each_operator_are_drawn(name: str) -> None:
    how = settings(max_examples=2000, database=None, derandomize=True, phases=[Phase.generate])
    query = find(funcadl_queries(), lambda query: f"(call {name} " in query.text, settings=how)
    assert parse(query.text)


@pytest.mark.parametrize("language", CHECKS)
def test_delivery_is_what_uproot_gives(language: str) -> None:
    run_rounds(language, seed_by_default=1, rounds=CORE_ROUNDS)


@pytest.mark.part("properties")
@pytest.mark.parametrize("language", CHECKS)
def test_delivery_is_what_uproot_gives_of_many_queries(language: str) -> None:
    run_rounds(language, seed_by_default=time.time_ns() % 2**31, seconds=LONG_S)
