"""Columns from a second pass over the events, in a separate file (a friend file).

A friend file has one entry for each event of a NanoAOD file, in the same order: the event's
run, luminosityBlock and event, and the columns.  Joining neither sorts nor drops entries:
another order or a missing event is an error.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot
from coffea_shoppe_contract.addresses import shown_address
from numpy.typing import NDArray

from agc.causes import explain
from agc.columns import OPEN_TIMEOUT_S
from agc.samples import TREE, InputError

KEYS = ("run", "luminosityBlock", "event")


def join(
    events: ak.Array, columns: ak.Array, names: Sequence[str], *, first: int = 0, what: str = ""
) -> ak.Array:
    """Return the events with the named columns as fields.

    `columns` are records in the events' order, with `KEYS`.  `first` is the number of
    the first event in its file and `what` names the columns' source, for errors.
    Raises `InputError` that names the first event that differs or is missing.
    """
    source = what or "the columns"
    absent = [name for name in (*KEYS, *names) if name not in columns.fields]
    if absent:
        raise InputError(f"{source}: lacks {', '.join(absent)}; it has {', '.join(columns.fields)}")
    clash = [name for name in names if name in events.fields]
    if clash:
        raise InputError(f"{source}: the events have {', '.join(clash)} already; rename the column")
    shared = min(len(events), len(columns))
    event_ids, column_ids = (_event_ids(records[:shared]) for records in (events, columns))
    differs = np.flatnonzero(np.any(event_ids != column_ids, axis=1))
    if len(differs):
        index = int(differs[0])
        raise InputError(
            f"{source}: entry {first + index} is {_id_text(column_ids[index])}, but the event is "
            f"{_id_text(event_ids[index])}; recreate the columns from this file, in its order"
        )
    if len(columns) != len(events):
        longer = events if len(events) > shared else columns
        problem = f"{source} ends before" if longer is events else f"{source} goes on with"
        missing = _id_text(_event_ids(longer[shared : shared + 1])[0])
        raise InputError(f"{problem} entry {first + shared}, {missing}")
    for name in names:
        events = ak.with_field(events, columns[name], name)
    return events


def _event_ids(records: ak.Array) -> NDArray[np.uint64]:
    """Return (events, 3): run, luminosity block and number of each event."""
    return np.stack([np.asarray(records[key]).astype(np.uint64) for key in KEYS], axis=1)


def _id_text(identity: NDArray[np.uint64]) -> str:
    return ", ".join(f"{key} {value}" for key, value in zip(KEYS, identity, strict=True))


def joined(events: ak.Array, path: str, names: Sequence[str]) -> ak.Array:
    """Return a chunk of coffea's events with columns of the friend file at `path`.

    The chunk's metadata has the range of its entries.  Raises `InputError` as `join` does, or
    where the file cannot be read.
    """
    first, stop = events.metadata["entrystart"], events.metadata["entrystop"]
    with _opened(path) as tree:
        known = [name for name in (*KEYS, *names) if name in tree]
        columns = tree.arrays(known, entry_start=first, entry_stop=stop)
    return join(events, columns, names, first=first, what=shown_address(path))


@contextmanager
def _opened(path: str) -> Iterator[Any]:
    try:
        file = uproot.open({path: None}, timeout=OPEN_TIMEOUT_S)
    except Exception as error:
        raise InputError(f"{shown_address(path)}: {explain(path, error)}") from None
    with file:
        if TREE not in file:
            raise InputError(f"{shown_address(path)}: has no tree {TREE!r}")
        yield file[TREE]


class Writer:
    """Writes a friend file chunk by chunk; it gets its name when it is closed."""

    def __init__(self, path: Path) -> None:
        self.path, self.partial = path, path.with_name(f"{path.name}.partial")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = uproot.recreate(self.partial, compression=uproot.ZLIB(1))
        self._tree: Any = None

    def extend(self, events: ak.Array, columns: Mapping[str, NDArray[Any]]) -> None:
        """Add the columns of the next events."""
        kinds = {"run": np.uint32, "luminosityBlock": np.uint32, "event": np.uint64}
        keys = {key: np.asarray(events[key]).astype(kind) for key, kind in kinds.items()}
        entries = {**keys, **columns}
        if self._tree is None:
            types = {name: values.dtype for name, values in entries.items()}
            self._tree = self._file.mktree(TREE, types)
        self._tree.extend(entries)

    def close(self) -> None:
        """Give the file its name."""
        self._file.close()
        self.partial.rename(self.path)
