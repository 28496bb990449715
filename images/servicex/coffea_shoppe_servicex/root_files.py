"""Input files: opened, read in chunks, with errors that name the file and the cause."""

import contextlib
import difflib
import logging
from collections import Counter
from collections.abc import Iterator
from typing import Any

import requests
from coffea_shoppe_contract import causes
from coffea_shoppe_contract.addresses import redacted, shown_address
from coffea_shoppe_contract.causes import Kind
from coffea_shoppe_contract.origin_logins import login_failure

from coffea_shoppe_servicex import addresses
from coffea_shoppe_servicex.errors import (
    LOGIN_FAILED,
    QueryError,
    TransformError,
    UnreadableError,
    cause_of,
)

LOG = logging.getLogger(__name__)
OPEN_TIMEOUT_S = 60
PROBE_TIMEOUT_S = (5, 10)
"""Timeouts to connect to a web server whose file cannot be opened, and of its response."""
REASONS = {
    Kind.ABSENT: "MissingFile",
    Kind.REFUSED: "AccessDenied",
    Kind.LOGIN: LOGIN_FAILED,
    Kind.NOT_ROOT: "BadFile",
    Kind.DAMAGED: "BadFile",
    Kind.UNSUPPORTED: "UnreadableContent",
}
"""Reasons of failed files; those of other kinds are `CannotOpen` and `CannotRead`."""
STEP_BYTES = 64_000_000
"""Uncompressed bytes of a tree that are read at once; a basket is always read entirely."""
SMALLEST_STEP, LARGEST_STEP = 1000, 1_000_000
TREE_CLASSES = ("TTree", "ROOT::RNTuple", "TNtuple")
DECOMPRESSORS = ("zlib", "igzip_lib", "_lz4", "cramjam", "lzma")
"""Modules whose errors mean that the file is damaged."""


@contextlib.contextmanager
def opened(url: str, *, local_files: bool = False, size: int | None = None) -> Iterator[Any]:
    """Yield a ROOT file that uproot has opened, and that has `size` bytes, if that is known.

    Raises `UnreadableError` if it cannot be read, `TransformError` for a URL that must not be.
    """
    import uproot

    shown = shown_address(url)
    try:
        addresses.check(url, local_files=local_files)
    except QueryError as error:
        raise TransformError("BadAddress", str(error)) from error
    try:
        file = uproot.open({url: None}, timeout=OPEN_TIMEOUT_S)
    except MemoryError:
        raise
    except Exception as error:
        raise unreadable(url, error, "CannotOpen") from error
    with file:
        # A truncated file is refused even if the requested columns lie before its end.
        expected, present = int(file.file.fEND), file.file.source.num_bytes
        if present is not None and present < expected:
            raise UnreadableError("BadFile", f"{shown}: {causes.is_cut_short(present, expected)}")
        if present is not None and size is not None and present != size:
            message = f"{shown}: changed since the request was submitted: its size in bytes was "
            message += f"{size}, and is {present}; submit it again"
            raise UnreadableError("ChangedFile", message)
        if not file.keys(recursive=False):
            _check_response(url)
        yield file


@contextlib.contextmanager
def reading(url: str) -> Iterator[None]:
    """Turn the exceptions of a read, and of a query's evaluation, into `TransformError`."""
    import uproot

    try:
        yield
    except (TransformError, MemoryError):
        raise
    except QueryError as error:
        raise TransformError("BadQuery", str(error)) from error
    except (OSError, uproot.deserialization.DeserializationError) as error:
        raise unreadable(url, error, "CannotRead") from error
    except Exception as error:
        if causes.is_client_error(error):
            raise unreadable(url, error, "CannotRead") from error
        reason = redacted(cause_of(error))
        if type(error).__module__.split(".")[0] in DECOMPRESSORS:
            message = f"{shown_address(url)}: is damaged ({reason})"
            raise UnreadableError("BadFile", message) from error
        # A query's operations on arrays may raise anything.
        raise TransformError("BadQuery", f"{type(error).__name__}: {reason}") from error


def unreadable(url: str, error: Exception, reason: str) -> UnreadableError:
    """Return the error for a file, at a URL that was checked, that uproot cannot read.

    `reason` is that of problems which are none of the file itself.
    """
    cause = causes.find_cause(
        *(url, error),
        probe=_probe,
        login_failure=login_failure,
        reason=redacted(cause_of(error)),
    )
    return UnreadableError(
        REASONS.get(cause.kind, reason),
        f"{shown_address(url)}: {cause.sentence}",
        other_url_may_help=cause.other_address_may_help,
        retry_may_help=cause.retry_may_help,
    )


