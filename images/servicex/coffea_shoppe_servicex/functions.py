"""What expressions of a query may do: arithmetic, and these functions of arrays.

A query is data, not a program: shared transformers evaluate it for everybody.  What is
not named here cannot be reached from an expression.
"""

import ast
import functools
import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from coffea_shoppe_servicex.errors import QueryError

if TYPE_CHECKING:
    from types import ModuleType

NUMPY = frozenset(
    [
        "abs",
        "absolute",
        "arccos",
        "arccosh",
        "arcsin",
        "arcsinh",
        "arctan",
        "arctan2",
        "arctanh",
        "cbrt",
        "ceil",
        "cos",
        "cosh",
        "deg2rad",
        "exp",
        "exp2",
        "expm1",
        "fabs",
        "floor",
        "fmod",
        "hypot",
        "isfinite",
        "isinf",
        "isnan",
        "log",
        "log10",
        "log1p",
        "log2",
        "logical_and",
        "logical_not",
        "logical_or",
        "logical_xor",
        "maximum",
        "minimum",
        "power",
        "rad2deg",
        "rint",
        "round",
        "sign",
        "sin",
        "sinh",
        "sqrt",
        "square",
        "tan",
        "tanh",
        "trunc",
    ]
)
REDUCERS = frozenset(
    [
        "all",
        "any",
        "argmax",
        "argmin",
        "count",
        "count_nonzero",
        "max",
        "mean",
        "min",
        "prod",
        "ptp",
        "std",
        "sum",
        "var",
    ]
)
"""Of awkward; they take `axis`, by default that of an event's own objects."""
AWKWARD = REDUCERS | frozenset(
    [
        "argcombinations",
        "argsort",
        "combinations",
        "concatenate",
        "drop_none",
        "fill_none",
        "firsts",
        "flatten",
        "full_like",
        "is_none",
        "local_index",
        "mask",
        "nan_to_num",
        "num",
        "ones_like",
        "pad_none",
        "singletons",
        "sort",
        "unflatten",
        "values_astype",
        "where",
        "zeros_like",
        "zip",
    ]
)
WITH_AXIS = REDUCERS | frozenset(
    ["argsort", "combinations", "firsts", "local_index", "num", "sort"]
)
MODULES = {"ak": AWKWARD, "awkward": AWKWARD, "np": NUMPY, "numpy": NUMPY, "math": NUMPY}
CONSTANTS = {"pi": 3.141592653589793, "e": 2.718281828459045}

BINARY: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: lambda x, y: x + y,
    ast.Sub: lambda x, y: x - y,
    ast.Mult: lambda x, y: x * y,
    ast.Div: lambda x, y: x / y,
    ast.FloorDiv: lambda x, y: x // y,
    ast.Mod: lambda x, y: x % y,
    ast.Pow: lambda x, y: x**y,
    ast.BitAnd: lambda x, y: x & y,
    ast.BitOr: lambda x, y: x | y,
    ast.BitXor: lambda x, y: x ^ y,
    ast.LShift: lambda x, y: x << y,
    ast.RShift: lambda x, y: x >> y,
}
COMPARE: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: lambda x, y: x == y,
    ast.NotEq: lambda x, y: x != y,
    ast.Lt: lambda x, y: x < y,
    ast.LtE: lambda x, y: x <= y,
    ast.Gt: lambda x, y: x > y,
    ast.GtE: lambda x, y: x >= y,
}
UNARY: Mapping[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.UAdd: lambda x: +x,
    ast.USub: lambda x: -x,
    ast.Invert: lambda x: ~x,
}


def known(node: ast.expr) -> tuple[str, str] | None:
    """Return (module, name) of the function that a call's target names; None for another."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        allowed = MODULES.get(node.value.id)
        if allowed is not None and node.attr in allowed:
            return ("numpy" if allowed is NUMPY else "awkward"), node.attr
        return None
    if isinstance(node, ast.Name):
        for module, names in (("awkward", AWKWARD), ("numpy", NUMPY)):
            if node.id in names:
                return module, node.id
    return None


def constant(node: ast.expr) -> float | None:
    """Return the number that `np.pi` or the like stands for."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return CONSTANTS.get(node.attr) if node.value.id in MODULES else None
    return None


@functools.cache
def _module(name: str) -> "ModuleType":
    # The API checks queries without them.
    return importlib.import_module(name)


def call(module: str, name: str, arguments: list[Any], keywords: dict[str, Any]) -> Any:
    """Call one of the functions."""
    if name == "values_astype" and len(arguments) > 1 and not isinstance(arguments[1], str):
        raise QueryError("values_astype: name the type as a string, such as 'float32'")
    return getattr(_module(module), name)(*arguments, **keywords)


def logical(name: str, values: list[Any]) -> Any:
    """Return `values` joined by `logical_and` or `logical_or`."""
    return functools.reduce(getattr(_module("numpy"), name), values)


def where(condition: Any, yes: Any, no: Any) -> Any:
    """Return `yes` where the condition holds, else `no`."""
    return _module("awkward").where(condition, yes, no)
