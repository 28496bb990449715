"""Faults of earlier code that made results wrong without an error, and whom they concern.

Each request stores the revision of the code that makes its results.  A fix that changes
results raises `REVISION`, and adds a `Fault` that tells from a stored request whether its
results may be wrong.  Results of an earlier revision are not reused.
"""

import ast
import enum
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from coffea_shoppe_contract.addresses import repeated

from coffea_shoppe_servicex import functions
from coffea_shoppe_servicex.codegen import Codegen
from coffea_shoppe_servicex.codegens.funcadl import FuncAdl, reads
from coffea_shoppe_servicex.codegens.uproot_raw import TreeQuery, UprootRaw

REVISION = 3
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


class _Aliases:
    """The aliases of a query, by which expressions may name others."""

    def __init__(self, tree: TreeQuery | None = None) -> None:
        self._tree = tree
        self._bodies: dict[str, ast.AST | None] = {}
        self._boolean: dict[str, bool] = {}
        """Whether aliases are conditions; False for those that are looked at."""
        names = tree.aliases if tree else {}
        self._bodies.update(dict.fromkeys(names))
        self._bodies.update({name: self.parsed(text) for name, text in names.items()})

    def parsed(self, text: str) -> ast.AST | None:
        """Return the node of an expression; None for the name of a branch that is no Python."""
        if text.strip() in self._bodies:
            return ast.Name(text.strip())
        return self._tree.parsed(text).body if self._tree else None

    def _alias(self, node: ast.AST | None) -> str:
        """Return the alias that a node names, or ''."""
        match node:
            case ast.Name() | ast.Attribute():
                name = ast.unparse(node)
            case ast.Call(func=ast.Name(id="get"), args=[ast.Constant(value=str(name))]):
                pass
            case _:
                return ""
        return name if name in self._bodies else ""

    def is_boolean(self, node: ast.AST | None) -> bool:
        """Return whether a condition is a comparison, or is made of comparisons."""
        if name := self._alias(node):
            if name not in self._boolean:
                # Within an alias, its own name is the branch of that name.
                self._boolean[name] = False
                self._boolean[name] = self.is_boolean(self._bodies[name])
            return self._boolean[name]
        match node:
            case ast.Compare():
                return True
            case ast.BoolOp(values=parts):
                return all(self.is_boolean(part) for part in parts)
            case ast.UnaryOp(op=ast.Not()):
                return True
            case ast.UnaryOp(op=ast.Invert(), operand=operand):
                return self.is_boolean(operand)
            case ast.BinOp(op=ast.BitAnd() | ast.BitOr() | ast.BitXor(), left=left, right=right):
                return self.is_boolean(left) and self.is_boolean(right)
            case _:
                return type(node).__name__ in ("All", "Any") or bool(_called(node) & {"all", "any"})

    def names_within(self, node: ast.AST | None) -> set[str]:
        """Return the names of functions and of FuncADL's operators within a node."""
        names: set[str] = set()
        pending, visited = [node], set[str]()
        while pending:
            for part in _walk(pending.pop()):
                names |= {type(part).__name__} | _called(part)
                if (alias := self._alias(part)) and alias not in visited:
                    visited.add(alias)
                    pending.append(self._bodies[alias])
        return names


def _walk(node: ast.AST | None) -> Iterator[ast.AST]:
    return ast.walk(node) if node is not None else iter(())


def _conditions(query: Codegen | None) -> Iterator[tuple[ast.AST | None, _Aliases]]:
    """Yield the conditions on events with their aliases; None for no Python expression."""
    if isinstance(query, UprootRaw):
        for tree in query.trees:
            if tree.cut:
                aliases = _Aliases(tree)
                yield aliases.parsed(tree.cut), aliases
    elif isinstance(query, FuncAdl):
        for node in ast.walk(query.body):
            if type(node).__name__ == "Where":
                predicate = node.predicate  # type: ignore[attr-defined]
                body = predicate.body if isinstance(predicate, ast.Lambda) else predicate
                yield body, _Aliases()


def _called(node: ast.AST | None) -> set[str]:
    """Return the name of the function that a node calls."""
    known = functions.known(node.func) if isinstance(node, ast.Call) else None
    return {known[1]} if known else set()


def _numeric_cut(stored: Stored) -> bool:
    return any(not aliases.is_boolean(node) for node, aliases in _conditions(stored.query))


def _cut_without_value(stored: Stored) -> bool:
    conditions = _conditions(stored.query)
    return any(aliases.names_within(node) & WITHOUT_VALUE for node, aliases in conditions)


class _Over(enum.Enum):
    """Whether a part of an expression goes over events."""

    OBJECTS = enum.auto()
    """It goes over an event's own objects, or over nothing."""
    EVENTS = enum.auto()
    EITHER = enum.auto()
    """It depends on the branches, which may be lists."""


def _list_without_value(stored: Stored) -> bool:
    names = WITHOUT_VALUE | {"mask"}
    if isinstance(stored.query, FuncAdl):
        return bool(_Aliases().names_within(stored.query.body) & names)
    conditions = _conditions(stored.query)
    return any(aliases.names_within(node) & names for node, aliases in conditions)


def _over_events(stored: Stored) -> bool:
    query = stored.query
    if isinstance(query, FuncAdl):
        calls = (node for node in ast.walk(query.body) if isinstance(node, ast.Call))
        over_events = any(_over(call, standard=True) is _Over.EVENTS for call in calls)
        return over_events or bool(_Aliases().names_within(query.body) & OVER_EVENTS)
    return query is None or _Over.EVENTS in _parts_over(query)