def _check_response(url: str) -> None:
    """Raise `UnreadableError` for a file that only seems to have no content.

    A web server that sends the beginning of a file, whatever part is requested, has a valid
    header, and a list of objects that is none.
    """
    response = _probe(url) if url.startswith(causes.WEB_SCHEMES) else None
    if response is not None and (cause := response.cause()):
        kind, sentence = cause
        reason = REASONS.get(kind, "CannotOpen")
        raise UnreadableError(reason, f"{shown_address(url)}: {sentence}")


def _probe(url: str) -> causes.Response | None:
    """Request a file's first bytes from a web server; None if it does not respond."""
    address = url.replace("davs://", "https://", 1)
    try:
        with requests.get(
            address, headers=causes.HEAD_REQUEST, stream=True, timeout=PROBE_TIMEOUT_S
        ) as response:
            head = next(response.iter_content(causes.HEAD_BYTES), b"")
            return causes.Response.of(response.status_code, response.headers, head)
    except requests.RequestException:
        return None


def tree_names(file: Any) -> list[str]:
    """Return the names of a file's trees."""
    classes = file.classnames(cycle=False)
    return [name for name, class_name in classes.items() if class_name in TREE_CLASSES]


def tree_of(file: Any, name: str, url: str) -> Any:
    """Return a tree of a file; raises `TransformError` if there is none of that name.

    `url` is the file's for messages, here and below: without credentials.
    """
    try:
        tree = file[name]
    except KeyError as error:
        names = tree_names(file)
        close = difflib.get_close_matches(name, names, 1)
        content = ", ".join(names[:5]) or "no tree"
        hint = f"is it {close[0]!r}?" if close else f"it contains: {content}"
        message = f"{url}: has no tree {name!r}; {hint}"
        raise TransformError("MissingTree", message) from error
    if not hasattr(tree, "iterate"):
        raise TransformError("MissingTree", f"{url}: {name!r} is not a tree")
    return tree


class Branches:
    """The branches of a tree by their names: their paths, as uproot's `keys()`, and last names."""

    def __init__(self, tree: Any, url: str) -> None:
        """Look through the branches of a TTree, or through the fields of an RNTuple, once."""
        self.tree, self.url = tree, url
        self._paths: dict[str, list[str]] = {}
        for path, name in _paths(tree):
            self._paths.setdefault(name, []).append(path)
        self._by_path = {path for paths in self._paths.values() for path in paths}

    def __contains__(self, name: str) -> bool:
        """Return whether a branch, or several, have a name."""
        return name in self._by_path or name in self._paths

    def names(self) -> list[str]:
        """Return the names that stand for one branch."""
        last = [name for name, paths in self._paths.items() if len(paths) == 1]
        return list(dict.fromkeys([*last, *sorted(self._by_path)]))

    def path(self, name: str) -> str:
        """Return the path of the branch with a name; raises `TransformError`."""
        if name in self._by_path:
            return name
        paths = self._paths.get(name, [])
        if not paths:
            raise missing_branch(name, self.tree, self.url)
        if len(paths) > 1:
            choices = f"{', '.join(map(repr, paths[:-1]))} or {paths[-1]!r}"
            message = f"{self.url}: {name!r} is ambiguous in {self.tree.name!r}: give {choices}"
            raise TransformError("AmbiguousBranch", message)
        return paths[0]


def missing_branch(name: str, tree: Any, url: str) -> TransformError:
    """Return the error for a branch that a tree lacks."""
    names = Branches(tree, url).names()
    close = difflib.get_close_matches(name, names, 1)
    hint = f"; is it {close[0]!r}?" if close else ""
    return TransformError("MissingBranch", f"{url}: {tree.name!r} has no branch {name!r}{hint}")


def no_column(name: str, tree: Any, url: str) -> TransformError:
    """Return the error for a name that no column has: no branch has it, or it is no array."""
    branches = Branches(tree, url)
    if name not in branches:
        return missing_branch(name, tree, url)
    path = branches.path(name)
    problem = f"{name!r} ({branch_at(tree, path).typename}) cannot be a column"
    return TransformError("UnreadableBranch", f"{url}: {problem}: uproot cannot read this type")


def is_rntuple(tree: Any) -> bool:
    """Return whether a tree is an RNTuple."""
    return not hasattr(tree, "branches")


def _paths(tree: Any) -> Iterator[tuple[str, str]]:
    """Yield the path and the last name of each branch; fields have no last name."""
    if not is_rntuple(tree):
        for path, branch in tree.iteritems(recursive=True, full_paths=True):
            yield path, branch.name
        return
    # uproot would look through all fields for those below each field, even below a number.
    parents = {
        record.parent_field_id
        for number, record in enumerate(tree.field_records)
        if record.parent_field_id != number
    }
    yield from ((path, path) for path in _field_paths(tree, "", parents))


