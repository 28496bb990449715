"""FuncADL queries over flat trees: parsed by qastle, evaluated on awkward arrays.

A query is LINQ over the events of a tree.  Each sequence lies along one axis of an
array; a lambda's argument stands for the elements along it, all at once.  What the
evaluation needs of an array it knows by its *lineage*: the sequences whose elements it
is of, outermost first.
"""

import ast
import difflib
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from coffea_shoppe_servicex import functions
from coffea_shoppe_servicex.errors import QueryError, TransformError

OPERATORS = frozenset(
    [
        "All",
        "Any",
        "Choose",
        "Concat",
        "Contains",
        "Count",
        "ElementAt",
        "First",
        "Last",
        "Max",
        "Min",
        "OrderBy",
        "OrderByDescending",
        "Select",
        "SelectMany",
        "Sum",
        "Where",
        "Zip",
    ]
)
REDUCERS = {"Sum": "sum", "Max": "max", "Min": "min", "All": "all", "Any": "any"}


@dataclass(frozen=True)
class Value:
    """An array, and the sequences whose elements it is of."""

    array: Any
    lineage: tuple[int, ...]

    @property
    def axis(self) -> int:
        """Return the axis along which a sequence lies."""
        return len(self.lineage)


def parse(text: str) -> ast.expr:
    """Return the query's tree; raises `QueryError` where it is none that can be evaluated."""
    import qastle

    try:
        module = qastle.insert_linq_nodes(qastle.text_ast_to_python_ast(text))
        body: ast.expr = module.body[0].value
    except Exception as error:
        told = (str(error).strip().splitlines() or [repr(error)])[0]
        raise QueryError(f"the query is no qastle that can be read: {told}") from error
    if not datasets(body):
        raise QueryError("the query has no EventDataset")
    _check(body)
    return body


def _check(node: ast.AST) -> None:
    """Raise `QueryError` for what no query may hold."""
    kind = type(node).__name__
    if kind == "Aggregate":
        raise QueryError("Aggregate is not supported; Sum, Min, Max, Count, Any and All are")
    if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
        raise QueryError(f"{node.attr!r} cannot be read")
    if isinstance(node, ast.Call) and not _is_dataset(node):
        if functions.known(node.func) is None:
            called = ast.unparse(node.func)
            told = f"there is no function {called!r}; branches are read without parentheses"
            raise QueryError(told)
        for part in node.args:
            _check(part)
        return
    for child in ast.iter_child_nodes(node):
        _check(child)


def _is_dataset(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "EventDataset"
    )


def datasets(node: ast.AST) -> list[ast.Call]:
    """Return the calls of EventDataset."""
    return [one for one in ast.walk(node) if isinstance(one, ast.Call) and _is_dataset(one)]


def tree_name(node: ast.AST) -> str | None:
    """Return the tree that the query names; None where it takes the file's only one."""
    for one in datasets(node):
        if len(one.args) > 1:
            return str(ast.literal_eval(one.args[1]))
    return None


def reads(node: ast.AST, branches: Iterable[str]) -> list[str]:
    """Return the branches of a tree that the query names; all where it names none."""
    known = list(branches)
    named = set()
    for one in ast.walk(node):
        if isinstance(one, ast.Attribute):
            named.add(one.attr)
        elif isinstance(one, ast.Constant) and isinstance(one.value, str):
            named.add(one.value)
    return [name for name in known if name in named] or known


def evaluate(node: ast.expr, events: Any, branches: Sequence[str] = ()) -> Any:
    """Return the query's result for some events of the tree: an array of records.

    `branches` are all that the tree has, for errors.  Raises `TransformError` where a
    branch is missing, or the query does not fit the tree.
    """
    import awkward as ak

    found = _Evaluator(events, branches).value(node, {})
    if not isinstance(found, Value) or found.lineage:
        raise TransformError("BadQuery", "the query's result is no sequence of events")
    array = found.array
    if not array.fields:
        return ak.zip({"value": array}, depth_limit=1)
    return ak.zip({name: array[name] for name in array.fields}, depth_limit=1)


