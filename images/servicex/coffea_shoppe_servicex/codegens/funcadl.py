"""uproot: FuncADL queries over flat trees, parsed by qastle, evaluated on awkward arrays.

A query is LINQ over the events of a tree.  Each sequence lies along one axis of an
array; a lambda's argument stands for the elements along it, all at once.  Each array
has a *lineage*: the sequences of whose elements it consists, outermost first.
"""

import ast
import difflib
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from coffea_shoppe_servicex import functions, root_files
from coffea_shoppe_servicex.codegen import Size, Source, TreeCodegen
from coffea_shoppe_servicex.errors import QueryError, TransformError, cause_of
from coffea_shoppe_servicex.formats import Format

if TYPE_CHECKING:
    from coffea_shoppe_servicex.writers import Writer

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
class FuncAdl(TreeCodegen):
    """A FuncADL query in qastle."""

    name = "uproot"
    description = "FuncADL over the events of a tree"

    body: ast.expr
    tree: str | None
    """The tree that the query names; None: the file's only tree."""

    @classmethod
    def parse(cls, selection: str, result_format: Format) -> Self:
        """Return the query of a selection; raises `QueryError`."""
        body = parse(selection)
        return cls(body, tree_name(body))

    def write(self, file: Any, source: Source, output: "Writer") -> int:
        """Write the query's columns; return how many entries were read."""
        import awkward as ak

        tree, columns = self._reads(file, source.shown)
        branches = root_files.Branches(tree, source.shown)
        counters = root_files.counters(tree, columns) if _are_events(self.body) else {}
        events = 0
        for start, stop, arrays in root_files.chunks(
            tree, sorted(set(columns.values())), source.shown
        ):
            selected = {name: arrays[path] for name, path in columns.items()}
            records = ak.zip(selected, depth_limit=1)
            output.extend(tree.name, evaluate(self.body, records, branches), counters)
            events += stop - start
        return events

    def estimate(self, file: Any, source: Source) -> Size:
        """Return what is read of the query's tree."""
        tree, columns = self._reads(file, source.shown)
        return Size.of([(tree, set(columns.values()))])

    def _reads(self, file: Any, url: str) -> tuple[Any, dict[str, str]]:
        """Return the query's tree, and the paths of the branches that are read by their names.

        Raises `TransformError`.
        """
        name = self.tree
        if name is None:
            names = root_files.tree_names(file)
            if len(names) != 1:
                message = (
                    f"{url}: name a tree in the query; it contains: {', '.join(names) or 'none'}"
                )
                raise TransformError("MissingTree", message)
            (name,) = names
        tree = root_files.tree_of(file, name, url)
        branches = root_files.Branches(tree, url)
        named = reads(self.body, branches.names())
        if named:
            return tree, {name: branches.path(name) for name in named}
        every = root_files.column_branches(tree, url)
        # Without any branch, the first one gives the number of events.
        return tree, every if named is None else dict(list(every.items())[:1])


@dataclass(frozen=True)
class Value:
    """An array, and the sequences of whose elements it consists."""

    array: Any
    lineage: tuple[int, ...]

    @property
    def axis(self) -> int:
        """Return the axis along which a sequence lies."""
        return len(self.lineage)


def parse(text: str) -> ast.expr:
    """Return the syntax tree of a query; raises `QueryError` if it cannot be evaluated."""
    import qastle

    try:
        module = qastle.insert_linq_nodes(qastle.text_ast_to_python_ast(text))
        body: ast.expr = module.body[0].value
    except Exception as error:
        raise QueryError(f"the query is not valid qastle: {cause_of(error)}") from error
    if not datasets(body):
        raise QueryError("the query has no EventDataset")
    _check(body)
    return body


def _check(node: ast.AST) -> None:
    """Raise `QueryError` for a part that no query may have."""
    kind = type(node).__name__
    if kind == "Aggregate":
        raise QueryError("Aggregate is not supported; Sum, Min, Max, Count, Any and All are")
    if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
        raise QueryError(f"{node.attr!r} cannot be an attribute; write e[{node.attr!r}]")
    if isinstance(node, ast.Call) and not _is_dataset(node):
        if functions.known(node.func) is None:
            problem = functions.unknown(node.func)
            raise QueryError(f"{problem}; branches are read without parentheses")
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
    return [call for call in ast.walk(node) if isinstance(call, ast.Call) and _is_dataset(call)]