def _field_paths(parent: Any, prefix: str, parents: set[int]) -> Iterator[str]:
    for field in parent.fields:
        path = prefix
        if not (field.is_anonymous or field.in_variant):
            path = f"{prefix}.{field.name}" if prefix else field.name
            yield path
        if field.field_id in parents:
            yield from _field_paths(field, path, parents)


def column_branches(
    tree: Any,
    url: str,
    *,
    filter_name: list[str] | None = None,
    filter_typename: list[str] | None = None,
) -> dict[str, str]:
    """Return the branches that uproot's `arrays` would read with these filters.

    They are given by column name: the branch's last name, or its path if several columns
    would have that name.  Values are paths.
    """
    if is_rntuple(tree):
        return _column_fields(tree, url, filter_name, filter_typename)
    import uproot

    grouped = uproot.interpretation.grouped.AsGrouped
    columns: dict[str, Any] = {}
    for path, branch in tree.iteritems(filter_name=filter_name, filter_typename=filter_typename):
        interpretation = branch.interpretation
        parts = [interpretation]
        if isinstance(interpretation, grouped):
            parts = list(interpretation.subbranches.values())
        if not all(_is_array(part, branch) for part in parts):
            if parts == [interpretation]:
                LOG.warning("%s: %s (%s) cannot be a column", url, path, branch.typename)
            continue
        columns.setdefault(path, branch)
    for path, branch in list(columns.items()):
        if path not in columns or not isinstance(branch.interpretation, grouped):
            continue
        below = {f"{path}/{name}": each for name, each in branch.iteritems()}
        leaves = {
            name for name, each in below.items() if not isinstance(each.interpretation, grouped)
        }
        # A record is read either as its members or as a whole.
        for name in [path] if leaves and leaves <= columns.keys() else below:
            columns.pop(name, None)
    repeated = Counter(branch.name for branch in columns.values())
    return {
        branch.name if repeated[branch.name] == 1 else path: path
        for path, branch in columns.items()
    }


def _is_array(interpretation: Any, branch: Any) -> bool:
    """Return whether uproot can read an interpretation of a branch into an array."""
    from uproot.interpretation.identify import UnknownInterpretation
    from uproot.interpretation.objects import AsObjects, CannotBeAwkward

    if isinstance(interpretation, UnknownInterpretation) or is_misread(interpretation):
        return False
    if isinstance(interpretation, AsObjects):
        try:
            interpretation.awkward_form(branch.file)
        except CannotBeAwkward:
            return False
    return True


def is_misread(interpretation: Any) -> bool:
    """Return whether uproot returns other values than the file has, without an error.

    For lists of arrays of `Float16_t` or `Double32_t`, it takes the size of a number for that of
    an array, and so returns what is in memory after the values (uproot 5.7).
    """
    from uproot.interpretation.jagged import AsJagged
    from uproot.interpretation.numerical import TruncatedNumerical

    content = interpretation.content if isinstance(interpretation, AsJagged) else None
    return isinstance(content, TruncatedNumerical) and bool(content.to_dims)


def counters(tree: Any, columns: dict[str, str]) -> dict[str, str]:
    """Return which column counts the lists of which other one, by the branches of a TTree.

    `columns` gives the branches that are columns without an expression, with their paths.
    """
    if is_rntuple(tree):
        return {}
    ids = {id(tree[path]): name for name, path in columns.items()}
    counted = {name: id(tree[path].count_branch) for name, path in columns.items()}
    return {name: ids[counter] for name, counter in counted.items() if counter in ids}


def _column_fields(
    tree: Any, url: str, filter_name: list[str] | None, filter_typename: list[str] | None
) -> dict[str, str]:
    """Return the top-level fields that pass; for a pattern that none passes, those below."""

    def passing(patterns: list[str] | None, *, recursive: bool) -> list[str]:
        return list(
            tree.keys(recursive=recursive, filter_name=patterns, filter_typename=filter_typename)
        )

    names = passing(filter_name, recursive=False)
    for pattern in filter_name or ():
        if not passing([pattern], recursive=False):
            names += passing([pattern], recursive=True)
    streamed = _streamed_fields(tree)
    columns = {}
    for name in names:
        if streamed and branch_at(tree, name).field_id in streamed:
            LOG.warning("%s: %s cannot be a column", url, name)
        else:
            columns[name] = name
    return columns