class _Evaluator:
    def __init__(self, events: Any, branches: Sequence[str]) -> None:
        self.events, self.branches = events, branches
        self.numbers = itertools.count()

    def value(self, node: ast.expr, scope: dict[str, Value]) -> Any:
        """Return a node's value: a `Value`, or a constant."""
        kind = type(node).__name__
        if kind in OPERATORS:
            found: Value = getattr(self, f"_{kind.lower()}")(node, scope)
            return found
        if _is_dataset(node):
            return Value(self.events, ())
        match node:
            case ast.Constant():
                return node.value
            case ast.Name():
                if node.id not in scope:
                    raise TransformError("BadQuery", f"there is no {node.id!r} in the query")
                return scope[node.id]
            case ast.Attribute():
                if (number := functions.constant(node)) is not None:
                    return number
                return self._field(self.value(node.value, scope), node.attr)
            case ast.Subscript():
                return self._subscript(node, scope)
            case ast.Dict():
                names = [str(ast.literal_eval(key)) for key in node.keys if key is not None]
                return self._record(names, [self.value(one, scope) for one in node.values])
            case ast.List() | ast.Tuple():
                names = [str(number) for number in range(len(node.elts))]
                return self._record(names, [self.value(one, scope) for one in node.elts])
            case ast.UnaryOp(op=ast.Not()):
                operand = [self.value(node.operand, scope)]
                return self._with(
                    lambda x: functions.call("numpy", "logical_not", [x], {}), operand
                )
            case ast.UnaryOp():
                return self._with(functions.UNARY[type(node.op)], [self.value(node.operand, scope)])
            case ast.BinOp():
                sides = [self.value(side, scope) for side in (node.left, node.right)]
                return self._with(functions.BINARY[type(node.op)], sides)
            case ast.BoolOp():
                name = "logical_and" if isinstance(node.op, ast.And) else "logical_or"
                parts = [self.value(part, scope) for part in node.values]
                return self._with(lambda *held: functions.logical(name, list(held)), parts)
            case ast.Compare():
                return self._compare(node, scope)
            case ast.IfExp():
                parts = [self.value(part, scope) for part in (node.test, node.body, node.orelse)]
                return self._with(functions.where, parts)
            case ast.Call():
                module, name = functions.known(node.func) or ("", "")
                arguments = [self.value(part, scope) for part in node.args]
                return self._with(lambda *a: functions.call(module, name, list(a), {}), arguments)
        raise TransformError("BadQuery", f"{kind} is not supported in a query")

    def _with(self, function: Callable[..., Any], parts: list[Any]) -> Any:
        """Apply a function to values element by element."""
        lineage = self._common(parts)
        arrays = [part.array if isinstance(part, Value) else part for part in parts]
        result = function(*arrays)
        return result if lineage is None else Value(result, lineage)

    def _common(self, parts: Iterable[Any]) -> tuple[int, ...] | None:
        """Return the longest lineage; raises where two sequences meet that are not nested."""
        longest: tuple[int, ...] | None = None
        for part in parts:
            if not isinstance(part, Value):
                continue
            if longest is None or len(part.lineage) > len(longest):
                shorter, longest = longest or (), part.lineage
            else:
                shorter = part.lineage
            if longest[: len(shorter)] != shorter:
                told = "elements of two sequences meet; pair them by Zip, or take Choose"
                raise TransformError("BadQuery", told)
        return longest

    def _field(self, holder: Any, name: str) -> Value:
        if not isinstance(holder, Value):
            raise TransformError("BadQuery", f"{holder!r} has no {name!r}")
        fields = holder.array.fields
        if name not in fields:
            held = fields if holder.lineage[1:] else [*self.branches] or fields
            close = difflib.get_close_matches(name, held, 1)
            hint = f"; is it {close[0]!r}?" if close else f"; there are: {', '.join(held[:8])}"
            raise TransformError("MissingBranch", f"there is no branch {name!r}{hint}")
        return Value(holder.array[name], holder.lineage)

    def _subscript(self, node: ast.Subscript, scope: dict[str, Value]) -> Any:
        holder, index = self.value(node.value, scope), self.value(node.slice, scope)
        if isinstance(index, str):
            return self._field(holder, index)
        if isinstance(index, int) and isinstance(holder, Value):
            fields = holder.array.fields
            if fields and 0 <= index < len(fields):
                return Value(holder.array[fields[index]], holder.lineage)
            return self._at(holder, index)
        raise TransformError("BadQuery", f"{index!r} is no index")

    def _record(self, names: list[str], parts: list[Any]) -> Value:
        import awkward as ak

        lineage = self._common(parts) or ()
        arrays = {
            name: part.array if isinstance(part, Value) else part
            for name, part in zip(names, parts, strict=True)
        }
        return Value(ak.zip(arrays, depth_limit=max(len(lineage), 1)), lineage)

    def _compare(self, node: ast.Compare, scope: dict[str, Value]) -> Any:
        sides = [self.value(side, scope) for side in (node.left, *node.comparators)]

        def held(*arrays: Any) -> Any:
            found = []
            for op, left, right in zip(node.ops, arrays, arrays[1:], strict=False):
                if type(op) not in functions.COMPARE:
                    raise TransformError("BadQuery", f"{type(op).__name__} is not supported")
                found.append(functions.COMPARE[type(op)](left, right))
            return functions.logical("logical_and", found)

        return self._with(held, sides)

    # The operators of LINQ: what follows the underscore is qastle's name in small letters.

    def _sequence(self, node: Any, scope: dict[str, Value], name: str = "source") -> Value:
        found = self.value(getattr(node, name), scope)
        if not isinstance(found, Value):
            raise TransformError("BadQuery", f"{type(node).__name__} is of a constant")
        return found

    def _inner(self, node: Any, scope: dict[str, Value]) -> Value:
        """Return the sequence of an operator that reduces: within events alone."""
        found = self._sequence(node, scope)
        if found.axis == 0:
            name = type(node).__name__
            told = f"{name} of the whole dataset is not supported; sum up what each file gives"
            raise TransformError("BadQuery", told)
        return found

    def _applied(self, function: Any, source: Value, scope: dict[str, Value]) -> Any:
        """Return a lambda's body for all elements of a sequence."""
        if not isinstance(function, ast.Lambda) or len(function.args.args) != 1:
            raise TransformError("BadQuery", "a lambda of one argument is expected")
        element = Value(source.array, (*source.lineage, next(self.numbers)))
        found = self.value(function.body, {**scope, function.args.args[0].arg: element})
        if isinstance(found, Value):
            if found.lineage[: len(element.lineage)] == element.lineage:
                return found
            if found.lineage == element.lineage[: len(found.lineage)]:
                found = found.array
            else:
                raise TransformError("BadQuery", "a lambda gives elements of another sequence")
        # A constant, or the same for all elements.
        import awkward as ak

        like = source.array
        like = like[like.fields[0]] if like.fields else like
        while like.ndim > len(element.lineage):
            like = ak.num(like, axis=-1)
        return Value(ak.broadcast_arrays(like, found)[1], element.lineage)

    def _select(self, node: Any, scope: dict[str, Value]) -> Value:
        source = self._sequence(node, scope)
        return Value(self._applied(node.selector, source, scope).array, source.lineage)

    def _selectmany(self, node: Any, scope: dict[str, Value]) -> Value:
        import awkward as ak

        source = self._sequence(node, scope)
        found = self._applied(node.selector, source, scope)
        return Value(ak.flatten(found.array, axis=source.axis + 1), source.lineage)

    def _where(self, node: Any, scope: dict[str, Value]) -> Value:
        source = self._sequence(node, scope)
        mask = self._applied(node.predicate, source, scope)
        return Value(source.array[mask.array], source.lineage)

    def _count(self, node: Any, scope: dict[str, Value]) -> Value:
        import awkward as ak

        source = self._inner(node, scope)
        array = source.array
        return Value(
            ak.num(array[array.fields[0]] if array.fields else array, axis=source.axis),
            source.lineage,
        )

    def _reduced(self, node: Any, scope: dict[str, Value]) -> Value:
        source = self._inner(node, scope)
        array = source.array
        if getattr(node, "predicate", None) is not None:
            array = self._applied(node.predicate, source, scope).array
        name = REDUCERS[type(node).__name__]
        return Value(
            functions.call("awkward", name, [array], {"axis": source.axis}), source.lineage
        )

    _sum = _max = _min = _all = _any = _reduced

    def _at(self, source: Value, index: int) -> Value:
        import awkward as ak

        if source.axis == 0:
            raise TransformError("BadQuery", "one event of the dataset cannot be asked for")
        array = source.array
        counted = ak.num(array[array.fields[0]] if array.fields else array, axis=source.axis)
        short = counted <= index if index >= 0 else counted < -index
        if ak.any(short, axis=None):
            told = "an event has too few elements for First, Last or ElementAt; ask for Count first"
            raise TransformError("EmptySequence", told)
        return Value(array[(*[slice(None)] * source.axis, index)], source.lineage)

    def _first(self, node: Any, scope: dict[str, Value]) -> Value:
        return self._at(self._inner(node, scope), 0)

    def _last(self, node: Any, scope: dict[str, Value]) -> Value:
        return self._at(self._inner(node, scope), -1)

    def _elementat(self, node: Any, scope: dict[str, Value]) -> Value:
        return self._at(self._inner(node, scope), int(ast.literal_eval(node.index)))

    def _choose(self, node: Any, scope: dict[str, Value]) -> Value:
        import awkward as ak

        source, number = self._inner(node, scope), int(ast.literal_eval(node.n))
        return Value(ak.combinations(source.array, number, axis=source.axis), source.lineage)

    def _zip(self, node: Any, scope: dict[str, Value]) -> Value:
        import awkward as ak

        source = self._sequence(node, scope)
        array = source.array
        columns = {name: array[name] for name in array.fields}
        return Value(ak.zip(columns, depth_limit=source.axis + 1), source.lineage)

    def _ordered(self, node: Any, scope: dict[str, Value]) -> Value:
        import awkward as ak

        source = self._inner(node, scope)
        key = self._applied(node.key_selector, source, scope)
        ascending = type(node).__name__ == "OrderBy"
        order = ak.argsort(key.array, axis=source.axis, ascending=ascending, stable=True)
        return Value(source.array[order], source.lineage)

    _orderby = _orderbydescending = _ordered

    def _concat(self, node: Any, scope: dict[str, Value]) -> Value:
        import awkward as ak

        first, second = (self._sequence(node, scope, name) for name in ("first", "second"))
        if first.lineage != second.lineage or first.axis == 0:
            raise TransformError("BadQuery", "Concat joins two sequences of the same event")
        joined = ak.concatenate([first.array, second.array], axis=first.axis)
        return Value(joined, first.lineage)

    def _contains(self, node: Any, scope: dict[str, Value]) -> Value:
        import awkward as ak

        source = self._inner(node, scope)
        wanted = self.value(node.value, scope)
        wanted = wanted.array if isinstance(wanted, Value) else wanted
        return Value(ak.any(source.array == wanted, axis=source.axis), source.lineage)