def tree_name(node: ast.AST) -> str | None:
    """Return the tree that the query names; None if it reads the file's only tree."""
    for call in datasets(node):
        if len(call.args) > 1:
            return str(ast.literal_eval(call.args[1]))
    return None


def reads(node: ast.AST, branches: Iterable[str]) -> list[str] | None:
    """Return the branches of a tree that the query names; None if it reads all of them."""
    if _takes_events(node, frozenset()):
        return None
    known = list(branches)
    named = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Attribute):
            named.add(part.attr)
        elif isinstance(part, ast.Subscript) and isinstance(part.slice, ast.Constant):
            named.add(str(part.slice.value))
    return [name for name in known if name in named]


def _takes_events(node: ast.AST, events: frozenset[str], *, bound: bool = False) -> bool:
    """Return whether a part of the query uses entire events, not only named branches.

    `events` are the lambda arguments that are events.  The result of a part that is `bound`
    is the argument of a lambda.
    """
    if _is_dataset(node):
        return not bound
    match node:
        case ast.Name():
            return node.id in events
        case ast.Attribute(value=ast.Name()):
            return False
        case ast.Subscript(value=ast.Name(), slice=ast.Constant(value=str())):
            return False
    function = getattr(node, "selector", None) or getattr(node, "predicate", None)
    source = getattr(node, "source", None)
    if source is None or not isinstance(function, ast.Lambda):
        return any(_takes_events(part, events) for part in ast.iter_child_nodes(node))
    if _are_events(node) and not bound:
        return True
    arguments = {argument.arg for argument in function.args.args}
    of_events = _are_events(source)
    names = events | arguments if of_events else events - arguments
    return _takes_events(source, events, bound=of_events) or _takes_events(function.body, names)


def _are_events(node: ast.AST) -> bool:
    """Return whether a part of the query is the tree's events, or a selection of them."""
    if type(node).__name__ == "Where" or _is_identity(node):
        return _are_events(node.source)  # type: ignore[attr-defined]
    return _is_dataset(node)


def _is_identity(node: ast.AST) -> bool:
    """Return whether a part of the query is a Select that gives each element as it is."""
    match getattr(node, "selector", None):
        case ast.Lambda(args=ast.arguments(args=[ast.arg(arg=name)]), body=ast.Name(id=result)):
            return type(node).__name__ == "Select" and name == result
    return False


def evaluate(node: ast.expr, events: Any, branches: root_files.Branches) -> Any:
    """Return the query's result for some events of the tree: an array of records.

    `branches` are all branches of the tree, for error messages.  Raises `TransformError` if a
    branch is missing, or if the query does not fit the tree.
    """
    import awkward as ak

    result = _Evaluator(events, branches).value(node, {})
    if not isinstance(result, Value) or result.lineage:
        raise TransformError("BadQuery", "the query's result is not a sequence of events")
    array = result.array
    if not array.fields:
        return ak.zip({"value": array}, depth_limit=1)
    return ak.zip({name: array[name] for name in array.fields}, depth_limit=1)


def _check_no_list(value: Value) -> None:
    """Raise `TransformError` for a sequence that a lambda uses as a whole."""
    _, depth = value.array.layout.minmax_depth
    if depth > len(value.lineage):
        message = "a lambda uses a sequence as a whole beside its argument; reduce it (Count, Sum, "
        message += "Any, ...), go over it by a lambda that uses both, or pair the two by Zip"
        raise TransformError("BadQuery", message)


def _number(node: ast.AST, name: str) -> int:
    """Return the constant whole number that is an argument of an operator."""
    try:
        number = ast.literal_eval(node)
    except ValueError:
        number = None
    if not isinstance(number, int):
        raise TransformError("BadQuery", f"{name} takes a constant whole number")
    return number


