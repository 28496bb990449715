"""Columns of NanoAOD as flat arrays, read from files that stay open for a run.

Real files have about a thousand branches.  Only those that the analysis uses are described and
read, and a process opens each file once for a run: opening one costs as much as reading many
thousand events.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, TypeVar

import awkward as ak
import isal.isal_zlib  # noqa: F401  (uproot expects that somebody has imported it)
import numpy as np
import uproot
from coffea_shoppe_contract.addresses import shown_address
from numpy.typing import NDArray

from agc.samples import TREE, InputError

# NanoAOD is mostly compressed by ZLIB, and decompression is most of the analysis: ISA-L's takes
# half the time.  uproot.ZLIB has a setting of that name, which its reader does not look at.
uproot.compression._DecompressZLIB.library = "isal"
# What is written stays as it was: ISA-L compresses less at the same level.
uproot.ZLIB.library = "zlib"

# Long enough for a reader to notice that a server stopped, and to reconnect.
OPEN_TIMEOUT_S = 120
MOST_OPEN = 16
"""Files of a run that a process keeps open."""

T = TypeVar("T")
R = TypeVar("R")
Offsets = NDArray[np.int64]


@dataclass(frozen=True)
class Columns:
    """Columns of consecutive events."""

    events: int
    values: Mapping[str, NDArray[Any]]
    """By branch: one value per event, or those of all objects of all events."""
    offsets: Mapping[str, Offsets]
    """By collection, such as `Jet`: (events + 1,), where each event's objects begin."""
    first: int | None = None
    """Entry of the first event in its file; None where it is not known."""

    @classmethod
    def of(cls, arrays: Mapping[str, ak.Array], first: int | None = None) -> "Columns":
        """Return arrays of numbers, and of lists `COLLECTION_FIELD` of numbers, as columns.

        Raises `InputError` where lists of a collection differ in length.
        """
        values: dict[str, NDArray[Any]] = {}
        offsets: dict[str, Offsets] = {}
        for name, array in arrays.items():
            if array.ndim == 1:
                values[name] = np.asarray(array)
                continue
            layout = ak.to_layout(ak.drop_none(array) if array.layout.is_option else array)
            lists = layout.to_ListOffsetArray64(True)
            starts = np.asarray(lists.offsets.data)
            values[name] = np.asarray(ak.to_numpy(lists.content[: starts[-1]]))
            known = offsets.setdefault(name.partition("_")[0], starts)
            if not np.array_equal(known, starts):
                raise InputError(f"{name} has lists of other lengths than its collection")
        events = (
            len(next(iter(offsets.values()))) - 1 if offsets else len(values[next(iter(values))])
        )
        return cls(events, values, offsets, first)

    def collection(self, name: str) -> SimpleNamespace:
        """Return the fields of a collection's objects, as attributes."""
        prefix = f"{name}_"
        fields = {k.removeprefix(prefix): v for k, v in self.values.items() if k.startswith(prefix)}
        return SimpleNamespace(**fields)

    def records(self) -> ak.Array:
        """Return the events with their collections, as awkward records."""
        fields: dict[str, Any] = {
            name: values
            for name, values in self.values.items()
            if name.partition("_")[0] not in self.offsets
        }
        for name, starts in self.offsets.items():
            members = {k: ak.contents.NumpyArray(v) for k, v in vars(self.collection(name)).items()}
            content = ak.contents.RecordArray(list(members.values()), list(members))
            fields[name] = ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(starts), content))
        return ak.zip(fields, depth_limit=1)


