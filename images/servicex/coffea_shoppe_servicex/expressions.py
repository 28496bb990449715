"""Expressions over the branches of a tree, as uproot spells them, evaluated safely.

`Expression("sum(Jet_pt > 30)")` knows the names that it reads, before any file is
opened, and evaluates itself on arrays.  Names are branches, aliases, and the functions
of `functions`; nothing else can be reached.
"""

import ast
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from coffea_shoppe_servicex import functions
from coffea_shoppe_servicex.errors import QueryError


@dataclass(frozen=True)
class Expression:
    """One expression of a query."""

    text: str
    standard_axis: bool = False
    """Whether functions keep their own default of `axis`; else it is an event's objects."""
    body: ast.expr = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Parse it; raises `QueryError` where it cannot be evaluated whatever the branches."""
        try:
            body = ast.parse(self.text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError) as error:
            raise QueryError(f"expression {self.text!r}: {error.args[0]}") from error
        object.__setattr__(self, "body", body)
        self._check(body)

    def _check(self, node: ast.AST) -> None:
        """Raise `QueryError` for a part that no expression may have."""
        if isinstance(node, ast.Call):
            if functions.known(node.func) is None:
                called = ast.unparse(node.func)
                raise QueryError(f"expression {self.text!r}: there is no function {called!r} here")
            for part in (*node.args, *(keyword.value for keyword in node.keywords)):
                self._check(part)
            return
        if isinstance(node, ast.Attribute):
            if node.attr.startswith("_"):
                raise QueryError(f"expression {self.text!r}: {node.attr!r} cannot be read")
        elif isinstance(node, ast.Name):
            if node.id.startswith("__"):
                raise QueryError(f"expression {self.text!r}: {node.id!r} cannot be read")
        elif isinstance(node, ast.Constant):
            if not isinstance(node.value, int | float | str | type(None)):
                raise QueryError(f"expression {self.text!r}: {node.value!r} has no meaning here")
        elif not isinstance(node, _PARTS):
            kind = type(node).__name__
            raise QueryError(f"expression {self.text!r}: {kind} has no meaning here")
        for child in ast.iter_child_nodes(node):
            self._check(child)

    def names(self, is_known: Callable[[str], bool]) -> set[str]:
        """Return the branches and aliases that are read.

        `is_known` tells whether a name is one; a dotted name may be one as a whole.
        Names that are not known are returned as they are.
        """
        if is_known(self.text):
            return {self.text}
        found: set[str] = set()

        def visit(node: ast.AST) -> None:
            if isinstance(node, ast.Attribute) and functions.constant(node) is not None:
                return
            name = _dotted(node)
            if name is not None and (is_known(name) or isinstance(node, ast.Name)):
                found.add(name)
                return
            parts = ast.iter_child_nodes(node)
            if isinstance(node, ast.Call):
                parts = iter((*node.args, *(keyword.value for keyword in node.keywords)))
            for child in parts:
                visit(child)

        visit(self.body)
        return found

    def evaluate(self, read: Callable[[str], Any]) -> Any:
        """Return the value; `read` gives the array of a name, or None where there is none."""
        whole = read(self.text)
        return whole if whole is not None else self._value(self.body, read)

    def _value(self, node: ast.expr, read: Callable[[str], Any]) -> Any:
        match node:
            case ast.Constant():
                return node.value
            case ast.Name() | ast.Attribute():
                return self._named(node, read)
            case ast.UnaryOp(op=ast.Not()):
                return functions.call("numpy", "logical_not", [self._value(node.operand, read)], {})
            case ast.UnaryOp():
                return functions.UNARY[type(node.op)](self._value(node.operand, read))
            case ast.BinOp():
                left, right = self._value(node.left, read), self._value(node.right, read)
                return functions.BINARY[type(node.op)](left, right)
            case ast.BoolOp():
                name = "logical_and" if isinstance(node.op, ast.And) else "logical_or"
                return functions.logical(name, [self._value(v, read) for v in node.values])
            case ast.Compare():
                sides = [self._value(side, read) for side in (node.left, *node.comparators)]
                held = [
                    functions.COMPARE[type(op)](left, right)
                    for op, left, right in zip(node.ops, sides, sides[1:], strict=False)
                ]
                return functions.logical("logical_and", held)
            case ast.IfExp():
                return functions.where(
                    *(self._value(part, read) for part in (node.test, node.body, node.orelse))
                )
            case ast.Call():
                return self._called(node, read)
            case ast.Subscript():
                return self._value(node.value, read)[self._index(node.slice, read)]
            case ast.List() | ast.Tuple():
                return [self._value(part, read) for part in node.elts]
        raise QueryError(f"expression {self.text!r}: {type(node).__name__} has no meaning here")

    def _named(self, node: ast.expr, read: Callable[[str], Any]) -> Any:
        if (number := functions.constant(node)) is not None:
            return number
        name = _dotted(node)
        found = read(name) if name is not None else None
        if found is not None:
            return found
        if isinstance(node, ast.Attribute):
            holder = self._value(node.value, read)
            if node.attr in getattr(holder, "fields", ()):
                return holder[node.attr]
        raise QueryError(f"expression {self.text!r}: there is no {ast.unparse(node)!r}")

    def _called(self, node: ast.Call, read: Callable[[str], Any]) -> Any:
        module, name = functions.known(node.func) or ("", "")
        arguments = [self._value(part, read) for part in node.args]
        keywords = {k.arg: self._value(k.value, read) for k in node.keywords if k.arg}
        if not self.standard_axis and name in functions.WITH_AXIS:
            # Counted in what the function takes before it: combinations has a number first.
            places = 3 if name == "combinations" else 2
            if "axis" not in keywords and len(arguments) < places:
                keywords["axis"] = 1
        return functions.call(module, name, arguments, keywords)

    def _index(self, node: ast.expr, read: Callable[[str], Any]) -> Any:
        if isinstance(node, ast.Slice):
            bounds = (node.lower, node.upper, node.step)
            return slice(*(None if part is None else self._value(part, read) for part in bounds))
        if isinstance(node, ast.Tuple):
            return tuple(self._index(part, read) for part in node.elts)
        return self._value(node, read)


_PARTS = (
    *(ast.expr_context, ast.UnaryOp, ast.BinOp, ast.BoolOp, ast.Compare, ast.IfExp),
    *(ast.Subscript, ast.Slice, ast.List, ast.Tuple, ast.Not, ast.And, ast.Or),
    *(*functions.BINARY, *functions.COMPARE, *functions.UNARY),
)


def _dotted(node: ast.AST) -> str | None:
    """Return `a.b.c` for such a chain of names."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = _dotted(node.value)
        return None if before is None else f"{before}.{node.attr}"
    return None
