"""One file in, one file of selected columns out, with memory bounded by a chunk's size."""

import contextlib
import difflib
import inspect
import logging
import re
import shutil
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot

from coffea_shoppe_servicex import funcadl
from coffea_shoppe_servicex.errors import QueryError, TransformError, UnreadableError
from coffea_shoppe_servicex.expressions import Expression
from coffea_shoppe_servicex.queries import (
    KEYS,
    Format,
    FuncAdlQuery,
    Join,
    PythonQuery,
    Query,
    RawQuery,
    TreeQuery,
)
from coffea_shoppe_servicex.writers import Writer, writer

LOG = logging.getLogger(__name__)
OPEN_TIMEOUT_S = 60
NOT_FOUND = re.compile(r"\[3011\]|404, message=")
"""What XRootD's client, and aiohttp, say of a file that the server does not have."""
STEP_BYTES = 64_000_000
"""What is read of a tree at once, uncompressed; a basket is read whole, though."""
SMALLEST_STEP, LARGEST_STEP = 1000, 1_000_000


@dataclass(frozen=True)
class Outcome:
    """What a transform gave."""

    events: int
    """Entries that were read."""
    read: int
    """Bytes of the input's columns, compressed."""


def transform(query: Query, places: Sequence[str], target: Path, result_format: Format) -> Outcome:
    """Transform a file that lies at all of `places`, the nearest first, into `target`.

    Where it cannot be read at one place, the next is tried.  Raises `TransformError`.
    """
    for number, place in enumerate(places):
        try:
            return _once(query, place, target, result_format)
        except UnreadableError as error:
            if number + 1 == len(places):
                raise
            LOG.warning("%s; trying %s", error, places[number + 1])
        except TransformError as error:
            # The user knows the file by the name that was asked for.
            message = str(error).replace(place, places[-1])
            raise TransformError(error.reason, message) from error
    raise TransformError("MissingFile", "no place of the file is known")


def _once(query: Query, place: str, target: Path, result_format: Format) -> Outcome:
    if isinstance(query, PythonQuery):
        return _own(query, place, target, result_format)
    several = isinstance(query, RawQuery) and sum(len(one.trees()) for one in query.trees) > 1
    with opened(place) as file:
        out = writer(target, result_format, several=several)
        try:
            with _reading(place):
                if isinstance(query, RawQuery):
                    done = _raw(query, file, place, out)
                else:
                    done = _funcadl(query, file, place, out)
        finally:
            out.close()
    return Outcome(done, int(file.file.source.num_requested_bytes))


@contextlib.contextmanager
def opened(place: str) -> Iterator[Any]:
    """Yield an open file; raises `UnreadableError` that names what is wrong with it."""
    try:
        file = uproot.open({place: None}, timeout=OPEN_TIMEOUT_S)
    except FileNotFoundError as error:
        raise UnreadableError("MissingFile", f"{place}: no such file") from error
    except (ValueError, uproot.deserialization.DeserializationError) as error:
        told = "not a ROOT file, or a truncated one"
        raise UnreadableError("BadFile", f"{place}: {told}") from error
    except Exception as error:
        if NOT_FOUND.search(str(error)):
            raise UnreadableError("MissingFile", f"{place}: no such file") from error
        told = f"{place}: cannot be opened ({_first(error)}); is it truncated, or its origin down?"
        raise UnreadableError("CannotOpen", told) from error
    with file:
        # The columns that are asked for may lie before its end, and be read all the same.
        whole, held = int(file.file.fEND), file.file.source.num_bytes
        if held is not None and held < whole:
            told = f"{place}: truncated: {held} of its {whole} bytes are there"
            raise UnreadableError("BadFile", told)
        yield file


@contextlib.contextmanager
def _reading(place: str) -> Iterator[None]:
    """Turn what a read can raise into our errors."""
    try:
        yield
    except (TransformError, MemoryError):
        raise
    except QueryError as error:
        raise TransformError("BadQuery", str(error)) from error
    except (OSError, uproot.deserialization.DeserializationError) as error:
        told = f"{place}: cannot be read ({_first(error)}); is it truncated, or its origin down?"
        raise UnreadableError("CannotRead", told) from error
    except Exception as error:
        # What the query does with arrays may fail in any way; zlib and lz4 have own errors.
        if type(error).__module__.split(".")[0] in ("zlib", "_lz4", "cramjam", "lzma"):
            raise UnreadableError("BadFile", f"{place}: is damaged ({_first(error)})") from error
        raise TransformError("BadQuery", f"{type(error).__name__}: {_first(error)}") from error