def _at_elements(parts: list[Any], lineage: tuple[int, ...]) -> list[Any]:
    """Return values of which those that may be missing are values of the innermost elements.

    A value that an event lacks is missing for each of its objects: their list is not missing.
    """
    import awkward as ak

    innermost = next(
        (part.array for part in parts if isinstance(part, Value) and part.lineage == lineage), None
    )
    result = []
    for part in parts:
        is_outer = isinstance(part, Value) and len(part.lineage) < len(lineage)
        if innermost is None or not is_outer or not _may_be_missing(part):
            result.append(part)
            continue
        column = innermost[innermost.fields[0]] if innermost.fields else innermost
        like = ak.local_index(column, axis=len(lineage) - 1)
        axis = len(part.lineage) - 1
        missing, value, _ = ak.broadcast_arrays(
            *(ak.is_none(part.array, axis=axis), _without_none(part.array, axis), like),
            depth_limit=len(lineage),
        )
        result.append(Value(ak.mask(value, missing, valid_when=False), lineage))
    return result


def _may_be_missing(value: Value) -> bool:
    """Return whether the innermost elements of a value, which are no lists, may be missing."""
    import awkward as ak

    content = value.array.type.content
    for _ in value.lineage[1:]:
        content = getattr(content, "content", content)
    is_number = isinstance(getattr(content, "content", None), ak.types.NumpyType)
    return isinstance(content, ak.types.OptionType) and is_number


def _without_none(array: Any, axis: int) -> Any:
    """Return an array of numbers in which any number of the same type is in place of None."""
    import awkward as ak

    number = ak.to_numpy(ak.drop_none(ak.flatten(array, axis=None))).dtype.type(0)
    return ak.fill_none(array, number, axis=axis)