def _over_events_of_flat_branches(stored: Stored) -> bool:
    return not _over_events(stored) and _Over.EITHER in _parts_over(stored.query)


def _parts(query: Codegen | None) -> Iterator[tuple[TreeQuery, ast.AST]]:
    """Yield the parts of a query's expressions, each with what is read of its tree."""
    for tree in query.trees if isinstance(query, UprootRaw) else ():
        texts = [*(tree.expressions or ()), *tree.aliases.values()]
        for text in [*texts, tree.cut] if tree.cut else texts:
            for node in _walk(tree.parsed(text).body):
                yield tree, node


def _parts_over(query: Codegen | None) -> Iterator[_Over]:
    """Yield for each part of a query's expressions what it goes over."""
    for tree, node in _parts(query):
        yield _over(node, standard=tree.use_standard_awkward_axis)


def _over(node: ast.AST, *, standard: bool) -> _Over:
    """Return what a part of an expression goes over, by the axis or index that it gives.

    `standard`: functions keep their own default of `axis`.
    """
    if isinstance(node, ast.Subscript):
        return _over_index(node.slice)
    if not isinstance(node, ast.Call):
        return _Over.OBJECTS
    known = functions.known(node.func)
    if known is None or known[1] not in functions.OVER_AXIS:
        return _Over.OBJECTS
    axis = _axis(node, *known, standard=standard)
    first = node.args[0] if node.args else None
    if isinstance(first, ast.List | ast.Tuple) and known[1] not in functions.OF_ARRAYS:
        # Of several arrays, values are compared one by one along axis 0.
        return _Over.OBJECTS if axis == 0 else _Over.EVENTS
    if axis is None or axis == 0:
        return _Over.EVENTS
    return _Over.OBJECTS if isinstance(axis, int) and axis > 0 else _Over.EITHER


def _axis(node: ast.Call, module: str, name: str, *, standard: bool) -> object:
    """Return the axis of a function over events or objects; '' for one that is no constant."""
    parameters = functions.signature(module, name).parameters
    place = list(parameters).index("axis")
    given = [keyword.value for keyword in node.keywords if keyword.arg == "axis"]
    given += node.args[place : place + 1]
    if not given:
        return parameters["axis"].default if standard else 1
    try:
        return ast.literal_eval(given[0])
    except ValueError:
        return ""


def _over_index(index: ast.expr) -> _Over:
    """Return whether an index selects events by their positions."""
    first = index.elts[0] if isinstance(index, ast.Tuple) and index.elts else index
    match first:
        case ast.Slice(lower=None, upper=None, step=None) | ast.Constant(value=str()):
            return _Over.OBJECTS
        case ast.Slice() | ast.Constant() | ast.UnaryOp(operand=ast.Constant()):
            return _Over.EVENTS
        case ast.List(elts=parts):
            names = all(isinstance(p, ast.Constant) and isinstance(p.value, str) for p in parts)
            return _Over.OBJECTS if names else _Over.EVENTS
    # A mask, or positions of objects, or positions of events.
    return _Over.OBJECTS if _Aliases().is_boolean(first) else _Over.EITHER


def _inverted_constants(stored: Stored) -> bool:
    query = stored.query
    if isinstance(query, FuncAdl):
        return any(_inverts_constants(node, ()) for node in ast.walk(query.body))
    return any(_inverts_constants(node, tree.aliases) for tree, node in _parts(query))


def _inverts_constants(node: ast.AST, aliases: Iterable[str]) -> bool:
    """Return whether a part of an expression is `~` of constants and aliases."""
    if not (isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Invert)):
        return False
    return {part.id for part in ast.walk(node.operand) if isinstance(part, ast.Name)} <= {*aliases}


def _within_lambda(stored: Stored) -> bool:
    """Return whether a lambda of a FuncADL query is within another."""
    if not isinstance(stored.query, FuncAdl):
        return False
    lambdas = (node for node in ast.walk(stored.query.body) if isinstance(node, ast.Lambda))
    return any(isinstance(part, ast.Lambda) for node in lambdas for part in ast.walk(node.body))


def _all_branches(stored: Stored) -> bool:
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
        _all_branches,
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
        "expressions-over-events-2",
        "an expression over all events, if a branch in it is no list, was evaluated for parts of "
        "a file",
        1,
        _over_events_of_flat_branches,
        by_files=True,
    ),
    Fault(
        "changed-files",
        "a file that was overwritten before the request may have been read, or delivered, as it "
        "was earlier",
        1,
        lambda _: True,
        by_files=True,
    ),
    Fault(
        "missing-lists-in-cuts",
        "where a condition on objects, or a value of FuncADL's for each object, needs a value that "
        "the event lacks, the list of objects is null",
        2,
        _list_without_value,
        by_files=True,
    ),
    Fault(
        "inverted-constants",
        "`~` of a condition of constants, such as `~(1 > 0)`, was a number, and so always true",
        3,
        _inverted_constants,
    ),
    Fault(
        "sequences-within-lambdas",
        "a sequence that a lambda used as a whole was paired by position with its argument, where "
        "both have as many elements; such a query is refused now, but for Contains",
        3,
        _within_lambda,
        by_files=True,
    ),
    Fault(
        "misread-arrays",
        "a column of lists of arrays of Float16_t or Double32_t has other values than the file",
        3,
        lambda _: True,
        by_files=True,
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
