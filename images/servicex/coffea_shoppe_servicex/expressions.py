"""Expressions over the branches of a tree, as uproot spells them, evaluated safely.

`Expression("sum(Jet_pt > 30)")` knows the names that it reads, before any file is
opened, and evaluates itself on arrays.  Names are branches, aliases, and the functions
of `functions`; nothing else can be reached.
"""

import ast
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from coffea_shoppe_servicex import functions
from coffea_shoppe_servicex.errors import QueryError

BRANCH_NAME = re.compile(r"[\w.+\-*/#@$%;~:]*[\w.+\-*/#@$%;~]( [\w.+\-*/#@$%;~]+)*")
"""What is refused as Python, and may still be the name of a branch."""
GET = "a branch whose name is not a Python identifier is read by get('NAME') within an expression"


@dataclass(frozen=True)
class Expression:
    """One expression of a query."""

    text: str
    standard_axis: bool = False
    """Whether functions keep their own default of `axis`; else it is an event's objects."""
    body: ast.expr | None = field(init=False, repr=False)
    """None for a text that is not Python; it may be the name of a branch."""

    def __post_init__(self) -> None:
        """Parse the text; raises `QueryError` if it cannot be evaluated on any tree."""
        text = self.text.strip()
        try:
            body = ast.parse(text, mode="eval").body
        except (SyntaxError, ValueError, RecursionError) as error:
            if not BRANCH_NAME.fullmatch(text):
                raise QueryError(f"expression {text!r}: {error.args[0]}; {GET}") from error
            object.__setattr__(self, "body", None)
            return
        object.__setattr__(self, "body", body)
        self._check(body)

    def _check(self, node: ast.AST) -> None:
        """Raise `QueryError` for a part that no expression may have."""
        if isinstance(node, ast.Call):
            if _is_get(node):
                if _gotten(node) is None:
                    raise QueryError(f"expression {self.text!r}: {GET}")
                return
            if functions.known(node.func) is None:
                raise QueryError(f"expression {self.text!r}: {functions.unknown(node.func)}")
            for part in (*node.args, *(keyword.value for keyword in node.keywords)):
                self._check(part)
            return
        if isinstance(node, ast.Attribute):
            if node.attr.startswith("_"):
                raise QueryError(f"expression {self.text!r}: {node.attr!r} cannot be read")
        elif isinstance(node, ast.Constant):
            if not isinstance(node.value, int | float | str | type(None)):
                raise QueryError(f"expression {self.text!r}: {node.value!r} is not supported")
        elif not isinstance(node, _PARTS):
            kind = type(node).__name__
            raise QueryError(f"expression {self.text!r}: {kind} is not supported")
        for child in ast.iter_child_nodes(node):
            self._check(child)

    def names(self, is_known: Callable[[str], bool]) -> set[str]:
        """Return the branches and aliases that are read.

        `is_known` returns whether a name is a branch or alias; a dotted name may be one.
        Names that are not known are returned as they are.
        """
        text = self.text.strip()
        if is_known(text):
            return {text}
        names: set[str] = set()

        def visit(node: ast.AST) -> None:
            name = _gotten(node) if isinstance(node, ast.Call) else _dotted(node)
            is_name = isinstance(node, ast.Name | ast.Call)
            if name is not None and (is_known(name) or is_name):
                names.add(name)
                return
            if isinstance(node, ast.Attribute) and functions.constant(node) is not None:
                return
            parts = ast.iter_child_nodes(node)
            if isinstance(node, ast.Call):
                parts = iter((*node.args, *(keyword.value for keyword in node.keywords)))
            for child in parts:
                visit(child)

        visit(self._parsed())
        return names

    def _parsed(self) -> ast.expr:
        """Return the body; raises `QueryError` for a text that only can be a branch's name."""
        if self.body is None:
            raise QueryError(f"{self.text!r} is neither a branch nor an expression; {GET}")
        return self.body

    def evaluate(self, read: Callable[[str], Any]) -> Any:
        """Return the value; `read` returns the array of a name, or None for an unknown name."""
        branch = read(self.text.strip())
        return branch if branch is not None else self._value(self._parsed(), read)

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
                comparisons = [
                    functions.COMPARE[type(op)](left, right)
                    for op, left, right in zip(node.ops, sides, sides[1:], strict=False)
                ]
                return functions.logical("logical_and", comparisons)
            case ast.IfExp():
                return functions.where(
                    *(self._value(part, read) for part in (node.test, node.body, node.orelse))
                )
            case ast.Call():
                return self._called(node, read)
            case ast.Subscript():
                holder, index = self._value(node.value, read), self._index(node.slice, read)
                functions.check_index(holder, index)
                return holder[index]
            case ast.List() | ast.Tuple():
                return [self._value(part, read) for part in node.elts]
        raise QueryError(f"expression {self.text!r}: {type(node).__name__} is not supported")

    def _named(self, node: ast.expr, read: Callable[[str], Any]) -> Any:
        name = _dotted(node)
        array = read(name) if name is not None else None
        if array is not None:
            return array
        if (number := functions.constant(node)) is not None:
            return number
        if isinstance(node, ast.Attribute):
            holder = self._value(node.value, read)
            if node.attr in getattr(holder, "fields", ()):
                return holder[node.attr]
        raise QueryError(f"expression {self.text!r}: there is no {ast.unparse(node)!r}")

    def _called(self, node: ast.Call, read: Callable[[str], Any]) -> Any:
        if (name := _gotten(node)) is not None:
            return self._named(ast.Name(name), read)
        module, name = functions.known(node.func) or ("", "")
        arguments = [self._value(part, read) for part in node.args]
        keywords = {k.arg: self._value(k.value, read) for k in node.keywords if k.arg}
        return functions.call(module, name, arguments, keywords, standard_axis=self.standard_axis)

    def _index(self, node: ast.expr, read: Callable[[str], Any]) -> Any:
        if isinstance(node, ast.Slice):
            bounds = (node.lower, node.upper, node.step)
            return slice(*(None if part is None else self._value(part, read) for part in bounds))
        if isinstance(node, ast.Tuple):
            return tuple(self._index(part, read) for part in node.elts)
        return self._value(node, read)


_PARTS = (
    *(ast.expr_context, ast.UnaryOp, ast.BinOp, ast.BoolOp, ast.Compare, ast.IfExp),
    *(ast.Name, ast.Subscript, ast.Slice, ast.List, ast.Tuple, ast.Not, ast.And, ast.Or),
    *(*functions.BINARY, *functions.COMPARE, *functions.UNARY),
)


def _is_get(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Name) and node.func.id == "get"


def _gotten(node: ast.Call) -> str | None:
    """Return the name in `get('name')`; None for other calls."""
    match node:
        case ast.Call(func=ast.Name(id="get"), args=[ast.Constant(value=str(name))], keywords=[]):
            return name
    return None


def _dotted(node: ast.AST) -> str | None:
    """Return a chain of names as text, such as `a.b.c`; None for other nodes."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = _dotted(node.value)
        return None if before is None else f"{before}.{node.attr}"
    return None
