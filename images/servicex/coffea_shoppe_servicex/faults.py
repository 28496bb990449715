"""Faults of earlier code that made results wrong without an error, and whom they concern.

Each request stores the revision of the code that makes its results.  A fix that changes
results raises `REVISION`, and adds a `Fault` that tells from a stored request whether its
results may be wrong.  Results of an earlier revision are not reused.
"""

import ast
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from coffea_shoppe_contract.addresses import repeated

from coffea_shoppe_servicex import functions
from coffea_shoppe_servicex.codegen import Codegen
from coffea_shoppe_servicex.codegens.funcadl import FuncAdl, reads
from coffea_shoppe_servicex.codegens.uproot_raw import UprootRaw

REVISION = 1
"""Revision of the code's results.  Requests of earlier releases have 0."""
WITHOUT_VALUE = frozenset(["argmax", "argmin", "firsts", "max", "mean", "min", "Max", "Min"])
"""Functions that have no value for an event without objects."""
OVER_EVENTS = functions.REDUCERS | {"sort", "argsort", "local_index"}


@dataclass(frozen=True)
class Stored:
    """What is known of a request whose results are stored."""

    query: Codegen | None
    """None: the code refuses the selection now."""
    selection: str
    result_format: str
    paths: Sequence[str]
    """URLs of its files."""


@dataclass(frozen=True)
class Fault:
    """A fault that is mended."""

    name: str
    """Of its changelog fragment."""
    what: str
    """What the results of requests that it concerns may have."""
    revision: int
    """The first one without the fault."""
    concerns: Callable[[Stored], bool]
    by_files: bool = False
    """Whether it also depends on what the files contain: most such results are right."""


def _conditions(query: Codegen | None) -> Iterator[ast.AST | None]:
    """Yield the conditions on events; None for one that is no Python expression."""
    if isinstance(query, UprootRaw):
        for tree in query.trees:
            if tree.cut:
                yield tree.parsed(tree.cut).body
    elif isinstance(query, FuncAdl):
        for node in ast.walk(query.body):
            if type(node).__name__ == "Where":
                predicate = node.predicate  # type: ignore[attr-defined]
                yield predicate.body if isinstance(predicate, ast.Lambda) else predicate


def _is_boolean(node: ast.AST | None) -> bool:
    """Return whether a condition is a comparison, or is made of comparisons."""
    match node:
        case ast.Compare():
            return True
        case ast.BoolOp(values=parts):
            return all(_is_boolean(part) for part in parts)
        case ast.UnaryOp(op=ast.Not()):
            return True
        case ast.UnaryOp(op=ast.Invert(), operand=operand):
            return _is_boolean(operand)
        case ast.BinOp(op=ast.BitAnd() | ast.BitOr() | ast.BitXor(), left=left, right=right):
            return _is_boolean(left) and _is_boolean(right)
        case _:
            return type(node).__name__ in ("All", "Any") or bool(_called(node) & {"all", "any"})


def _called(node: ast.AST | None) -> set[str]:
    """Return the name of the function that a node calls."""
    known = functions.known(node.func) if isinstance(node, ast.Call) else None
    return {known[1]} if known else set()


def _names_within(node: ast.AST | None) -> set[str]:
    """Return the names of functions and of FuncADL's operators within a node."""
    names: set[str] = set()
    for part in ast.walk(node) if node is not None else ():
        names |= {type(part).__name__} | _called(part)
    return names


def _numeric_cut(stored: Stored) -> bool:
    return any(not _is_boolean(condition) for condition in _conditions(stored.query))


def _cut_without_value(stored: Stored) -> bool:
    return any(_names_within(node) & WITHOUT_VALUE for node in _conditions(stored.query))


def _over_events(stored: Stored) -> bool:
    query = stored.query
    if isinstance(query, FuncAdl):
        return bool(_names_within(query.body) & OVER_EVENTS)
    if isinstance(query, UprootRaw):
        for tree in query.trees:
            texts = [*(tree.expressions or ()), *tree.aliases.values()]
            for text in [*texts, tree.cut] if tree.cut else texts:
                body = tree.parsed(text).body
                if body is not None and any(map(_is_over_events, ast.walk(body))):
                    return True
    return query is None


def _is_over_events(node: ast.AST) -> bool:
    match node:
        case ast.keyword(arg="axis", value=ast.Constant(value=None | 0)):
            return True
        case ast.Subscript(slice=ast.Constant(value=int()) | ast.Slice()):
            return True
    return False


def _whole_events(stored: Stored) -> bool:
    return isinstance(stored.query, FuncAdl) and reads(stored.query.body, ()) is None


def _repeated_files(stored: Stored) -> bool:
    return bool(repeated(stored.paths))


def _masks(stored: Stored) -> bool:
    return stored.result_format == "root-rntuple" and "mask(" in stored.selection


def _names_branches(stored: Stored) -> bool:
    query = stored.query
    return isinstance(query, UprootRaw) and any(tree.expressions for tree in query.trees)


FAULTS = (
    Fault(
        "servicex-numeric-cuts",
        "a condition of integers or floats was taken as positions of events",
        1,
        _numeric_cut,
    ),
    Fault(
        "servicex-cut-without-value",
        "events for which the condition has no value are rows of nulls",
        1,
        _cut_without_value,
    ),
    Fault(
        "expressions-over-events",
        "an expression over all events was evaluated for parts of a file; it is refused now",
        1,
        _over_events,
    ),
    Fault(
        "funcadl-without-select",
        "only the branches of the condition were delivered",
        1,
        _whole_events,
    ),
    Fault(
        "repeated-files-of-datasets",
        "files that the dataset lists several times were transformed as often",
        1,
        _repeated_files,
    ),
    Fault(
        "rntuple-missing-values",
        "values after a missing one are shifted",
        1,
        _masks,
    ),
    Fault(
        "ambiguous-branches",
        "of several nested branches with the name of an expression, the last was delivered",
        1,
        _names_branches,
        by_files=True,
    ),
    Fault(
        "rntuple-variants",
        "a column of variants has the values of the file's first part in the others",
        1,
        lambda stored: stored.result_format == "root-rntuple",
        by_files=True,
    ),
    Fault(
        "records-beside-their-names",
        "a record `p` with the member `x` replaced the column `p_x`",
        1,
        lambda stored: stored.result_format == "root-file",
        by_files=True,
    ),
)


def faults_of(stored: Stored, revision: int, *, by_files: bool) -> list[Fault]:
    """Return the faults that may be in the results that code of a revision has made.

    With `by_files`, also those that depend on what the files contain.
    """
    return [
        fault
        for fault in FAULTS
        if revision < fault.revision and (by_files or not fault.by_files) and fault.concerns(stored)
    ]
