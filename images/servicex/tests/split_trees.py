"""TTrees that uproot reads and does not write: branches within branches, and C++ containers.

uproot writes the values as lists of bytes, in baskets.  A second TTree is then written to the
file, byte by byte as ROOT describes it, whose branches have these baskets and other types.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot

PAYLOAD = "payload"
"""Name of the tree that uproot writes; it is deleted, and its baskets stay."""
SIZED, NEW_CLASS, REFERENCE = 0x40000000, 0xFFFFFFFF, 2
OBJECT = bytes.fromhex("0001 00000000 03000000")
FILL = bytes.fromhex("40000006 0002 0000 03e9")
LINE_AND_FILL_AND_MARKER = (
    bytes.fromhex("40000008 0002 025a 0001 0001")
    + FILL
    + bytes.fromhex("4000000a 0002 0001 0001 3f800000")
)
IO_FEATURES = bytes.fromhex("40000007 0000 1aa12f10 00")
NOTHING = bytes(4)
TYPES = {"f4": 5, "f8": 8, "i2": 2, "i4": 3, "i8": 16, "u1": 11, "u4": 13, "u8": 17}
"""ROOT's numbers of types."""
CLONES, CLONES_MEMBER = 3, 31
"""Kinds of TBranchElement: the number of elements of a TClonesArray, and one of their members."""


@dataclass
class Branch:
    """A branch: `values` are numbers, or lists of them; without values it is a group."""

    name: str
    values: Any = None
    children: Sequence["Branch"] = ()
    counter: str = ""
    """Name of the branch that counts the elements of the lists."""
    class_name: str = ""
    """C++ type, of which `values` has each entry's bytes."""

    def all(self) -> Iterator["Branch"]:
        """Yield the branch and those within it."""
        yield self
        for child in self.children:
            yield from child.all()

    def payload(self) -> Any:
        """Return each entry's bytes, as a list."""
        if isinstance(self.values, list):
            return [np.frombuffer(entry, "u1") for entry in self.values]
        array = ak.Array(self.values)
        letter = self.kind
        return [
            np.frombuffer(np.asarray(entry).astype(f">{letter}").tobytes(), "u1") for entry in array
        ]

    @property
    def kind(self) -> str:
        """Return NumPy's name of the numbers' type."""
        return np.asarray(ak.flatten(ak.Array(self.values), axis=None)).dtype.str[1:]


