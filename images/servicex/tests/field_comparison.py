"""Files as the field has them: what is delivered of each tree is what uproot reads.

Every tree of a file is delivered in each format, in chunks, and compared with what uproot
reads of the whole file, value by value.  A column that a format lacks must be refused by an
error that names it; the request without it must then be right.
"""

import argparse
import csv
import glob
import hashlib
import json
import logging
import math
import resource
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import awkward as ak
import numpy as np
import uproot
from coffea_shoppe_servicex import root_files
from coffea_shoppe_servicex.errors import QueryError, TransformError, cause_of
from coffea_shoppe_servicex.formats import Format
from servicex_helpers import deliver, raw

FORMS: tuple[Format, ...] = ("parquet", "root-file", "root-rntuple")
CHUNKS = 3
"""In how many chunks a tree is read."""
MOST_ENTRIES = 300_000
"""Larger trees are left out: what is compared is in memory, several times."""
MEMORY_GIB = 6
"""Limit of the program's memory: some small files have very many values."""
LOG = logging.getLogger(__name__)
LIST = Path(__file__).with_name("field_files.csv")


# What is compared.


def content(array: ak.Array) -> Iterator[bytes]:
    """Yield the values of an array, with their types, however awkward stores them.

    Lists of a fixed length are lists; a tuple is a record.  What has no value has no type.
    """
    yield from _content(ak.to_layout(ak.to_packed(array)))


def _content(layout: Any) -> Iterator[bytes]:
    if not layout.length or layout.is_unknown:
        return
    if layout.is_indexed and not layout.is_option:
        yield from _content(layout.project())
    elif layout.is_option:
        missing = np.asarray(layout.mask_as_bool(valid_when=False))
        if missing.any():
            yield b"?" + np.packbits(missing).tobytes()
        yield from _content(layout.project())
    elif layout.parameter("__array__") in ("string", "bytestring"):
        listed = layout.to_ListOffsetArray64(start_at_zero=True)
        characters = np.asarray(listed.content.to_backend_array())
        yield b"text" + np.diff(listed.offsets.data).tobytes()
        yield characters[: listed.offsets[-1]].tobytes()
    elif layout.is_list:
        listed = layout.to_ListOffsetArray64(start_at_zero=True)
        yield b"list" + np.diff(listed.offsets.data).tobytes()
        yield from _content(listed.content[: listed.offsets[-1]])
    elif layout.is_record:
        for name in layout.fields:
            yield f".{name}".encode()
            yield from _content(layout[name])
    elif layout.is_union:
        yield json.dumps(ak.to_list(layout), default=str).encode()
    elif layout.is_numpy and layout.purelist_depth > 1:
        yield from _content(layout.to_RegularArray())
    else:
        numbers = np.asarray(layout.data)
        yield f"{numbers.dtype.str}{len(numbers)}".encode() + numbers.tobytes()


def digest(array: ak.Array) -> str:
    """Return a hash of an array's values and their types."""
    total = hashlib.sha256(str(len(array)).encode())
    for part in content(array):
        total.update(part)
    return total.hexdigest()


@dataclass
class Expected:
    """What uproot reads of a tree: arrays by the branches' paths, and what it cannot read."""

    entries: int
    arrays: dict[str, ak.Array] = field(default_factory=dict)
    groups: set[str] = field(default_factory=set)
    """Branches that are records of the branches within them."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Reasons by path."""

    def names(self) -> dict[str, str]:
        """Return the paths of branches by the names that stand for one of them."""
        last: dict[str, list[str]] = {}
        for path in self.arrays:
            last.setdefault(path.rpartition("/")[2], []).append(path)
        only = {name: paths[0] for name, paths in last.items() if len(paths) == 1}
        return only | {path: path for path in self.arrays}


