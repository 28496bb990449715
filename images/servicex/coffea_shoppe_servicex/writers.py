"""Files of columns, written chunk by chunk; complete once they are closed."""

import io
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import awkward as ak
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import uproot

from coffea_shoppe_servicex.errors import TransformError, cause_of
from coffea_shoppe_servicex.formats import Format

LENGTH = re.compile(r"\[[1-9][0-9]*\]")
"""How ROOT spells the length of an array."""
TREE_COLUMN = "treename"
"""Column of a parquet file of several trees: the tree of each row."""


class Writer(Protocol):
    """A result that is written chunk by chunk."""

    def extend(
        self, tree: str, columns: ak.Array, counters: Mapping[str, str] | None = None
    ) -> None:
        """Add rows (an array of records) to a tree; the first call creates it.

        `counters` gives, for columns of lists, the column that counts their elements.  It is
        the same in each call.
        """

    def copy(self, name: str, histogram: Any) -> None:
        """Add a histogram."""

    def close(self) -> None:
        """Complete the file."""


def writer(path: Path, result_format: Format, *, several: bool) -> Writer:
    """Return the writer of a format; `several` trees share a parquet file's rows."""
    if result_format == "parquet":
        return ParquetWriter(path, several=several)
    make = "mkrntuple" if result_format == "root-rntuple" else "mktree"
    return RootWriter(path, make)


def _refused(tree: str, error: Exception, problem: str | None) -> TransformError:
    """Return the error for columns that a format cannot store; `problem` names one of them."""
    message = f"the columns of {tree!r} cannot be written: {problem or cause_of(error)}"
    return TransformError("CannotWrite", message)


class ParquetWriter:
    """Parquet; each chunk is a row group."""

    def __init__(self, path: Path, *, several: bool) -> None:
        self.path, self.several = path, several
        self._parts: dict[str, pq.ParquetWriter] = {}

    def extend(
        self, tree: str, columns: ak.Array, counters: Mapping[str, str] | None = None
    ) -> None:
        """Add rows; trees that differ in their columns get a null for each that they lack."""
        try:
            columns = with_masks_for_empty_content(columns)
            table = _arrow(columns)
            if tree not in self._parts:
                self._parts[tree] = _parquet(self._part(len(self._parts)), table.schema)
            part = self._parts[tree]
            part.write_table(table if table.schema == part.schema else table.cast(part.schema))
        except Exception as error:
            problem = None
            for name in columns.fields:
                problem = problem or self._problem(name, columns[[name]])
            raise _refused(tree, error, problem) from error

    def _problem(self, name: str, column: ak.Array) -> str | None:
        """Return why a column cannot be written alone, with a remedy; None if it can."""
        try:
            table = _arrow(column)
            with _parquet(pa.BufferOutputStream(), table.schema) as trial:
                trial.write_table(table)
        except Exception as error:
            described = f"{name!r} ({column[name].type.content}) is not a type of parquet"
            other = "" if _has(column[name], _is_union) else ", or request root-rntuple"
            return f"{described}: leave it out{other} ({cause_of(error)})"
        return None

    def _part(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}") if self.several else self.path

    def copy(self, name: str, histogram: Any) -> None:
        """Refuse: such queries are refused at submission."""
        raise TransformError(
            "CannotWrite", f"parquet has no histograms ({name!r}): request root-file"
        )

    def close(self) -> None:
        """Complete the file; with several trees, a column names the tree of each row."""
        for part in self._parts.values():
            part.close()
        if not self._parts:
            # No tree was there.  Readers want a column, and a row group.
            schema = pa.schema([pa.field(TREE_COLUMN, pa.string())])
            with _parquet(self.path, schema) as empty:
                empty.write_table(schema.empty_table())
        if not self.several or not self._parts:
            return
        lacking = [[f.with_nullable(True) for f in part.schema] for part in self._parts.values()]
        lacking.append([pa.field(TREE_COLUMN, pa.string())])
        schema = pa.unify_schemas([pa.schema(fields) for fields in lacking])
        with _parquet(self.path, schema) as merged:
            for number, tree in enumerate(self._parts):
                with pq.ParquetFile(self._part(number)) as part_file:
                    for group in range(part_file.num_row_groups):
                        rows = part_file.read_row_group(group)
                        merged.write_table(_completed(rows, schema, tree))
                self._part(number).unlink()


def _arrow(columns: ak.Array) -> pa.Table:
    table = ak.to_arrow_table(columns, extensionarray=False, list_to32=False)
    # The metadata with awkward's own types differ from chunk to chunk.
    return table.replace_schema_metadata(None)


