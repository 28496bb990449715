"""Files of a few events, one for each structure that trees of the field have.

`STRUCTURES` gives, by name, what writes a file.  `field_files.csv` names, for each public
file, the structure that it has.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot
from split_trees import Branch, texts, vector
from split_trees import write as write_split

Write = Callable[[Path], object]
STRUCTURES: dict[str, Write] = {}
COUNT = 12
NUMBER = np.arange(COUNT)
COUNTS = NUMBER % 4
"""Objects in each event: none in some."""
NUMBERS = ["bool", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]


def structure(write: Write) -> Write:
    """Register what writes a structure, named like the function."""
    STRUCTURES[write.__name__.replace("_", "-")] = write
    return write


def lists(kind: str = "f4", counts: Any = COUNTS) -> ak.Array:
    """Return lists of numbers of a type."""
    return ak.unflatten(np.arange(int(np.sum(counts))).astype(kind), counts)


def put(
    file: Any, name: str, branches: Mapping[str, Any], *, cuts: Any = None, **options: Any
) -> None:
    """Write a TTree, in baskets that end at the entries `cuts`."""
    arrays = {key: ak.Array(array) for key, array in branches.items()}
    file.mktree(name, {key: array.type.content for key, array in arrays.items()}, **options)
    extend(file[name], arrays, cuts)


def put_rntuple(file: Any, name: str, branches: Mapping[str, Any], *, cuts: Any = None) -> None:
    """Write an RNTuple, in clusters that end at the entries `cuts`."""
    arrays = {key: ak.Array(array) for key, array in branches.items()}
    file.mkrntuple(name, {key: array.type.content for key, array in arrays.items()})
    extend(file[name], arrays, cuts)


def extend(tree: Any, arrays: Mapping[str, ak.Array], cuts: Any) -> None:
    entries = len(next(iter(arrays.values())))
    ends = [*(cuts if cuts is not None else ()), entries]
    for start, stop in zip([0, *ends], ends, strict=False):
        if stop > start:
            tree.extend({key: ak.to_packed(array[start:stop]) for key, array in arrays.items()})


def tree(name: str, branches: Callable[[], Mapping[str, Any]], **options: Any) -> None:
    """Register a file with one TTree."""

    def write(path: Path) -> None:
        with uproot.recreate(path) as file:
            put(file, "Events", branches(), **options)

    STRUCTURES[name] = write


def rntuple(name: str, branches: Callable[[], Mapping[str, Any]], **options: Any) -> None:
    """Register a file with one RNTuple."""

    def write(path: Path) -> None:
        with uproot.recreate(path) as file:
            put_rntuple(file, "Events", branches(), **options)

    STRUCTURES[f"rntuple-{name}"] = write


# Numbers.

SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324, 1e-40, 3.4e38, -1.5, 2.0**53, 1e300, 0.1]
tree("numbers", lambda: {f"x_{kind}": (NUMBER % 2).astype(kind) for kind in NUMBERS})
tree(
    "extreme-integers",
    lambda: {
        f"x_{kind}": np.array([np.iinfo(kind).min, np.iinfo(kind).max, 0, 1] * 3, kind)
        for kind in NUMBERS[1:-2]
    },
)
with np.errstate(over="ignore"):
    SPECIAL_F4 = np.array(SPECIAL).astype("f4")
tree("special-floats", lambda: {"f4": SPECIAL_F4, "f8": np.array(SPECIAL)})
tree("large-event-numbers", lambda: {"event": np.uint64(2**63) + NUMBER.astype("u8")})
tree(
    "flags",
    lambda: {f"HLT_{n}": NUMBER % (n + 2) == 0 for n in range(40)},
)
tree("bitmasks", lambda: {"u1": (1 << NUMBER % 8).astype("u1"), "u4": (1 << NUMBER).astype("u4")})
tree("one-column", lambda: {"x": NUMBER})
tree("one-entry", lambda: {"x": [1.5], "list": [[1.0, 2.0]], "flag": [True]})
tree("one-entry-without-objects", lambda: {"x": [1.5], "list": lists(counts=[0])})

# Arrays of a fixed length.

tree("fixed-arrays", lambda: {"v": NUMBER.repeat(3).reshape(-1, 3), "m": np.ones((COUNT, 2, 3))})
tree(
    "fixed-arrays-of-each-type",
    lambda: {f"v_{kind}": (np.arange(24) % 2).astype(kind).reshape(-1, 2) for kind in NUMBERS},
)
tree("fixed-arrays-of-one", lambda: {"v": NUMBER.reshape(-1, 1)})

# Lists and their counters.

tree("lists", lambda: {"pt": lists(), "other": lists(counts=COUNTS[::-1])})
tree(
    "lists-of-each-type",
    lambda: {
        f"v_{kind}": lists(kind) % 2 == 0 if kind == "bool" else lists(kind) for kind in NUMBERS
    },
)
tree("no-objects-at-all", lambda: {"x": NUMBER, "pt": lists(counts=COUNTS * 0)})
tree("no-objects-at-first", lambda: {"pt": lists(counts=[0] * 6 + [2] * 6)})
tree("no-objects-at-the-end", lambda: {"pt": lists(counts=[2] * 6 + [0] * 6)})
tree("one-event-with-all-objects", lambda: {"pt": lists(counts=[0] * 11 + [5000])})


def jets(counts: Any = COUNTS) -> ak.Array:
    """Return records of jets, whose lists share a counter."""
    return ak.zip(
        {"pt": lists(counts=counts) * 10, "eta": -lists(counts=counts), "id": lists("i4", counts)}
    )


tree("shared-counter", lambda: {"event": NUMBER, "Jet": jets(), "MET_pt": NUMBER * 1.5})
tree(
    "several-collections",
    lambda: {"Jet": jets(), "Muon": jets(COUNTS[::-1]), "Tau": jets(COUNTS * 0)},
)
tree("counter-without-lists", lambda: {"nJet": COUNTS, "Jet_pt": NUMBER * 1.0})
tree("own-counters", lambda: {"Jet_pt": lists(), "Jet_eta": lists() * 2})
tree("odd-counters", lambda: {"Jet": jets()}, counter_name=lambda name: f"count of {name}")
tree("counter-like-a-list", lambda: {"jets": lists(), "n_jets": COUNTS * 2})
tree("collection-beside-its-name", lambda: {"Jet_pt": lists(), "Jet": NUMBER, "nJ": NUMBER})
tree(
    "delphes-names",
    lambda: {"Event": NUMBER, "Jet": jets(), "Electron": jets(COUNTS[::-1])},
    counter_name=lambda name: f"{name}_size",
    field_name=lambda outer, inner: f"{outer}.{inner}",
)
tree(
    "slashes-in-names",
    lambda: {"Jet": jets(), "MET": ak.zip({"pt": NUMBER * 1.0, "phi": NUMBER * 0.1})},
    field_name=lambda outer, inner: f"{outer}/{inner}",
)

# Texts.

tree("texts", lambda: {"s": ak.Array([f"text {n}" for n in NUMBER])})
tree(
    "odd-texts",
    lambda: {
        "s": ak.Array(
            ["", "é", "Ω→μμ", "a b", "'", '"', "\n", "x" * 254, "x" * 255, "x" * 300, "", "end"]
        )
    },
)
tree("empty-texts", lambda: {"s": ak.Array([""] * COUNT), "x": NUMBER})

# Names.

ODD_NAMES = [
    "a.b",
    "a b",
    "2x",
    "lambda",
    "mu+",
    "a:b",
    "x-y",
    "sum",
    "é",
    "日本",
    "x[0]",
    "K*(892)",
    "why?",
    "a,b",
    "__event__",
    "$",
    "n(1)",
    "{}",
    "%",
    "a&&b",
    "'",
    '"',
]
tree("odd-names", lambda: {name: NUMBER * (1.0 + n) for n, name in enumerate(ODD_NAMES)})
tree(
    "odd-names-of-lists",
    lambda: {name: lists() * (1.0 + n) for n, name in enumerate(ODD_NAMES[:8])},
)
tree("names-that-differ-in-case", lambda: {"pt": NUMBER, "Pt": NUMBER * 2, "PT": NUMBER * 3})
tree(
    "names-that-begin-alike",
    lambda: {"x": NUMBER, "x_": NUMBER * 2, "x_y": NUMBER * 3, "xy": NUMBER * 4},
)
tree("long-names", lambda: {"b" * 200: NUMBER, "b" * 201: NUMBER * 2, "c" * 300: lists()})
tree("many-branches", lambda: {f"b{n}": NUMBER * n for n in range(250)})


@structure
def odd_names_of_trees(path: Path) -> None:
    with uproot.recreate(path) as file:
        for number, name in enumerate(["my tree", "a.b", "x-y", "é", "2", "lambda", "t*", "[t]"]):
            put(file, name, {"x": NUMBER * number})


# How values are stored.

tree(
    "baskets-of-one-entry",
    lambda: {"x": NUMBER, "pt": lists(), "s": ak.Array(list("abcdefghijkl"))},
    cuts=range(1, COUNT),
)
tree("uneven-baskets", lambda: {"x": NUMBER, "Jet": jets()}, cuts=[1, 2, 7])
tree(
    "many-baskets",
    lambda: {"x": np.arange(2000), "pt": lists(counts=np.arange(2000) % 3)},
    cuts=range(20, 2000, 20),
)
tree("many-entries", lambda: {"x": np.arange(70_000, dtype="i4")}, cuts=[30_000, 65_536])
tree(
    "no-entries",
    lambda: {"x": NUMBER[:0], "pt": lists()[:0], "Jet": jets()[:0], "v": np.ones((0, 3))},
)


def compressed(name: str, compression: Any) -> None:
    """Register a file with TTree and RNTuple of a compression."""

    def write(path: Path) -> None:
        number = np.arange(3000)
        with uproot.recreate(path, compression=compression) as file:
            put(file, "t", {"x": number, "pt": lists(counts=number % 3)}, cuts=[1000])
            put_rntuple(file, "n", {"x": number, "pt": lists(counts=number % 3)}, cuts=[1000])

    STRUCTURES[f"compression-{name}"] = write


compressed("none", None)
compressed("zlib", uproot.ZLIB(9))
compressed("lzma", uproot.LZMA(2))
compressed("lz4", uproot.LZ4(4))
compressed("zstd", uproot.ZSTD(5))


# Several trees in a file.


@structure
def directories(path: Path) -> None:
    with uproot.recreate(path) as file:
        for number, name in enumerate(["t", "a/t", "a/b/t", "a b/c.d/t"]):
            put(file, name, {"x": NUMBER * number, "Jet": jets()})


@structure
def cycles(path: Path) -> None:
    with uproot.recreate(path) as file:
        for number in range(3):
            put(file, "t", {"x": NUMBER[number:] * 1.5})


@structure
def cycles_of_other_columns(path: Path) -> None:
    with uproot.recreate(path) as file:
        put(file, "t", {"x": NUMBER})
        put(file, "t", {"y": lists(), "x": NUMBER * 2.5})


@structure
def friends(path: Path) -> None:
    keys = {"run": NUMBER * 0 + 1, "luminosityBlock": NUMBER // 4, "event": NUMBER}
    with uproot.recreate(path) as file:
        put(file, "Events", {**keys, "Jet": jets()})
        put(file, "Friends", {**keys, "weight": NUMBER * 0.5, "Jet": jets(COUNTS[::-1])})


@structure
def trees_of_other_lengths(path: Path) -> None:
    with uproot.recreate(path) as file:
        put(file, "Events", {"x": NUMBER})
        put(file, "Runs", {"x": [1.0]})
        put(file, "Lumi", {"x": NUMBER[:0]})


@structure
def trees_beside_histograms(path: Path) -> None:
    with uproot.recreate(path) as file:
        file["h"] = np.histogram(NUMBER, bins=5)
        put(file, "Events", {"x": NUMBER})
        file["text"] = "a text"
        file["folder/h2"] = np.histogram2d(NUMBER, NUMBER, bins=3)


@structure
def ttree_beside_rntuple(path: Path) -> None:
    with uproot.recreate(path) as file:
        put(file, "t", {"x": NUMBER, "pt": lists()})
        put_rntuple(file, "n", {"x": NUMBER * 2, "pt": lists() * 2})


# Branches within branches, and C++ containers.


def split(name: str, branches: Callable[[], list[Branch]], **options: Any) -> None:
    """Register a file with a TTree of split objects."""
    STRUCTURES[name] = lambda path: write_split(path, "tree", branches(), **options)


def clones(name: str, counts: Any = COUNTS) -> Branch:
    """Return a collection as Delphes has them."""
    members = {
        "PT": lists("f4", counts),
        "Eta": -lists("f8", counts),
        "Flavor": lists("u4", counts),
    }
    children = [Branch(f"{name}.{key}", array, counter=name) for key, array in members.items()]
    return Branch(name, np.asarray(counts, "i4"), children)


split(
    "delphes",
    lambda: [
        clones("Jet"),
        Branch("Jet_size", COUNTS.astype("i4")),
        clones("Tower", COUNTS[::-1]),
        clones("Photon", COUNTS * 0),
    ],
)
split(
    "branches-within-branches",
    lambda: [
        Branch("evt", None, [Branch("x", NUMBER * 1.5), Branch("n", NUMBER.astype("u4"))]),
        Branch("y", NUMBER),
    ],
    group="Event",
)
split(
    "branches-with-equal-names",
    lambda: [
        Branch("mu", None, [Branch("pt", NUMBER * 1.5)]),
        Branch("jet", None, [Branch("pt", NUMBER * 2.5)]),
    ],
    group="Object",
)
split(
    "three-levels-of-branches",
    lambda: [
        Branch("a", None, [Branch("b", None, [Branch("c", NUMBER * 1.0)]), Branch("d", NUMBER)])
    ],
    group="Object",
)
split(
    "vectors",
    lambda: [
        Branch("v", vector("f4", lists().tolist()), class_name="vector<float>"),
        Branch("i", vector("i8", lists("i8").tolist()), class_name="vector<long>"),
    ],
)
split(
    "vectors-of-vectors",
    lambda: [
        Branch(
            "vv",
            vector("f4", [[[n], [], [n, 1]] for n in NUMBER]),
            class_name="vector<vector<float> >",
        ),
        Branch("x", NUMBER),
    ],
)
split(
    "vectors-of-vectors-of-vectors",
    lambda: [
        Branch(
            "vvv",
            vector("i4", [[[[n], []], []] for n in NUMBER]),
            class_name="vector<vector<vector<int> > >",
        )
    ],
)
split(
    "vectors-of-texts",
    lambda: [
        Branch(
            "vs", texts([["a", "é" * n, ""][: n % 4] for n in NUMBER]), class_name="vector<string>"
        )
    ],
)
split(
    "unknown-classes",
    lambda: [
        Branch("x", NUMBER),
        Branch("obj", vector("i4", lists("i4").tolist()), class_name="Unknown"),
        Branch("ptr", vector("i4", lists("i4").tolist()), class_name="vector<TObject*>"),
    ],
)


# RNTuples.

MISSING = NUMBER % 3 == 0


def optional(array: Any) -> ak.Array:
    """Return an array of which each third value is missing."""
    values = zip(MISSING, ak.to_list(array), strict=True)
    return ak.from_iter([None if absent else value for absent, value in values])


rntuple("numbers", lambda: {f"x_{kind}": (NUMBER % 2).astype(kind) for kind in NUMBERS})
rntuple("special-floats", lambda: {"f4": SPECIAL_F4, "f8": np.array(SPECIAL)})
rntuple("lists", lambda: {"pt": lists(), "none": lists(counts=COUNTS * 0)}, cuts=[5])
rntuple(
    "lists-of-lists",
    lambda: {
        "vv": ak.Array([[[n], [], [n, 1]] for n in NUMBER]),
        "vvv": ak.Array([[[[n]], []] for n in NUMBER]),
    },
    cuts=[4, 5],
)
rntuple("fixed-arrays", lambda: {"v": NUMBER.repeat(3).reshape(-1, 3)}, cuts=[7])
rntuple(
    "lists-of-fixed-arrays",
    lambda: {"v": ak.unflatten(np.arange(36.0).reshape(-1, 2), COUNTS)},
    cuts=[7],
)
rntuple("records", lambda: {"p": ak.zip({"x": NUMBER * 1.0, "y": NUMBER})}, cuts=[7])
rntuple(
    "records-beside-their-names",
    lambda: {"p": ak.zip({"x": NUMBER * 1.0, "y": NUMBER}), "p_x": NUMBER * 10.0},
)
rntuple("lists-of-records", lambda: {"Jet": jets()}, cuts=[7])
rntuple(
    "records-of-records",
    lambda: {"a": ak.zip({"b": ak.zip({"c": NUMBER}), "d": NUMBER * 0.5})},
    cuts=[7],
)
rntuple(
    "records-of-lists", lambda: {"a": ak.zip({"b": lists(), "c": NUMBER}, depth_limit=1)}, cuts=[7]
)
rntuple("options", lambda: {"x": optional(NUMBER * 1.5), "n": optional(NUMBER)}, cuts=[5])
rntuple("options-of-lists", lambda: {"x": optional(lists())}, cuts=[5])
rntuple(
    "lists-of-options",
    lambda: {"x": ak.Array([[n, None][: n % 3] for n in NUMBER.tolist()])},
    cuts=[5],
)
rntuple(
    "options-of-records",
    lambda: {"p": optional(ak.zip({"x": NUMBER * 1.0, "y": NUMBER}))},
    cuts=[5],
)
rntuple("texts", lambda: {"s": ak.Array([f"é{n}" * (n % 3) for n in NUMBER])}, cuts=[5])
rntuple(
    "lists-of-texts",
    lambda: {"s": ak.Array([["a", "é" * n, ""][: n % 4] for n in NUMBER])},
    cuts=[5],
)
rntuple(
    "variants",
    lambda: {
        "u": ak.from_iter([n if n % 2 else f"text {n}" for n in NUMBER.tolist()]),
        "x": NUMBER,
    },
    cuts=[5],
)
rntuple("no-entries", lambda: {"x": NUMBER[:0], "pt": lists()[:0]})
rntuple("clusters-of-one-entry", lambda: {"x": NUMBER, "pt": lists()}, cuts=range(1, COUNT))
rntuple("odd-names", lambda: {name: NUMBER * (1.0 + n) for n, name in enumerate(ODD_NAMES)})
rntuple("many-fields", lambda: {f"b{n}": NUMBER * n for n in range(40)})
rntuple("flags", lambda: {f"HLT_{n}": NUMBER % (n + 2) == 0 for n in range(20)}, cuts=[3])
rntuple("names-with-lengths", lambda: {"v[2]": NUMBER.repeat(2).reshape(-1, 2), "x[12]": NUMBER})