def read(tree: Any) -> Expected:
    """Return what uproot reads of each branch of a TTree, or of each field of an RNTuple."""
    expected = Expected(int(tree.num_entries))
    if root_files.is_rntuple(tree):
        try:
            arrays = tree.arrays()
            return replace(expected, arrays={name: arrays[name] for name in arrays.fields})
        except Exception as error:
            LOG.info("%s: field by field: %s", tree.name, error)
    for path, branch in branches_of(tree).items():
        interpretation = getattr(branch, "interpretation", None)
        if isinstance(interpretation, uproot.interpretation.grouped.AsGrouped):
            expected.groups.add(path)
        if root_files.is_misread(interpretation):
            expected.unreadable[path] = "uproot misreads it"
            continue
        try:
            array = ak.Array(values_of(tree, path, branch, expected.entries))
            digest(array)
            expected.arrays[path] = array
        except MemoryError:
            raise
        except Exception as error:
            expected.unreadable[path] = f"{type(error).__name__}: {cause_of(error)}"
    return expected


def branches_of(tree: Any) -> dict[str, Any]:
    """Return the branches of a TTree by their paths, or the fields of an RNTuple."""
    if not root_files.is_rntuple(tree):
        return dict(tree.iteritems(recursive=True, full_paths=True))
    return {field.name: field for field in tree.fields}


def values_of(tree: Any, path: str, branch: Any, stop: int) -> Any:
    """Return the values of a branch, or of a field of an RNTuple: its name may have dots."""
    if root_files.is_rntuple(tree):
        return tree.arrays(filter_name=path.__eq__, entry_stop=stop)[path]
    return branch.array(entry_stop=stop)


# What is delivered.


@dataclass
class Outcome:
    """What became of one tree in one format."""

    file: str
    tree: str
    form: str
    verdict: str = "equal"
    """equal, refused or wrong."""
    reason: str = ""
    columns: int = 0
    """Columns that were delivered."""
    refused: dict[str, str] = field(default_factory=dict)
    """Messages for columns that were refused by name, and left out then."""
    refused_kinds: dict[str, str] = field(default_factory=dict)
    """The same columns: the error's reason, and their types."""


def attempt(path: Path, tree: str, form: Format, folder: Path, expected: Expected) -> Outcome:
    """Deliver a tree and compare it; leave out what is refused by name, and deliver again."""
    outcome = Outcome(str(path), tree, form)
    left_out: set[str] = set()
    unreadable = False
    step = max(math.ceil(expected.entries / CHUNKS), 1)
    while True:
        names = [name for name in expected.arrays if name not in left_out | expected.groups]
        by_name = bool(left_out) or unreadable
        query = {"treename": tree} | (
            {"filter_name": [glob.escape(name) for name in names]} if by_name else {}
        )
        try:
            with mock.patch.object(root_files, "_step", lambda *_: step):
                result = deliver(folder, raw(**query), path, form=form)
            delivered = read_result(result, form)
            problem = difference(expected, delivered, left_out, form)
        except (TransformError, QueryError) as error:
            refused = refused_columns(str(error), expected, left_out)
            outcome.refused |= dict.fromkeys(refused, str(error))
            reason = getattr(error, "reason", "BadQuery")
            for name in refused:
                kind = structure_of(expected.arrays[name])
                outcome.refused_kinds[name] = f"{reason}, {kind}"
            left_out |= set(refused)
            if refused and set(names) - left_out:
                continue
            if (
                names
                and not unreadable
                and any(repr(name) in str(error) for name in expected.unreadable)
            ):
                # What uproot cannot read, either, is no reason against the others.
                unreadable = True
                continue
            outcome.verdict, outcome.reason = "refused", str(error)
            if not refused and repr(tree) not in str(error) and str(path) not in str(error):
                outcome.verdict = "wrong"
                outcome.reason = f"neither file, tree nor column is named: {error}"
            return outcome
        except MemoryError:
            raise
        except Exception as error:
            outcome.verdict, outcome.reason = "wrong", f"{type(error).__name__}: {cause_of(error)}"
            return outcome
        outcome.columns = len(delivered)
        if problem:
            outcome.verdict, outcome.reason = "wrong", problem
        return outcome


def read_result(path: Path, form: Format) -> dict[str, ak.Array]:
    """Return the columns of a result."""
    if form == "parquet":
        arrays = ak.from_parquet(path)
        return {name: arrays[name] for name in arrays.fields}
    with uproot.open({path: None}) as file:
        tree = file[root_files.tree_names(file)[0]]
        if root_files.is_rntuple(tree):
            arrays = tree.arrays()
            return {name: arrays[name] for name in arrays.fields}
        stop = int(tree.num_entries)
        return {name: branch.array(entry_stop=stop) for name, branch in branches_of(tree).items()}