def write(
    path: Path, name: str, branches: Sequence[Branch], *, chunks: int = 2, group: str = ""
) -> Path:
    """Write a file with a tree, in so many baskets; `group` is the class of groups."""
    every = [branch for top in branches for branch in top.all() if branch.values is not None]
    payloads = {
        f"b{number}": ak.Array(ak.contents.ListOffsetArray(*listed(branch.payload())))
        for number, branch in enumerate(every)
    }
    entries = len(next(iter(payloads.values())))
    with uproot.recreate(path) as file:
        file.mktree(PAYLOAD, dict.fromkeys(payloads, "var * uint8"))
        for start in range(0, entries, max(-(-entries // chunks), 1)):
            stop = start + max(-(-entries // chunks), 1)
            file[PAYLOAD].extend({key: array[start:stop] for key, array in payloads.items()})
    with uproot.open(path) as file:
        baskets = {
            id(branch): Baskets.of(file[PAYLOAD][key])
            for key, branch in zip(payloads, every, strict=True)
        }
    with uproot.update(path) as file:
        del file[PAYLOAD]
        header = uproot.reading._key_format_big.size + len(_text("TTree") + _text(name) + _text(""))
        raw = _Tree(name, branches, entries, baskets, header, group).raw()
        file._cascading.add_object(file._file.sink, "TTree", name, "", raw, len(raw), big=True)
    return path


def listed(entries: Sequence[Any]) -> tuple[Any, Any]:
    """Return offsets and content of lists."""
    offsets = np.cumsum([0, *map(len, entries)])
    joined = np.concatenate(entries) if len(entries) else np.zeros(0, "u1")
    return ak.index.Index64(offsets), ak.contents.NumpyArray(joined)


@dataclass
class Baskets:
    """Where a branch's values are in the file."""

    sizes: list[int] = field(default_factory=list)
    entries: list[int] = field(default_factory=lambda: [0])
    """First entry of each basket, and the number of all."""
    positions: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, branch: Any) -> "Baskets":
        """Return those of a branch that uproot has written."""
        count = branch.num_baskets
        members = [branch.member(f"fBasket{name}") for name in ("Bytes", "Entry", "Seek")]
        sizes, entries, positions = (list(map(int, numbers)) for numbers in members)
        return cls(sizes[:count], entries[: count + 1] or [0], positions[:count])


def _text(text: str) -> bytes:
    data = text.encode()
    return bytes([len(data)]) + data


def _sized(version: int, body: bytes) -> bytes:
    return struct.pack(">IH", (len(body) + 2) | SIZED, version) + body


def _named(name: str, title: str) -> bytes:
    return _sized(1, OBJECT + _text(name) + _text(title))


def _of_class(name: str, body: bytes) -> bytes:
    tagged = struct.pack(">I", NEW_CLASS) + name.encode() + b"\0" + body
    return struct.pack(">I", len(tagged) | SIZED) + tagged


def _array(objects: Sequence[bytes]) -> bytes:
    return _sized(3, OBJECT + _text("") + struct.pack(">ii", len(objects), 0) + b"".join(objects))


@dataclass
class _Tree:
    """The bytes of a TTree (version 20), with branches of version 13 and their elements."""

    name: str
    branches: Sequence[Branch]
    entries: int
    baskets: dict[int, Baskets]
    header: int
    """Bytes before the object, from which ROOT counts references."""
    group: str
    references: dict[str, int] = field(default_factory=dict)
    """Of leaves, by name."""
    leaves: dict[str, bytes] = field(default_factory=dict)
    """Those that are written; further occurrences are references."""

    def raw(self) -> bytes:
        """Return the bytes: written twice, since references need the places of leaves."""
        first = self._object()
        for name, leaf in self.leaves.items():
            self.references[name] = first.index(leaf) + self.header + REFERENCE
        self.leaves.clear()
        return self._object()

    def _object(self) -> bytes:
        numbers = struct.pack(
            ">qqqqqdiiiiIqqqqqq",
            *(self.entries, 0, 0, 0, 0, 1.0, 0, 25, 0, 1000, 0),
            *(10**12, 10**12, 0, -300_000_000, -30_000_000, 10**6),
        )
        branches = _array([self._branch(branch, top=True) for branch in self.branches])
        ends = _array([]) + NOTHING + NOTHING + NOTHING + NOTHING * 4
        head = _named(self.name, "") + LINE_AND_FILL_AND_MARKER + numbers
        return _sized(20, head + bytes(2) + IO_FEATURES + branches + ends)

    def _branch(self, branch: Branch, *, top: bool) -> bytes:
        baskets = self.baskets.get(id(branch), Baskets())
        count = len(baskets.sizes)
        children = _array([self._branch(child, top=False) for child in branch.children])
        body = (
            _named(branch.name, branch.name)
            + FILL
            + struct.pack(">iiiiq", 0, 32000, 1000, count, self.entries)
            + IO_FEATURES
            + struct.pack(">iIiqqqq", 0, count + 1, 0, self.entries, 0, 0, 0)
            + children
            + _array([self._leaf(branch.name)])
            + _array([])
            + b"\1"
            + struct.pack(f">{count + 1}i", *baskets.sizes, 0)
            + b"\1"
            + struct.pack(f">{count + 1}q", *(baskets.entries if count else [0]))
            + b"\2"
            + struct.pack(f">{count + 1}q", *baskets.positions, 0)
            + _text("")
        )
        kind = CLONES if branch.children and branch.values is not None else 0
        kind = CLONES_MEMBER if branch.counter else kind
        class_name = branch.class_name or ("TClonesArray" if kind == CLONES else "")
        class_name = class_name or (self.group if branch.children else "")
        element = _sized(13, body) + _text(class_name) + _text("") + _text("")
        element += struct.pack(">Ihiiii", 0, 1, -1 if top else 0, kind, -1, 0) + NOTHING * 2
        return _of_class("TBranchElement", _sized(10, element))

    def _leaf(self, name: str) -> bytes:
        """Return a branch's leaf, or a reference to it.

        Branches come before their parent's leaf: the first of them that it counts has it.
        """
        if name in self.leaves:
            return struct.pack(">I", self.references.get(name, 0))
        every = (branch for top in self.branches for branch in top.all())
        branch = next(branch for branch in every if branch.name == name)
        counter = self._leaf(branch.counter) if branch.counter else NOTHING
        has_numbers = branch.values is not None and not branch.class_name
        kind = branch.kind if has_numbers else ""
        title = f"{name}[{branch.counter}]" if branch.counter else name
        size = int(kind[1:]) if kind else 0
        leaf = _named(name, title) + struct.pack(">iii??", 1, size, 0, False, False) + counter
        numbers = struct.pack(">ii", -1, TYPES[kind] if kind else -1)
        self.leaves[name] = _of_class("TLeafElement", _sized(1, _sized(2, leaf) + numbers))
        return self.leaves[name]


def vector(kind: str, lists: Sequence[Sequence[Any]]) -> list[bytes]:
    """Return each entry's bytes of a `vector<…>`, or of vectors of vectors, of numbers."""

    def nested(entry: Any) -> bytes:
        if not isinstance(entry, list | tuple):
            return np.array(entry, f">{kind}").tobytes()
        return struct.pack(">i", len(entry)) + b"".join(map(nested, entry))

    return [_sized(9, nested(entry)) for entry in lists]


def texts(lists: Sequence[Sequence[str]]) -> list[bytes]:
    """Return each entry's bytes of a `vector<string>`."""
    return [
        _sized(9, struct.pack(">i", len(entry)) + b"".join(map(_text, entry))) for entry in lists
    ]