@dataclass
class OpenFile:
    """A ROOT file that is opened when it is first used; threads take turns."""

    path: str
    _file: Any = None
    _tree: Any = None
    _lock: threading.RLock = field(default_factory=threading.RLock)

    @contextmanager
    def used(self) -> Iterator[Any]:
        """Give the open file to one thread; it is closed after an error."""
        with self._lock:
            try:
                if self._file is None:
                    # Within a mapping a colon is a part of the name.
                    self._file = uproot.open({self.path: None}, timeout=OPEN_TIMEOUT_S)
                yield self._file
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Close the file, once no thread uses it; it may be used again."""
        with self._lock:
            file, self._file, self._tree = self._file, None, None
            if file is not None:
                file.close()

    def read(self, names: Collection[str], start: int, stop: int) -> tuple[Columns, int]:
        """Return the named columns of the entries from `start` to `stop`, and the bytes read.

        Names that the file does not have are left out.
        """
        was_open = self._file is not None
        try:
            arrays, size = self._arrays(set(names), start, stop)
        except Exception:
            if not was_open:
                raise
            # The connection may be lost.  If it is not that, opening the file says what it is.
            arrays, size = self._arrays(set(names), start, stop)
        try:
            return Columns.of(arrays, start), size
        except InputError as error:
            raise InputError(f"{shown_address(self.path)}: {error}") from None

    def _arrays(self, names: set[str], start: int, stop: int) -> tuple[dict[str, ak.Array], int]:
        with self.used() as file:
            if self._tree is None:
                self._tree = file[TREE]
            source = file.file.source
            before = int(source.num_requested_bytes)
            arrays: dict[str, ak.Array] = self._tree.arrays(
                filter_name=lambda name: name in names,
                entry_start=start,
                entry_stop=stop,
                library="ak",
                how=dict,
                array_cache=None,
            )
            return arrays, int(source.num_requested_bytes) - before


def compressed_sizes(tree: Any) -> dict[str, int]:
    """Return the compressed bytes of each branch of a TTree, or top-level field of an RNTuple."""
    if hasattr(tree, "branches"):
        return {branch.name: int(branch.compressed_bytes) for branch in tree.branches}
    fields = tree.field_records
    sizes = dict.fromkeys(tree.keys(recursive=False), 0)
    for cluster in tree.page_link_list:
        for column, record in zip(cluster, tree.column_records, strict=True):
            number = record.field_id
            while fields[number].parent_field_id != number:
                number = fields[number].parent_field_id
            sizes[fields[number].field_name] += sum(page.locator.num_bytes for page in column.pages)
    return sizes


class OpenFiles:
    """The files of one run that this process keeps open, those used last."""

    def __init__(self, most: int = MOST_OPEN) -> None:
        self.most = most
        self._run = ""
        self._files: OrderedDict[str, OpenFile] = OrderedDict()
        self._lock = threading.Lock()

    def file(self, run: str, path: str) -> OpenFile:
        """Return a file of a run; those of other runs are closed: they may have changed since."""
        with self._lock:
            closing = [] if run == self._run else list(self._files.values())
            if closing:
                self._files.clear()
            self._run = run
            file = self._files.setdefault(path, OpenFile(path))
            self._files.move_to_end(path)
            while len(self._files) > self.most:
                closing.append(self._files.popitem(last=False)[1])
        for other in closing:
            other.close()
        return file


OPEN_FILES = OpenFiles()


def read_columns(
    run: str, path: str, names: Collection[str], start: int, stop: int
) -> tuple[Columns, int]:
    """Return what `OpenFile.read` does of a file that this process keeps open for the run.

    A function of this module, so that workers find the files of their own process by it.
    """
    return OPEN_FILES.file(run, path).read(names, start, stop)


def read_ahead(pieces: Sequence[T], read: Callable[[T], R]) -> Iterator[tuple[T, R]]:
    """Yield each piece and what `read` returns of it, while a thread reads the next one."""
    if len(pieces) == 1:
        yield pieces[0], read(pieces[0])
        return
    with ThreadPoolExecutor(1, thread_name_prefix="reading") as pool:
        waiting: list[tuple[T, Future[R]]] = []
        for piece in pieces:
            waiting.append((piece, pool.submit(read, piece)))
            if len(waiting) > 1:
                earlier, future = waiting.pop(0)
                yield earlier, future.result()
        for earlier, future in waiting:
            yield earlier, future.result()
