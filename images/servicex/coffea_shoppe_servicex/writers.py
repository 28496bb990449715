"""Files of columns, written chunk by chunk; complete once they are closed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import awkward as ak
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import uproot

from coffea_shoppe_servicex.errors import TransformError
from coffea_shoppe_servicex.queries import Format

TREE_COLUMN = "treename"
"""In parquet, what tells the rows of several trees apart."""


class Writer(Protocol):
    """A file that grows."""

    def extend(self, tree: str, columns: ak.Array) -> None:
        """Add rows (an array of records) to a tree; the first call makes it."""

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


def _refused(name: str, error: Exception) -> TransformError:
    told = (str(error).strip().splitlines() or [repr(error)])[0]
    return TransformError("CannotWrite", f"the columns of {name!r} cannot be written: {told}")


class ParquetWriter:
    """Parquet, of which a row group is a chunk."""

    def __init__(self, path: Path, *, several: bool) -> None:
        self.path, self.several = path, several
        self._parts: dict[str, pq.ParquetWriter] = {}

    def extend(self, tree: str, columns: ak.Array) -> None:
        """Add rows; trees that differ in their columns get a null for each that they lack."""
        try:
            table = ak.to_arrow_table(columns, extensionarray=False, list_to32=False)
        except Exception as error:
            raise _refused(tree, error) from error
        # What awkward notes about its own types differs from chunk to chunk.
        table = table.replace_schema_metadata(None)
        if tree not in self._parts:
            self._parts[tree] = _parquet(self._part(len(self._parts)), table.schema)
        part = self._parts[tree]
        part.write_table(table if table.schema == part.schema else table.cast(part.schema))

    def _part(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}") if self.several else self.path

    def copy(self, name: str, histogram: Any) -> None:
        """Refuse: queries with histograms are not let in."""
        raise TransformError("CannotWrite", f"parquet cannot hold the histogram {name!r}")

    def close(self) -> None:
        """Complete the file; several trees' rows follow one another, told apart by a column."""
        for part in self._parts.values():
            part.close()
        if not self.several:
            return
        lacking = [[f.with_nullable(True) for f in part.schema] for part in self._parts.values()]
        lacking.append([pa.field(TREE_COLUMN, pa.string())])
        schema = pa.unify_schemas([pa.schema(fields) for fields in lacking])
        with _parquet(self.path, schema) as whole:
            for number, tree in enumerate(self._parts):
                with pq.ParquetFile(self._part(number)) as held:
                    for group in range(held.num_row_groups):
                        whole.write_table(_completed(held.read_row_group(group), schema, tree))
                self._part(number).unlink()


def _parquet(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
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
    whole = pa.table([*columns, tags], names=[*names, TREE_COLUMN])
    return whole.select(schema.names).cast(schema)


class RootWriter:
    """ROOT: a TTree or an RNTuple for each tree, and histograms."""

    def __init__(self, path: Path, make: str) -> None:
        self._file = uproot.recreate(path, compression=uproot.ZLIB(1))
        self._make: Callable[..., Any] = getattr(self._file, make)
        self._grouped = make == "mktree"
        self._trees: dict[str, Any] = {}

    def extend(self, tree: str, columns: ak.Array) -> None:
        """Add rows; a tree's jagged columns share a counter where the input had one."""
        data = {name: columns[name] for name in columns.fields}
        try:
            if self._grouped:
                data = collections(data)
            if tree not in self._trees:
                types = {name: array.type.content for name, array in data.items()}
                self._trees[tree] = self._make(tree, types)
            if len(columns):
                self._trees[tree].extend(data)
        except Exception as error:
            raise _refused(tree, error) from error

    def copy(self, name: str, histogram: Any) -> None:
        """Add a histogram."""
        self._file[name] = histogram

    def close(self) -> None:
        """Complete the file."""
        self._file.close()


def collections(columns: dict[str, ak.Array]) -> dict[str, ak.Array]:
    """Return columns with `Jet_pt`, `Jet_eta`, … as one collection `Jet` that `nJet` counts.

    So NanoAOD comes out as NanoAOD.  What is not of that form stays as it is.
    """
    found = dict(columns)
    for counter in columns:
        if not counter.startswith("n") or columns[counter].ndim != 1:
            continue
        prefix = f"{counter[1:]}_"
        members = {
            name.removeprefix(prefix): array
            for name, array in columns.items()
            if name.startswith(prefix) and array.ndim == 2
        }
        counts = np.asarray(columns[counter])
        if not members or any(
            not np.array_equal(np.asarray(ak.num(array)), counts) for array in members.values()
        ):
            continue
        for name in (counter, *(f"{prefix}{member}" for member in members)):
            del found[name]
        found[counter[1:]] = ak.zip(members)
    return found