def _first(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else repr(error)


def tree_of(file: Any, name: str, place: str) -> Any:
    """Return a tree; raises `TransformError` where there is none of the name."""
    try:
        found = file[name]
    except KeyError as error:
        held = trees(file)
        close = difflib.get_close_matches(name, held, 1)
        told = f"is it {close[0]!r}?" if close else f"it holds: {', '.join(held[:5]) or 'no tree'}"
        raise TransformError("MissingTree", f"{place}: has no tree {name!r}; {told}") from error
    if not hasattr(found, "iterate"):
        raise TransformError("MissingTree", f"{place}: {name!r} is no tree")
    return found


def trees(file: Any) -> list[str]:
    """Return the names of a file's trees."""
    kinds = ("TTree", "ROOT::RNTuple", "TNtuple")
    return [name for name, kind in file.classnames(cycle=False).items() if kind in kinds]


def _raw(query: RawQuery, file: Any, place: str, out: Writer) -> int:
    events = 0
    for name in query.copies:
        try:
            out.copy(name, file[name])
        except KeyError as error:
            raise TransformError("MissingObject", f"{place}: has no {name!r}") from error
    held = set(trees(file))
    some = False
    for one in query.trees:
        for name, output in one.trees().items():
            absent = name.split(";")[0] not in held and name not in file
            if absent and not one.fail_on_missing_trees and len(one.trees()) > 1:
                LOG.warning("%s: has no tree %r; it is left out", place, name)
                continue
            some = True
            tree = tree_of(file, name, place)
            for columns, count in _columns(one, tree, place):
                out.extend(output, columns)
                events += count
    if query.trees and not some:
        wanted = ", ".join(name for one in query.trees for name in one.trees())
        told = f"{place}: has none of the trees {wanted}; it holds: {', '.join(sorted(held)[:5])}"
        raise TransformError("MissingTree", told)
    return events


class Plan:
    """What a query reads of one tree; made before anything is read."""

    def __init__(self, query: TreeQuery, tree: Any, place: str) -> None:
        """Raise `TransformError` that names what the tree lacks."""
        self.query, self.tree, self.place = query, tree, place
        known = {name: name for name in tree.keys(recursive=True)}
        self.branches = {name.rpartition("/")[2]: name for name in known} | known
        self.aliases = {name: query.parsed(text) for name, text in query.aliases.items()}
        self.cut = query.parsed(query.cut) if query.cut else None
        self.wanted = [(text, query.parsed(text)) for text in query.expressions or ()]
        listed = query.expressions is not None
        self.chosen = [] if listed else _filtered(query, tree, place)
        """Branches that are columns as they are."""
        self.names = sorted(self._reads()) or [next(iter(self.branches.values()))]
        """All branches that are read."""

    def _reads(self) -> set[str]:
        found: set[str] = {self.branches[name] for name in self.chosen}
        pending = [one for _, one in self.wanted] + ([self.cut] if self.cut else [])
        seen: set[str] = set()
        while pending:
            for name in pending.pop().names(lambda t: t in self.aliases or t in self.branches):
                if name in self.aliases and name not in seen:
                    seen.add(name)
                    pending.append(self.aliases[name])
                elif name in self.branches:
                    found.add(self.branches[name])
                elif name not in self.aliases:
                    raise _no_branch(name, self.tree, self.place)
        for key in KEYS if self.query.join else ():
            if key not in self.branches:
                raise _no_branch(key, self.tree, self.place)
            found.add(self.branches[key])
        return found


def _columns(query: TreeQuery, tree: Any, place: str) -> Iterator[tuple[ak.Array, int]]:
    """Yield a tree's selected columns and how many entries they were selected from."""
    plan = Plan(query, tree, place)
    joined = _Joined(query.join, tree, place) if query.join else contextlib.nullcontext()
    with joined as other:
        for start, stop, arrays in _chunks(tree, plan.names):
            read = _Values(arrays, plan.branches, plan.aliases)
            found = {name: arrays[plan.branches[name]] for name in plan.chosen}
            for text, expression in plan.wanted:
                found[text] = expression.evaluate(read)
            if other is not None:
                found |= other.columns(arrays, plan.branches, start, stop)
            if not found:
                raise TransformError("BadQuery", f"{place}: the query selects no column")
            records = ak.zip(_as_long(found, stop - start), depth_limit=1)
            if plan.cut:
                records = records[plan.cut.evaluate(read)]
            yield records, stop - start


class _Values:
    """What names stand for in one chunk: branches, and aliases, each evaluated once."""

    def __init__(
        self, arrays: ak.Array, branches: dict[str, str], aliases: dict[str, Expression]
    ) -> None:
        self.arrays, self.branches, self.aliases = arrays, branches, aliases
        self._known: dict[str, Any] = {}

    def __call__(self, name: str) -> Any:
        """Return a name's value; None where there is no such name."""
        if name in self._known:
            return self._known[name]
        if alias := self.aliases.get(name):
            # Within itself it is the branch of its name.
            self._known[name] = self._branch(name)
            self._known[name] = alias.evaluate(self)
            return self._known[name]
        return self._branch(name)

    def _branch(self, name: str) -> Any:
        return self.arrays[self.branches[name]] if name in self.branches else None


def _as_long(columns: dict[str, Any], length: int) -> dict[str, Any]:
    """Return columns of which constants are repeated for each entry."""
    return {
        name: value if isinstance(value, ak.Array) else np.full(length, value)
        for name, value in columns.items()
    }


def _chunks(tree: Any, names: list[str]) -> Iterator[tuple[int, int, ak.Array]]:
    """Yield (start, stop, arrays) of a tree's branches; once for a tree without entries."""
    if tree.num_entries == 0:
        yield 0, 0, tree.arrays(names)
        return
    for arrays, report in tree.iterate(names, step_size=_step(tree, names), report=True):
        first, last = report.tree_entry_start, report.tree_entry_stop
        yield int(first), int(last), arrays


def _step(tree: Any, names: list[str]) -> int:
    """Return how many entries are read at once.

    uproot would ask each basket for its size, in a request of its own.
    """
    sizes = [getattr(tree[name], "uncompressed_bytes", 0) for name in names]
    each = max(sum(int(size) for size in sizes) / tree.num_entries, 1.0)
    return max(SMALLEST_STEP, min(int(STEP_BYTES / each), LARGEST_STEP))


def _filtered(query: TreeQuery, tree: Any, place: str) -> list[str]:
    """Return the names of the branches that pass the filters and can be columns."""
    found = []
    for branch in tree.branches if hasattr(tree, "branches") else tree.fields:
        name = branch.name
        kind = getattr(branch, "typename", "")
        if query.filter_name and not any(fnmatch(name, one) for one in query.filter_name):
            continue
        if query.filter_typename and not any(fnmatch(kind, one) for one in query.filter_typename):
            continue
        unknown = uproot.interpretation.identify.UnknownInterpretation
        if isinstance(getattr(branch, "interpretation", None), unknown):
            LOG.warning("%s: %s (%s) cannot be a column; it is left out", place, name, kind)
            continue
        found.append(name)
    if not found and query.filter_name:
        told = ", ".join(query.filter_name)
        raise TransformError("MissingBranch", f"{place}: no branch of {tree.name!r} is like {told}")
    for name in query.filter_name or ():
        if not any(mark in name for mark in "*?[/") and name not in found:
            raise _no_branch(name, tree, place)
    return found


def _no_branch(name: str, tree: Any, place: str) -> TransformError:
    close = difflib.get_close_matches(name, tree.keys(), 1)
    hint = f"; is it {close[0]!r}?" if close else ""
    return TransformError("MissingBranch", f"{place}: {tree.name!r} has no branch {name!r}{hint}")


class _Joined:
    """The second tree of a join, entry by entry beside the first."""

    def __init__(self, join: Join, tree: Any, place: str) -> None:
        self.join, self.first, self.place = join, tree, place
        self.other = place.replace(*join.replace, 1) if join.replace else place
        if join.replace and self.other == place:
            told = f"{place}: does not hold {join.replace[0]!r}, which the join replaces"
            raise TransformError("BadJoin", told)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "_Joined":
        file = self._stack.enter_context(opened(self.other))
        self.tree = tree_of(file, self.join.treename, self.other)
        held = set(self.tree.keys())
        for name in (*KEYS, *self.join.columns):
            if name not in held:
                raise _no_branch(name, self.tree, self.other)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def columns(
        self, arrays: ak.Array, branches: dict[str, str], start: int, stop: int
    ) -> dict[str, Any]:
        """Return the second tree's columns for entries of the first.

        Raises `TransformError` that names the first event that differs or is missing.
        """
        names = [*KEYS, *self.join.columns]
        theirs = self.tree.arrays(names, entry_start=start, entry_stop=stop)
        ours = np.stack([np.asarray(arrays[branches[key]]).astype("u8") for key in KEYS], axis=1)
        found = np.stack([np.asarray(theirs[key]).astype("u8") for key in KEYS], axis=1)
        shared = min(len(ours), len(found))
        differs = np.flatnonzero(np.any(ours[:shared] != found[:shared], axis=1))
        where = f"{self.other}: {self.join.treename!r}"
        if len(differs):
            at = int(differs[0])
            told = f"{where}: entry {start + at} is {_event(found[at])}, but {_event(ours[at])}"
            raise TransformError("BadJoin", f"{told} is there in {self.place}")
        if len(found) < len(ours):
            raise TransformError("BadJoin", f"{where}: lacks {_event(ours[shared])}")
        if stop == self.first.num_entries and self.tree.num_entries > stop:
            more = self.tree.arrays(KEYS, entry_start=stop, entry_stop=stop + 1)
            event = _event([int(more[key][0]) for key in KEYS])
            raise TransformError("BadJoin", f"{where}: goes on with {event}")
        return {name: theirs[name] for name in self.join.columns}


def _event(key: Any) -> str:
    return ", ".join(f"{name} {int(value)}" for name, value in zip(KEYS, key, strict=True))


def _funcadl(query: FuncAdlQuery, file: Any, place: str, out: Writer) -> int:
    tree, names = funcadl_reads(query, file, place)
    branches = [branch.name for branch in tree.branches]
    events = 0
    for start, stop, arrays in _chunks(tree, names):
        out.extend(tree.name, funcadl.evaluate(query.body, arrays, branches))
        events += stop - start
    return events


def funcadl_reads(query: FuncAdlQuery, file: Any, place: str) -> tuple[Any, list[str]]:
    """Return the tree that a query is about, and the branches that it reads."""
    name = query.tree
    if name is None:
        held = trees(file)
        if len(held) != 1:
            told = f"it holds: {', '.join(held) or 'none'}"
            raise TransformError("MissingTree", f"{place}: name a tree in the query; {told}")
        name = held[0]
    tree = tree_of(file, name, place)
    return tree, funcadl.reads(query.body, [branch.name for branch in tree.branches])


def _own(query: PythonQuery, place: str, target: Path, result_format: Format) -> Outcome:
    """Run a user's own function, and write what it returns."""
    scope: dict[str, Any] = {"__name__": "transform"}
    try:
        exec(compile(query.source, "your function", "exec"), scope)  # noqa: S102
        function: Callable[..., Any] = scope["run_query"]
        if len(inspect.signature(function).parameters) > 1:
            result = function(place, str(target))
        else:
            result = function(place)
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        line = next((f.lineno for f in reversed(frames) if f.filename == "your function"), None)
        where = f"line {line} of your function: " if line else ""
        LOG.error("%s", "".join(traceback.format_exception(error)))
        told = f"{place}: {where}{type(error).__name__}: {_first(error)}"
        raise TransformError("UserCode", told) from error
    if isinstance(result, str | Path):
        if Path(result) != target:
            shutil.copyfile(result, target)
        return Outcome(0, 0)
    if result is None and target.exists():
        return Outcome(0, 0)
    named = result if isinstance(result, dict) else {"tree": result}
    out = writer(target, result_format, several=len(named) > 1)
    events = 0
    for name, array in named.items():
        if not isinstance(array, ak.Array):
            told = f"run_query returned {type(array).__name__}; return an Awkward Array, or a path"
            raise TransformError("UserCode", told)
        columns = array if array.fields else ak.zip({"value": array}, depth_limit=1)
        out.extend(name, columns)
        events += len(columns)
    out.close()
    return Outcome(events, 0)
