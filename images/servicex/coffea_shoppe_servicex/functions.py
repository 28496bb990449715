"""The operations that expressions of a query may use: arithmetic, and functions of arrays.

A query is data, not a program: shared transformers evaluate the queries of all users.  An
expression reaches nothing that is not listed here.
"""

import ast
import difflib
import functools
import importlib
import inspect
import operator
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from coffea_shoppe_servicex.errors import QueryError

if TYPE_CHECKING:
    from types import ModuleType

NUMPY = frozenset(
    [
        "abs",
        "absolute",
        "acos",
        "acosh",
        "arccos",
        "arccosh",
        "arcsin",
        "arcsinh",
        "arctan",
        "arctan2",
        "arctanh",
        "asin",
        "asinh",
        "atan",
        "atan2",
        "atanh",
        "cbrt",
        "ceil",
        "conj",
        "conjugate",
        "copysign",
        "cos",
        "cosh",
        "deg2rad",
        "exp",
        "exp2",
        "expm1",
        "fabs",
        "floor",
        "fmax",
        "fmin",
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
        "negative",
        "nextafter",
        "power",
        "rad2deg",
        "rint",
        "round",
        "sign",
        "signbit",
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
        "moment",
        "nanargmax",
        "nanargmin",
        "nanmax",
        "nanmean",
        "nanmin",
        "nanprod",
        "nanstd",
        "nansum",
        "nanvar",
        "prod",
        "ptp",
        "std",
        "sum",
        "var",
    ]
)
"""Functions of awkward that reduce many elements to one."""
AWKWARD = REDUCERS | frozenset(
    [
        "argcartesian",
        "argcombinations",
        "argsort",
        "broadcast_arrays",
        "broadcast_fields",
        "cartesian",
        "combinations",
        "concatenate",
        "drop_none",
        "fill_none",
        "firsts",
        "flatten",
        "full_like",
        "imag",
        "is_none",
        "isclose",
        "local_index",
        "mask",
        "nan_to_num",
        "num",
        "ones_like",
        "pad_none",
        "real",
        "singletons",
        "softmax",
        "sort",
        "unflatten",
        "values_astype",
        "where",
        "zeros_like",
        "zip",
    ]
)
OVER_AXIS = REDUCERS | frozenset(
    [
        "argcartesian",
        "argcombinations",
        "argsort",
        "cartesian",
        "combinations",
        "concatenate",
        "firsts",
        "flatten",
        "local_index",
        "num",
        "pad_none",
        "softmax",
        "sort",
    ]
)
"""Functions whose result depends on all elements along their axis."""
OF_ARRAYS = frozenset(["argcartesian", "cartesian", "concatenate"])
"""Whose first argument is a list of arrays that are all looked at along the axis."""
UPROOT = frozenset(["erf", "erfc", "factorial", "gamma", "lgamma", "neg", "tgamma"])
"""Of uproot's expressions, and in no other module."""
OWN = frozenset(["clip"])
FUNCTIONS = {"awkward": AWKWARD, "numpy": NUMPY, "uproot": UPROOT, "own": OWN}
NUMPY_OF_AWKWARD = frozenset(
    [
        *(name for name in REDUCERS if name not in ("count", "moment")),
        *("argsort", "concatenate", "full_like", "imag", "isclose", "nan_to_num", "ones_like"),
        *("real", "sort", "where", "zeros_like"),
    ]
)
"""Functions of NumPy's that awkward has for lists of any length."""
MODULES: Mapping[str, Mapping[str, frozenset[str]]] = {
    **{name: {"awkward": AWKWARD} for name in ("ak", "awkward")},
    **{name: {"numpy": NUMPY, "awkward": NUMPY_OF_AWKWARD, "own": OWN} for name in ("np", "numpy")},
    "math": {"numpy": NUMPY, "uproot": UPROOT},
}
REFUSED = {
    "almost_equal": "almost_equal compares all events at once; isclose compares value by value",
}
"""Functions of upstream's list that are not supported here, with the reason."""
CONSTANTS = {"pi": 3.141592653589793, "e": 2.718281828459045}

BINARY: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
}
COMPARE: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


def _inverse(value: Any) -> Any:
    """Return `~value`; a condition of constants stays one, as a condition of arrays does."""
    return not value if isinstance(value, bool) else operator.invert(value)


UNARY: Mapping[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
    ast.Invert: _inverse,
}