def _streamed_fields(tree: Any) -> set[int]:
    """Return the fields of an RNTuple that ROOT stores as objects, and those that contain them.

    uproot cannot read them.
    """
    import uproot

    role = uproot.const.RNTupleFieldRole.STREAMER
    streamed = set()
    for number, record in enumerate(tree.field_records):
        if record.struct_role == role:
            while number not in streamed:
                streamed.add(number)
                # A field at the top is its own parent.
                number = tree.field_records[number].parent_field_id
    return streamed


def chunks(tree: Any, names: list[str], url: str = "") -> Iterator[tuple[int, int, Any]]:
    """Yield (start, stop, arrays by path) of a tree's branches; once for an empty tree.

    Raises `TransformError` that names a branch which uproot cannot read; `url` is the file's,
    for the message.
    """
    for name in names:
        branch = branch_at(tree, name)
        if is_misread(getattr(branch, "interpretation", None)):
            raise _unreadable(name, branch, url, "uproot misreads lists of such arrays")
    start = 0
    try:
        for start, stop, arrays in _chunks(tree, names):
            yield start, stop, arrays
            start = stop
    except Exception as error:
        stop = min(start + _step(tree, names), tree.num_entries)
        raise _unreadable_branch(tree, names, url, (start, stop)) or error from error


def _unreadable_branch(
    tree: Any, names: list[str], url: str, entries: tuple[int, int]
) -> TransformError | None:
    """Return the error for the first branch whose values uproot cannot interpret.

    None if each can be read alone, or if the bytes could not be read, or are damaged.
    """
    import uproot

    plain = (
        uproot.interpretation.numerical.Numerical,
        uproot.interpretation.jagged.AsJagged,
        uproot.interpretation.strings.AsStrings,
    )
    for name in names:
        branch = branch_at(tree, name)
        try:
            branch_array(tree, name, *entries)
        except (OSError, MemoryError):
            return None
        except Exception as error:
            if causes.is_client_error(error):
                return None
            is_class = not isinstance(getattr(branch, "interpretation", None), plain)
            from_bytes = isinstance(error, uproot.deserialization.DeserializationError)
            module = type(error).__module__.split(".")[0]
            if module in DECOMPRESSORS or (from_bytes and not is_class):
                return None
            return _unreadable(name, branch, url, cause_of(error))
    return None


def _unreadable(name: str, branch: Any, url: str, reason: str) -> TransformError:
    """Return the error for a branch that uproot cannot read."""
    place = f"{url}: " if url else ""
    message = f"{place}{name!r} ({branch.typename}) cannot be read: {reason}"
    return TransformError("UnreadableBranch", f"{message}; leave it out")


def _chunks(tree: Any, names: list[str]) -> Iterator[tuple[int, int, Any]]:
    entries = tree.num_entries
    step = _step(tree, names) if entries else 1
    if is_rntuple(tree):
        # `iterate` would look through all fields for those below each field.
        for start in range(0, max(entries, 1), step):
            stop = min(start + step, entries)
            yield start, stop, _field_arrays(tree, names, start, stop)
        return
    if not entries:
        yield 0, 0, tree.arrays(names)
        return
    for arrays, report in tree.iterate(names, step_size=step, report=True):
        yield int(report.tree_entry_start), int(report.tree_entry_stop), arrays


def _field_arrays(tree: Any, names: list[str], start: int, stop: int) -> dict[str, Any]:
    return {name: branch_array(tree, name, start, stop) for name in names}


def branch_at(tree: Any, path: str) -> Any:
    """Return the branch of a TTree, or the field of an RNTuple, with a path.

    The name of a field may contain what separates names in a path.
    """
    if is_rntuple(tree) and ("." in path or "/" in path):
        for each in tree.fields:
            if each.name == path:
                return each
    return tree[path]


def branch_array(tree: Any, path: str, start: int, stop: int) -> Any:
    """Return the values of a branch or field for some entries."""
    if is_rntuple(tree) and ("." in path or "/" in path) and branch_at(tree, path).name == path:
        # uproot would look for a field within another one.
        arrays = tree.arrays(filter_name=path.__eq__, entry_start=start, entry_stop=stop)
        return arrays[path]
    return tree[path].array(entry_start=start, entry_stop=stop)


def _step(tree: Any, names: list[str]) -> int:
    """Return how many entries are read at once.

    uproot's own choice would ask each basket for its size, in a request of its own.
    """
    sizes = [getattr(branch_at(tree, name), "uncompressed_bytes", 0) for name in names]
    per_entry = max(sum(int(size) for size in sizes) / max(tree.num_entries, 1), 1.0)
    return max(SMALLEST_STEP, min(int(STEP_BYTES / per_entry), LARGEST_STEP))