def refused_columns(message: str, expected: Expected, left_out: set[str]) -> list[str]:
    """Return the column that an error names first, and those of the same type."""
    columns = {path: array for path, array in expected.arrays.items() if path not in left_out}
    named = {
        message.index(repr(name)): path
        for path in columns
        for name in (path, path.rpartition("/")[2])
        if repr(name) in message
    }
    if not named:
        return []
    kind = str(columns[named[min(named)]].type.content)
    return [path for path, array in columns.items() if str(array.type.content) == kind]


def structure_of(array: ak.Array) -> str:
    """Return an array's type without the names of records and of their members."""

    def described(kind: Any) -> str:
        if isinstance(kind, ak.types.OptionType):
            return f"option of {described(kind.content)}"
        if isinstance(kind, ak.types.UnionType):
            return "union"
        if isinstance(kind, ak.types.RecordType):
            parts = sorted({described(content) for content in kind.contents})
            return f"record of ({', '.join(parts)})"
        if isinstance(kind, ak.types.ListType | ak.types.RegularType):
            if kind.parameters.get("__array__"):
                return str(kind.parameters["__array__"])
            length = "list" if isinstance(kind, ak.types.ListType) else "fixed list"
            return f"{length} of {described(kind.content)}"
        return "number"

    return described(array.type.content)


def difference(
    expected: Expected, delivered: Mapping[str, ak.Array], left_out: set[str], form: Format
) -> str:
    """Return how the columns differ from what uproot reads; empty if they do not."""
    columns = dict(delivered)
    by_name = expected.names()
    paths = set()
    if form == "root-file":
        for name in list(columns):
            if name not in by_name and is_counter(name, delivered):
                del columns[name]
        columns = records_of_branches(columns, expected)
    for column, array in columns.items():
        path = by_name.get(column)
        if path is None:
            return f"{column!r} is delivered, and no branch that uproot reads"
        paths.add(path)
        right = expected.arrays[path]
        if form == "root-file" and column in delivered and is_counter(column, delivered):
            # uproot writes the counters of lists as int32.
            right, array = (ak.values_astype(each, "i8") for each in (right, array))
        if problem := differing(right, array):
            return f"{column!r}: {problem}"
    for path in expected.arrays.keys() - left_out:
        group = {each for each in expected.groups if path.startswith(f"{each}/")}
        inside = {each for each in paths if each.startswith(f"{path}/")}
        if paths.isdisjoint({path, *group}) and not (path in expected.groups and inside):
            return f"{path!r} is not delivered"
    return ""


def is_counter(column: str, columns: Mapping[str, ak.Array]) -> bool:
    """Return whether a column is the counter that uproot writes for lists of other columns."""
    counts = columns[column]
    return counts.ndim == 1 and any(
        lists.ndim > 1 and bool(ak.all(ak.num(lists) == counts))
        for name, lists in columns.items()
        if column.removeprefix("n").removeprefix("_") in (name, name.partition("_")[0])
        or name.startswith(f"{column.removeprefix('n')}_")
    )


def records_of_branches(columns: Mapping[str, ak.Array], expected: Expected) -> dict[str, ak.Array]:
    """Return columns in which the branches `p_x`, `p_y` of a TTree are the record `p` again."""
    joined = dict(columns)
    for path, array in expected.arrays.items():
        name = path.rpartition("/")[2]
        for each in (path, name):
            parts = {member: f"{each}_{member}" for member in array.fields}
            if parts and all(part in joined for part in parts.values()):
                members = {member: joined.pop(part) for member, part in parts.items()}
                joined[each] = ak.zip(members, depth_limit=array.ndim)
                break
    return joined


def differing(expected: ak.Array, delivered: ak.Array) -> str:
    """Return the first difference of two columns; empty if there is none."""
    if digest(expected) == digest(delivered):
        return ""
    if len(expected) != len(delivered):
        return f"{len(delivered)} entries, uproot reads {len(expected)}"
    for entry, (right, actual) in enumerate(zip(expected, delivered, strict=True)):
        values = [each.tolist() if hasattr(each, "tolist") else each for each in (right, actual)]
        if repr(values[0]) != repr(values[1]):
            return f"entry {entry} is {values[1]!r:.200}, uproot reads {values[0]!r:.200}"
    return f"its type is {delivered.type.content}, uproot reads {expected.type.content}"