def known(node: ast.expr) -> tuple[str, str] | None:
    """Return (module, name) of the function that is called; None if it is not listed here."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        modules, name = MODULES.get(node.value.id, {}), node.attr
    elif isinstance(node, ast.Name):
        modules, name = FUNCTIONS, node.id
    else:
        return None
    return next(((module, name) for module, names in modules.items() if name in names), None)


def unknown(node: ast.expr) -> str:
    """Return why the function that is called cannot be called, for a message."""
    called = ast.unparse(node)
    name = called.rpartition(".")[2]
    if name in REFUSED:
        return REFUSED[name]
    close = difflib.get_close_matches(name, sorted(frozenset().union(*FUNCTIONS.values())), 1)
    hint = f"; is it {close[0]!r}?" if close else ""
    return f"there is no function {called!r} here{hint}"


def constant(node: ast.expr) -> float | None:
    """Return the value of a constant such as `np.pi`; None for other nodes."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return CONSTANTS.get(node.attr) if node.value.id in MODULES else None
    return None


@functools.cache
def _module(name: str) -> "ModuleType":
    # Imported here: the API checks queries without these libraries.
    return importlib.import_module(name)


@functools.cache
def _function(module: str, name: str) -> Callable[..., Any]:
    if module == "own":
        return clip
    if module == "uproot":
        listed = _module("uproot").language.python.PythonLanguage.default_functions
    else:
        listed = vars(_module(module))
    function: Callable[..., Any] = listed[name]
    return function


@functools.cache
def signature(module: str, name: str) -> inspect.Signature:
    """Return the parameters of one of the functions."""
    return inspect.signature(_function(module, name))


def call(
    module: str,
    name: str,
    arguments: list[Any],
    keywords: dict[str, Any],
    *,
    within: int = 1,
    standard_axis: bool = False,
) -> Any:
    """Call one of the functions.

    The first `within` axes of its arrays are events, and sequences whose elements are handled
    one by one.  The default `axis` is the one after them, or with `standard_axis` that of the
    function itself.  Raises `QueryError` for one of the first axes: arrays have the events of
    one chunk of a file, so that the result would depend on the chunk's size.
    """
    if name == "values_astype" and len(arguments) > 1 and not isinstance(arguments[1], str):
        raise QueryError("values_astype: name the type as a string, such as 'float32'")
    if name in OVER_AXIS:
        try:
            bound = signature(module, name).bind(*arguments, **keywords)
        except TypeError as error:
            raise QueryError(f"{name}: {error}") from error
        if "axis" not in bound.arguments and not standard_axis:
            # Of lists of lists, `flatten` keeps a list for each event.
            axis = within + 1 if name == "flatten" else within
            keywords = {**keywords, "axis": axis}
            bound.arguments["axis"] = axis
        bound.apply_defaults()
        _check_axis(name, next(iter(bound.arguments.values())), bound.arguments["axis"], within)
    if name == "where" and len(arguments) == 3 and not keywords:
        return where(*arguments)
    return _function(module, name)(*arguments, **keywords)


def clip(array: Any, a_min: Any = None, a_max: Any = None) -> Any:
    """Return an array with its values within limits; None: without this limit."""
    np = _module("numpy")
    if a_min is not None:
        array = np.maximum(array, a_min)
    return array if a_max is None else np.minimum(array, a_max)


def _check_axis(name: str, array: Any, axis: Any, within: int) -> None:
    """Raise `QueryError` for a function over events, or over something that is not a list."""
    ak = _module("awkward")
    if name in OF_ARRAYS:
        parts = array.values() if isinstance(array, dict) else array
        for part in parts if isinstance(array, dict | list | tuple) else ():
            _check_axis(f"{name} along axis {axis}", part, axis, within)
        return
    if name == "flatten" and (axis is None or 0 <= axis <= within):
        problem = f"flatten along axis {axis} leaves no list for each event"
        raise QueryError(f"{problem}; axis={within + 1} is for lists within an event's lists")
    if isinstance(array, list | tuple) and any(isinstance(part, ak.Array) for part in array):
        if axis != 0:
            raise QueryError(f"{name} of several arrays: give axis=0, to compare them one by one")
        return
    if not isinstance(array, ak.Array):
        return
    shallowest, deepest = array.layout.minmax_depth
    problem = f"{name} of the whole dataset is not supported; sum up what each file gives"
    if axis is None or (axis if axis >= 0 else axis + shallowest) < within:
        objects = f", or give axis={within} for the objects of each event"
        raise QueryError(problem + (objects if deepest > within else ""))
    if axis >= deepest:
        raise QueryError(f"{problem} (there is no list along axis {axis})")