class _Evaluator:
    def __init__(self, events: Any, branches: root_files.Branches) -> None:
        self.events, self.branches = events, branches
        self.numbers = itertools.count()
        self.needed: list[Value] = []
        """Conditions under which the part that is evaluated is needed."""

    def value(self, node: ast.expr, scope: dict[str, Value]) -> Any:
        """Return a node's value: a `Value`, or a constant."""
        kind = type(node).__name__
        if kind in OPERATORS:
            result: Value = getattr(self, f"_{kind.lower()}")(node, scope)
            return result
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
                return self._record(names, [self.value(part, scope) for part in node.values])
            case ast.List() | ast.Tuple():
                names = [str(number) for number in range(len(node.elts))]
                return self._record(names, [self.value(part, scope) for part in node.elts])
            case ast.UnaryOp(op=ast.Not()):
                operand = [self.value(node.operand, scope)]
                return self._with(
                    lambda array: functions.call("numpy", "logical_not", [array], {}), operand
                )
            case ast.UnaryOp():
                return self._with(functions.UNARY[type(node.op)], [self.value(node.operand, scope)])
            case ast.BinOp():
                sides = [self.value(side, scope) for side in (node.left, node.right)]
                return self._with(functions.BINARY[type(node.op)], sides)
            case ast.BoolOp():
                return self._joined(node, scope)
            case ast.Compare():
                return self._compare(node, scope)
            case ast.IfExp():
                test = self.value(node.test, scope)
                body = self._where_needed(node.body, scope, test, if_true=True)
                other = self._where_needed(node.orelse, scope, test, if_true=False)
                return self._with(functions.where, self._broadcast([test, body, other]))
            case ast.Call():
                module, name = functions.known(node.func) or ("", "")
                arguments = [self.value(part, scope) for part in node.args]
                within = max(len(self._common(arguments) or ()), 1)
                return self._with(
                    lambda *a: functions.call(module, name, list(a), {}, within=within), arguments
                )
        raise TransformError("BadQuery", f"{kind} is not supported in a query")

    def _broadcast(self, parts: list[Any]) -> list[Any]:
        """Return values of which each has the elements of the innermost sequence."""
        import awkward as ak

        lineage = self._common(parts)
        if not lineage or all(getattr(part, "lineage", lineage) == lineage for part in parts):
            return parts
        parts = _at_elements(parts, lineage)
        arrays = [part.array if isinstance(part, Value) else part for part in parts]
        return [
            Value(array, lineage)
            for array in ak.broadcast_arrays(*arrays, depth_limit=len(lineage))
        ]

    def _where_needed(
        self, node: ast.expr, scope: dict[str, Value], test: Any, *, if_true: bool
    ) -> Any:
        """Return a node's value that is needed only where a test is true, or false.

        Elsewhere, a sequence may be too short for First, Last or ElementAt.
        """
        if not isinstance(test, Value):
            return self.value(node, scope)
        passes = functions.passing(test.array)
        self.needed.append(Value(passes if if_true else ~passes, test.lineage))
        try:
            return self.value(node, scope)
        finally:
            self.needed.pop()

    def _joined(self, node: ast.BoolOp, scope: dict[str, Value]) -> Any:
        """Return the value of `and` or `or`; as in Python, the first part can decide it."""
        is_and = isinstance(node.op, ast.And)
        first, *others = node.values
        joined = self.value(first, scope)
        for other in others:
            part = self._where_needed(other, scope, joined, if_true=is_and)
            name = "logical_and" if is_and else "logical_or"
            joined = self._with(lambda *a, n=name: functions.logical(n, list(a)), [joined, part])
        return joined

    def _is_needed(self, lineage: tuple[int, ...]) -> Any:
        """Return where a value of some lineage is needed: an array of booleans, or True."""
        import awkward as ak

        needed: Any = True
        for condition in self.needed:
            mask, depth = condition.array, len(condition.lineage)
            shorter = min(depth, len(lineage))
            if condition.lineage[:shorter] != lineage[:shorter]:
                continue
            for axis in range(depth, len(lineage), -1):
                mask = ak.any(mask, axis=axis - 1)
            needed = needed & mask
        return needed

    def _with(self, function: Callable[..., Any], parts: list[Any]) -> Any:
        """Apply a function to values element by element."""
        lineage = self._common(parts)
        parts = _at_elements(parts, lineage or ())
        arrays = [part.array if isinstance(part, Value) else part for part in parts]
        result = function(*arrays)
        return result if lineage is None else Value(result, lineage)

    def _common(self, parts: Iterable[Any]) -> tuple[int, ...] | None:
        """Return the longest lineage.

        Raises `TransformError` for sequences that are not nested, and for those that are used as
        a whole beside an element: their elements would be paired by position.
        """
        values = [part for part in parts if isinstance(part, Value)]
        longest: tuple[int, ...] | None = None
        for part in values:
            if longest is None or len(part.lineage) > len(longest):
                shorter, longest = longest or (), part.lineage
            else:
                shorter = part.lineage
            if longest[: len(shorter)] != shorter:
                message = "an expression combines elements of two sequences; pair them by Zip, "
                message += "or use Choose"
                raise TransformError("BadQuery", message)
        for part in values:
            if len(part.lineage) < len(longest or ()):
                _check_no_list(part)
        return longest

    def _field(self, holder: Any, name: str) -> Value:
        if not isinstance(holder, Value):
            raise TransformError("BadQuery", f"{holder!r} has no {name!r}")
        fields = holder.array.fields
        if name not in fields:
            of_event = fields == self.events.fields
            if of_event and name in self.branches:
                self.branches.path(name)
            choices = self.branches.names() if of_event else fields
            close = difflib.get_close_matches(name, choices, 1)
            hint = f"; is it {close[0]!r}?" if close else f"; there are: {', '.join(choices[:8])}"
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
        raise TransformError("BadQuery", f"{index!r} is not an index")

    def _record(self, names: list[str], parts: list[Any]) -> Value:
        import awkward as ak

        lineage = self._common(parts) or ()
        parts = _at_elements(parts, lineage)
        arrays = {
            name: part.array if isinstance(part, Value) else part
            for name, part in zip(names, parts, strict=True)
        }
        return Value(ak.zip(arrays, depth_limit=max(len(lineage), 1)), lineage)

    def _compare(self, node: ast.Compare, scope: dict[str, Value]) -> Any:
        sides = [self.value(side, scope) for side in (node.left, *node.comparators)]

        def compare(*arrays: Any) -> Any:
            comparisons = []
            for op, left, right in zip(node.ops, arrays, arrays[1:], strict=False):
                if type(op) not in functions.COMPARE:
                    raise TransformError("BadQuery", f"{type(op).__name__} is not supported")
                comparisons.append(functions.COMPARE[type(op)](left, right))
            return functions.logical("logical_and", comparisons)

        return self._with(compare, sides)

    # The operators of LINQ; a method's name is that of qastle in lower case.

    def _sequence(self, node: Any, scope: dict[str, Value], name: str = "source") -> Value:
        sequence = self.value(getattr(node, name), scope)
        if not isinstance(sequence, Value):
            raise TransformError(
                "BadQuery", f"{type(node).__name__} of a constant is not supported"
            )
        return sequence

    def _inner(self, node: Any, scope: dict[str, Value]) -> Value:
        """Return the sequence that an operator reduces, which must be within events."""
        sequence = self._sequence(node, scope)
        if sequence.axis == 0:
            name = type(node).__name__
            message = f"{name} of the whole dataset is not supported; sum up what each file gives"
            raise TransformError("BadQuery", message)
        return sequence

    def _applied(self, function: Any, source: Value, scope: dict[str, Value]) -> Any:
        """Return a lambda's body for all elements of a sequence."""
        if not isinstance(function, ast.Lambda) or len(function.args.args) != 1:
            raise TransformError("BadQuery", "a lambda of one argument is expected")
        element = Value(source.array, (*source.lineage, next(self.numbers)))
        result = self.value(function.body, {**scope, function.args.args[0].arg: element})
        if isinstance(result, Value):
            _, result = _at_elements([element, result], element.lineage)
            if result.lineage[: len(element.lineage)] == element.lineage:
                return result
            if result.lineage == element.lineage[: len(result.lineage)]:
                _check_no_list(result)
                result = result.array
            else:
                message = "a lambda returns elements of another sequence than its argument's; "
                message += "use its argument, or pair the two by Zip"
                raise TransformError("BadQuery", message)
        # A constant, or the same for all elements.
        import awkward as ak

        like = source.array
        like = like[like.fields[0]] if like.fields else like
        while like.ndim > len(element.lineage):
            like = ak.num(like, axis=-1)
        return Value(ak.broadcast_arrays(like, result)[1], element.lineage)

    def _for_each(self, function: Any, source: Value, scope: dict[str, Value]) -> Value:
        """Return a sequence once for each element of the sequences that a lambda looks at.

        So `Where(jet: muons.Where(muon: muon > jet).Count() == 0)` compares each muon with
        each jet.
        """
        import awkward as ak

        if not isinstance(function, ast.Lambda) or source.axis == 0:
            return source
        own = {argument.arg for argument in function.args.args}
        names = {part.id for part in ast.walk(function.body) if isinstance(part, ast.Name)} - own
        outer = max(
            (scope[name] for name in names if name in scope),
            key=lambda value: len(value.lineage),
            default=source,
        )
        if outer.lineage[: source.axis] != source.lineage:
            return source
        array = source.array
        for axis in range(source.axis, outer.axis):
            like = ak.local_index(outer.array, axis=axis)
            array = ak.cartesian({"outer": like, "own": array}, axis=axis, nested=True)["own"]
        return Value(array, outer.lineage)

    def _select(self, node: Any, scope: dict[str, Value]) -> Value:
        source = self._for_each(node.selector, self._sequence(node, scope), scope)
        return Value(self._applied(node.selector, source, scope).array, source.lineage)

    def _selectmany(self, node: Any, scope: dict[str, Value]) -> Value:
        import awkward as ak

        source = self._for_each(node.selector, self._sequence(node, scope), scope)
        inner = self._applied(node.selector, source, scope)
        return Value(ak.flatten(inner.array, axis=source.axis + 1), source.lineage)

    def _where(self, node: Any, scope: dict[str, Value]) -> Value:
        source = self._for_each(node.predicate, self._sequence(node, scope), scope)
        mask = functions.passing(self._applied(node.predicate, source, scope).array)
        if mask.ndim != source.axis + 1:
            problem = "Where's condition gives a list for each element"
            raise TransformError("BadQuery", f"{problem}; reduce it by Any, All or Count")
        array = source.array
        column = array[array.fields[0]] if array.fields else array
        return Value(array[functions.filled(mask, column)], source.lineage)

    def _count(self, node: Any, scope: dict[str, Value]) -> Value:
        import awkward as ak

        source = self._inner(node, scope)
        array = source.array
        return Value(
            ak.num(array[array.fields[0]] if array.fields else array, axis=source.axis),
            source.lineage,
        )

    def _reduced(self, node: Any, scope: dict[str, Value]) -> Value:
        predicate = getattr(node, "predicate", None)
        source = self._for_each(predicate, self._inner(node, scope), scope)
        array = source.array
        if predicate is not None:
            array = self._applied(predicate, source, scope).array
        name = REDUCERS[type(node).__name__]
        return Value(
            functions.call("awkward", name, [array], {}, within=source.axis), source.lineage
        )

    _sum = _max = _min = _all = _any = _reduced

    def _at(self, source: Value, index: int) -> Value:
        import awkward as ak

        if source.axis == 0:
            raise TransformError("BadQuery", "a single event of the dataset cannot be selected")
        array = source.array
        counted = ak.num(array[array.fields[0]] if array.fields else array, axis=source.axis)
        short = counted <= index if index >= 0 else counted < -index
        if ak.any(short & self._is_needed(source.lineage), axis=None):
            problem = "an event has too few elements for First, Last or ElementAt"
            raise TransformError("EmptySequence", f"{problem}; select events by Count first")
        position = (*[slice(None)] * source.axis, index)
        if not ak.any(short, axis=None):
            return Value(array[position], source.lineage)

        def element(lists: Any) -> Any:
            # What stands where no element is needed does not matter.
            padded = ak.pad_none(lists, index + 1 if index >= 0 else -index, axis=source.axis)
            filler: Any = []
            if lists.ndim == source.axis + 1:
                filler = ak.to_numpy(ak.flatten(lists, axis=None)).dtype.type(0)
            return ak.fill_none(padded[position], filler, axis=source.axis - 1)

        if array.fields:
            elements = ak.zip(
                {name: element(array[name]) for name in array.fields}, depth_limit=source.axis
            )
        else:
            elements = element(array)
        return Value(elements, source.lineage)

    def _first(self, node: Any, scope: dict[str, Value]) -> Value:
        return self._at(self._inner(node, scope), 0)

    def _last(self, node: Any, scope: dict[str, Value]) -> Value:
        return self._at(self._inner(node, scope), -1)

    def _elementat(self, node: Any, scope: dict[str, Value]) -> Value:
        return self._at(self._inner(node, scope), _number(node.index, "ElementAt"))

    def _choose(self, node: Any, scope: dict[str, Value]) -> Value:
        import awkward as ak

        source, number = self._inner(node, scope), _number(node.n, "Choose")
        return Value(ak.combinations(source.array, number, axis=source.axis), source.lineage)

    def _zip(self, node: Any, scope: dict[str, Value]) -> Value:
        import awkward as ak

        source = self._sequence(node, scope)
        array = source.array
        columns = {name: array[name] for name in array.fields}
        return Value(ak.zip(columns, depth_limit=source.axis + 1), source.lineage)

    def _ordered(self, node: Any, scope: dict[str, Value]) -> Value:
        import awkward as ak

        source = self._for_each(node.key_selector, self._inner(node, scope), scope)
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

        argument = f"element{next(self.numbers)}"
        arguments = ast.arguments([], [ast.arg(argument)], None, [], [], None, [])
        equals = ast.Compare(ast.Name(argument), [ast.Eq()], [node.value])
        function = ast.Lambda(arguments, equals)
        source = self._for_each(function, self._inner(node, scope), scope)
        array = self._applied(function, source, scope).array
        return Value(ak.any(array, axis=source.axis), source.lineage)