def _parquet(path: Path | pa.BufferOutputStream, schema: pa.Schema) -> pq.ParquetWriter:
    # Dictionaries and statistics cost more than they save for columns of floats, and zstd
    # takes three times as long to read, for files that are a seventh smaller.
    return pq.ParquetWriter(
        path,
        schema,
        compression="lz4",
        use_dictionary=False,
        write_statistics=False,
    )


def _completed(table: pa.Table, schema: pa.Schema, tree: str) -> pa.Table:
    """Return rows of a tree with all columns of a schema."""
    rows = table.num_rows
    columns = [
        table[field.name] if field.name in table.column_names else pa.nulls(rows, field.type)
        for field in schema
        if field.name != TREE_COLUMN
    ]
    tags = pa.array([tree] * rows, pa.string())
    names = [name for name in schema.names if name != TREE_COLUMN]
    completed = pa.table([*columns, tags], names=[*names, TREE_COLUMN])
    return completed.select(schema.names).cast(schema)


class RootWriter:
    """ROOT: a TTree or an RNTuple for each tree, and histograms."""

    def __init__(self, path: Path, make: str) -> None:
        self._file = uproot.recreate(path, compression=uproot.ZLIB(1))
        self._make: Callable[..., Any] = getattr(self._file, make)
        self._is_ttree = make == "mktree"
        self._trees: dict[str, Any] = {}

    def extend(
        self, tree: str, columns: ak.Array, counters: Mapping[str, str] | None = None
    ) -> None:
        """Add rows; a tree's jagged columns share a counter where the input had one."""
        arrays = {name: columns[name] for name in columns.fields}
        if self._is_ttree:
            arrays = collections(arrays, counters or {})
        else:
            arrays = {name: without_masks(array) for name, array in arrays.items()}
        try:
            if tree not in self._trees:
                self._refuse_changed(tree, arrays)
                types = {name: array.type.content for name, array in arrays.items()}
                self._trees[tree] = self._make(tree, types, **self._options(arrays))
            if len(columns):
                self._trees[tree].extend(arrays)
        except TransformError:
            raise
        except Exception as error:
            problem = None
            for name, array in arrays.items():
                problem = problem or self._problem(name, array)
            raise _refused(tree, error, problem) from error

    def _refuse_changed(self, tree: str, arrays: Mapping[str, ak.Array]) -> None:
        """Raise `TransformError` for columns that uproot writes, but that cannot be read back."""
        problem = None
        for name, array in arrays.items():
            described = f"{name!r} ({array.type.content}) is not a type of"
            if self._is_ttree and LENGTH.search(name):
                # ROOT reads the lengths of arrays from the title, which begins with the name.
                problem = f"{name!r} is no name of a TTree's branch: request parquet or "
                problem += "root-rntuple, or give it another name by an alias"
            elif self._is_ttree and _has(array, _is_list_of_fixed_lists):
                problem = f"{described} a TTree: request parquet or root-rntuple"
            elif not self._is_ttree and _has(array, _is_union):
                # The values of all clusters but the first would be those of the first one.
                problem = f"{described} an RNTuple: leave it out"
        for name, parts in members(arrays).items() if self._is_ttree else ():
            if repeated := parts & arrays.keys():
                other = min(repeated)
                described = f"{name!r} ({arrays[name].type.content}) becomes branches of a TTree"
                problem = f"{described}, one of them {other!r}, which is another column: request "
                problem += "parquet or root-rntuple, or leave one out"
        if problem:
            message = f"the columns of {tree!r} cannot be written: {problem}"
            raise TransformError("CannotWrite", message)

    def _options(self, arrays: Mapping[str, ak.Array]) -> dict[str, Any]:
        """Return the options of a new tree: a counter must not have the name of a column."""
        if not self._is_ttree:
            return {}
        names = {*arrays, *(name for parts in members(arrays).values() for name in parts)}

        def counter_name(name: str) -> str:
            counter = f"n{name}"
            while counter in names:
                counter = f"n_{counter[1:]}"
            return counter

        return {"counter_name": counter_name}

    def _problem(self, name: str, array: ak.Array) -> str | None:
        """Return why a column cannot be written alone, with a remedy; None if it can."""
        make = "mktree" if self._is_ttree else "mkrntuple"
        try:
            with uproot.recreate(io.BytesIO()) as trial:
                trial_tree = getattr(trial, make)("trial", {name: array.type.content})
                if len(array):
                    trial_tree.extend({name: array})
        except Exception as error:
            kind, other = ("a TTree", "request parquet or root-rntuple")
            if not self._is_ttree:
                kind, other = ("an RNTuple", "request parquet")
            if _has(array, _is_union):
                other = "leave it out"
            filled = f", or fill_none({name}, …)" if "?" in str(array.type) else ""
            described = f"{name!r} ({array.type.content}) is not a type of {kind}"
            return f"{described}: {other}{filled} ({cause_of(error)})"
        return None

    def copy(self, name: str, histogram: Any) -> None:
        """Add a histogram, a text, or what else uproot can write."""
        content = str(histogram) if isinstance(histogram, str) else histogram
        try:
            self._file[name] = content
        except Exception as error:
            kind = getattr(histogram, "classname", type(histogram).__name__)
            problem = f"{name!r} ({kind}) cannot be copied: {cause_of(error)}"
            message = f"{problem}; leave it out of copy_histograms"
            raise TransformError("CannotWrite", message) from error

    def close(self) -> None:
        """Complete the file."""
        self._file.close()