def check_index(array: Any, index: Any) -> None:
    """Raise `QueryError` for an index that selects events by their position in a chunk.

    Fields, and objects of each event (`[:, 0]`, lists of positions or of booleans), are fine.
    """
    ak = _module("awkward")
    if not isinstance(array, ak.Array):
        return
    parts = index if isinstance(index, tuple) else (index,)
    first = next((part for part in parts if not isinstance(part, str)), slice(None))
    if isinstance(first, ak.Array):
        picks = first.ndim == 1 and not str(first.type.content).endswith("bool")
    elif isinstance(first, list):
        picks = not all(isinstance(part, str) for part in first)
    else:
        picks = first != slice(None)
    if picks:
        problem = "an index of events is not supported, since files are read in chunks"
        raise QueryError(f"{problem}; [:, 0] is the first object of each event")


def logical(name: str, values: list[Any]) -> Any:
    """Return `values` joined by `logical_and` or `logical_or`."""
    return functools.reduce(getattr(_module("numpy"), name), values)


def where(condition: Any, yes: Any, no: Any) -> Any:
    """Return `yes` where the condition is true, else `no`; no value where one is missing."""
    ak = _module("awkward")
    if not isinstance(condition, ak.Array):
        return yes if condition else no
    return ak.where(*_with_lists([condition, yes, no]))


def _with_lists(parts: list[Any]) -> list[Any]:
    """Return arrays with lists of missing values for missing lists, as long as those of another.

    Awkward does not broadcast a missing list that is stored without elements.
    """
    ak = _module("awkward")

    def has_lists(part: Any) -> bool:
        return isinstance(part, ak.Array) and part.ndim > 1

    lists = [part for part in parts if has_lists(part)]
    full = [part for part in lists if not isinstance(part.type.content, ak.types.OptionType)]
    if not full or len(full) == len(lists):
        return parts

    def with_lists(part: Any) -> Any:
        none = ak.local_index(full[0], axis=part.ndim - 1) < 0
        # Of the same type, so that the lists are no union.
        dtype = ak.to_numpy(ak.flatten(part, axis=None)).dtype
        return _filled(part, ak.mask(ak.values_astype(none, dtype), none))

    return [with_lists(part) if has_lists(part) else part for part in parts]


def passing(condition: Any) -> Any:
    """Return a user's condition as a mask of booleans.

    `condition` has a number for each element, possibly in lists.  As in uproot, a number
    passes if it is not 0; a missing value does not pass.  Raises `QueryError`
    for other types.
    """
    ak = _module("awkward")
    try:
        mask = ak.Array(condition) != 0
    except (TypeError, ValueError) as error:
        kind = ak.type(condition)
        raise QueryError(f"a condition must give a number or a boolean, not {kind}") from error
    # A mask of fixed-size lists would be taken as NumPy takes it, and give a flat array.
    return ak.fill_none(ak.from_regular(mask, axis=None), False, axis=-1)


def filled(mask: Any, array: Any) -> Any:
    """Return a mask of an array's objects with False for those whose list is missing in it.

    Such a list is as long as the array's.  So is the mask of `jet_pt > max(muon_pt)` in events
    without muons.  A list that is missing in the array stays missing.
    """
    ak = _module("awkward")
    if mask.ndim == 1:
        return mask
    return _filled(mask, ak.local_index(array, axis=mask.ndim - 1) < 0)


def _filled(mask: Any, nothing: Any) -> Any:
    """Return a mask in which each list that is missing is that of a mask of the same depth."""
    ak, np = _module("awkward"), _module("numpy")
    if isinstance(mask.type.content, ak.types.OptionType):
        missing = ak.to_numpy(ak.is_none(mask, axis=0))
        order = np.argsort(np.concatenate([np.flatnonzero(~missing), np.flatnonzero(missing)]))
        mask = ak.concatenate([ak.drop_none(mask, axis=0), nothing[missing]])[order]
    if mask.ndim == 2:
        return mask
    within = _filled(ak.flatten(mask, axis=1), ak.flatten(nothing, axis=1))
    return ak.unflatten(within, ak.num(mask, axis=1))