# Files.


@dataclass(frozen=True)
class Listed:
    """A row of the list: a public file."""

    repository: str
    """OWNER/NAME at GitHub."""
    path: str
    """In the repository."""
    sha256: str
    answer: str
    """Hash of what uproot reads of the file."""
    structure: str
    """Name of a structure of `field_generator`."""


def read_list(path: Path = LIST) -> list[Listed]:
    """Return the rows of a list."""
    with path.open(newline="") as file:
        return [Listed(**row) for row in csv.DictReader(file)]


def trees(path: Path) -> dict[str, Expected]:
    """Return what uproot reads of a file's trees; an older cycle has its number."""
    expected = {}
    with uproot.open({path: None}) as file:
        classes = file.classnames(cycle=True).items()
        for key in [key for key, kind in classes if kind in root_files.TREE_CLASSES]:
            name = key.rpartition(";")[0]
            tree = file[key]
            if tree.num_entries <= MOST_ENTRIES:
                is_newest = file.key(name).fCycle == file.key(key).fCycle
                expected[name if is_newest else key] = read(tree)
    return expected


def answer_of(expected: Mapping[str, Expected]) -> str:
    """Return a hash of what uproot reads of a file's trees."""
    total = hashlib.sha256()
    for name, tree in sorted(expected.items()):
        total.update(f"{name}\0{tree.entries}\0".encode())
        for path, array in sorted(tree.arrays.items()):
            total.update(f"{path}\0{digest(array)}\0".encode())
    return total.hexdigest()


def compare(
    path: Path, expected: Mapping[str, Expected], forms: Iterable[Format] = FORMS
) -> Iterator[Outcome]:
    """Yield what becomes of each tree of a file in each format."""
    for name, tree in expected.items():
        for form in forms:
            with tempfile.TemporaryDirectory() as folder:
                yield attempt(path, name, form, Path(folder), tree)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def compare_listed(path: Path, row: Listed) -> Iterator[Outcome]:
    """Yield what becomes of a listed file, named as in the list."""
    name = f"{row.repository}/{row.path}"
    try:
        expected = trees(path)
        if answer_of(expected) != row.answer:
            reason = "uproot reads other values than the list says"
            yield Outcome(name, "", "uproot", "wrong", reason)
        for outcome in compare(path, expected):
            yield replace(outcome, file=name)
    except MemoryError:
        yield Outcome(name, "", "uproot", "refused", f"it needs more than {MEMORY_GIB} GiB")


def main(arguments: list[str] | None = None) -> None:
    """Print a line of JSON for each outcome, and before each file one that names it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder with files of the list, below it")
    parser.add_argument("--list", type=Path, default=LIST, help="the list (CSV)")
    parser.add_argument(
        "--rows", metavar="OWNER/NAME", help="print rows for all files of a checkout instead"
    )
    options = parser.parse_args(arguments)
    paths = sorted(path for path in options.folder.rglob("*.root*") if path.is_file())
    if options.rows:
        for path in paths:
            expected = trees(path)
            place = path.relative_to(options.folder)
            if any(tree.arrays for tree in expected.values()):
                texts = [options.rows, place, sha256_of(path), answer_of(expected), ""]
                print(",".join(map(str, texts)), flush=True)
        return
    by_content = {row.sha256: row for row in read_list(options.list)}
    present = {}
    for path in paths:
        if row := by_content.get(sha256_of(path)):
            present[row] = path
    print(json.dumps({"listed": len(by_content), "present": len(present)}), flush=True)
    for row, path in present.items():
        print(json.dumps({"next": f"{row.repository}/{row.path}"}), flush=True)
        for outcome in compare_listed(path, row):
            print(json.dumps(asdict(outcome)), flush=True)


if __name__ == "__main__":
    # Not in main(), which tests call: these settings are the process'.
    logging.disable(logging.ERROR)
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_GIB << 30, resource.RLIM_INFINITY))
    main()