def _has(array: ak.Array, kind: Callable[[Any], bool]) -> bool:
    """Return whether a column, or what is within it, is of a kind of layout."""
    seen = False

    def visit(layout: Any, **_: Any) -> None:
        nonlocal seen
        seen = seen or kind(layout)

    ak.transform(visit, array, return_value="none")
    return seen


def _is_list_of_fixed_lists(layout: Any) -> bool:
    """Return whether a layout is of lists that vary in length, of lists that do not."""
    if not layout.is_list or layout.is_regular:
        return False
    content = layout.content
    while content.is_indexed or content.is_option:
        content = content.content
    contents = content.contents if content.is_record else [content]
    is_text = layout.parameter("__array__") is not None
    return not is_text and any(each.is_regular and each.purelist_depth > 1 for each in contents)


def _is_union(layout: Any) -> bool:
    return bool(layout.is_union)


def members(columns: Mapping[str, ak.Array]) -> dict[str, set[str]]:
    """Return the branches of a TTree that become of each column of records."""
    return {
        name: {f"{name}_{member}" for member in array.fields}
        for name, array in columns.items()
        if array.fields
    }


def without_masks(array: ak.Array) -> ak.Array:
    """Return an array whose content has no entries for missing values.

    uproot writes the content of a masked array as if it were that, which shifts all values
    that follow a missing one.
    """

    def changed(layout: Any, **_: Any) -> Any:
        if layout.is_option and not layout.is_indexed:
            return ak.transform(changed, layout.to_IndexedOptionArray64(), highlevel=False)
        return None

    return ak.to_packed(ak.transform(changed, array))


def with_masks_for_empty_content(array: ak.Array) -> ak.Array:
    """Return an array whose options have content, or a mask.

    awkward cannot convert an index without content to Arrow where the content is of lists:
    a chunk in which a list is missing in every event.
    """

    def changed(layout: Any, **_: Any) -> Any:
        if layout.is_option and layout.is_indexed and not layout.content.length:
            return layout.to_ByteMaskedArray(valid_when=True)
        return None

    return ak.transform(changed, array)


def collections(
    columns: Mapping[str, ak.Array], counters: Mapping[str, str]
) -> dict[str, ak.Array]:
    """Return columns with `Jet_pt`, `Jet_eta`, … as one collection `Jet` that `nJet` counts.

    So NanoAOD comes out as NanoAOD.  `counters` gives the counter of each column that has one;
    uproot writes the counter itself.  All other columns stay as they are.
    """
    grouped = dict(columns)
    for counter in dict.fromkeys(counters.values()):
        name = counter.removeprefix("n")
        counted = [each for each, its in counters.items() if its == counter]
        lists = [each for each in counted if each in columns and columns[each].ndim == 2]
        members = {each.removeprefix(f"{name}_"): each for each in lists if each != name}
        members = {member: each for member, each in members.items() if member != each}
        if name == counter or counter not in columns or name in grouped.keys() - set(lists):
            continue
        if not members and name not in lists:
            continue
        for each in [counter, *members.values()]:
            grouped.pop(each, None)
        if members:
            grouped[name] = ak.zip({member: columns[each] for member, each in members.items()})
    return grouped


def counters_by_content(columns: ak.Array) -> dict[str, str]:
    """Return the counters of all rows of a tree: `nJet` of `Jet_…`, where it counts them all."""
    counters: dict[str, str] = {}
    for counter in columns.fields:
        prefix = f"{counter.removeprefix('n')}_"
        lists = [
            name for name in columns.fields if name.startswith(prefix) and columns[name].ndim == 2
        ]
        if prefix == f"{counter}_" or columns[counter].ndim != 1 or not lists:
            continue
        counts = np.asarray(columns[counter])
        if all(np.array_equal(np.asarray(ak.num(columns[name])), counts) for name in lists):
            counters |= dict.fromkeys(lists, counter)
    return counters
