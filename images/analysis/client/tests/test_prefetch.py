"""Which bytes a prefetch asks a cache for, and what it reports."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from coffea_shoppe import FacilityError, byte_ranges, prefetch, prefetching
from coffea_shoppe.prefetching import BLOCK, BLOCKS_PER_REQUEST, blocks
from coffea_shoppe_contract import ENV_XCACHE
from distributed import Client
from split_trees import Branch, write

ORIGIN = "root://origin.example:1094//store"
OK = SimpleNamespace(ok=True, message="")


@pytest.mark.parametrize(
    ("ranges", "numbers"),
    [
        ([], []),
        ([(0, 1)], [0]),
        ([(BLOCK - 1, 2)], [0, 1]),
        ([(BLOCK, BLOCK)], [1]),
        ([(0, 10), (5, 10), (3 * BLOCK, 1)], [0, 3]),
        ([(0, 3 * BLOCK + 1)], [0, 1, 2, 3]),
        ([(3 * BLOCK, 9 * BLOCK)], [3]),  # no byte is behind the file's end
    ],
)
def test_each_block_of_a_range_is_named_once(
    ranges: list[tuple[int, int]], numbers: list[int]
) -> None:
    assert blocks(ranges, 3 * BLOCK + 1) == [number * BLOCK for number in numbers]


def columns() -> dict[str, Any]:
    rng = np.random.default_rng(1)
    counts = rng.integers(0, 4, 5000)
    return {
        "met": rng.random(5000),
        "pt": ak.unflatten(rng.random(counts.sum()), counts),
        "eta": ak.unflatten(rng.random(counts.sum()), counts),
    }


@pytest.fixture(params=["mktree", "mkrntuple"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file with three clusters of events, as a TTree or an RNTuple."""
    content, path = columns(), tmp_path / "f.root"
    with uproot.recreate(path) as output:
        types = {name: ak.type(array).content for name, array in content.items()}
        tree = getattr(output, request.param)("Events", types)
        for first in range(0, 5000, 2000):
            tree.extend({name: array[first : first + 2000] for name, array in content.items()})
    return path


def readable(path: Path, name: str) -> bool:
    """Return whether a branch has the values that were written."""
    try:
        with uproot.open(path) as opened:
            array = opened["Events"].arrays([name])[name]
        return bool(ak.to_list(array) == ak.to_list(columns()[name]))
    except Exception:
        return False


@pytest.mark.parametrize("name", ["met", "pt"])
def test_the_ranges_of_a_branch_hold_its_values_and_no_other_s(file: Path, name: str) -> None:
    assert all(readable(file, other) for other in ("met", "pt", "eta"))
    content = bytearray(file.read_bytes())
    for start, size in byte_ranges.of_branches(str(file), [name], "Events"):
        content[start : start + size] = b"\xff" * size
    file.write_bytes(content)
    assert not readable(file, name)
    others = {"met": ("pt", "eta"), "pt": ("met",)}[name]
    assert all(readable(file, other) for other in others)


def test_every_part_of_a_branch_is_in_its_ranges(file: Path) -> None:
    """Any one of them lost, the branch cannot be read."""
    intact = file.read_bytes()
    ranges = byte_ranges.of_branches(str(file), ["met"], "Events")
    assert len(ranges) == 3, "one for each cluster of events"
    assert 0.5 < sum(size for _, size in ranges) / columns()["met"].nbytes <= 1.05
    for start, size in ranges:
        file.write_bytes(intact[:start] + b"\xff" * size + intact[start + size :])
        assert not readable(file, "met")


def test_patterns_are_uproot_s(file: Path) -> None:
    named = byte_ranges.of_branches(str(file), ["pt", "met"], "Events")
    assert byte_ranges.of_branches(str(file), ["/met|pt/"], "Events") == named
    assert byte_ranges.of_branches(str(file), ["m*", "pt", "pt"], "Events") == named


def test_a_branch_has_the_ranges_of_those_within_it(tmp_path: Path) -> None:
    numbers = np.arange(50.0)
    parts = [Branch("x", numbers), Branch("n", numbers.astype("u4"))]
    path = write(
        tmp_path / "split.root", "Events", [Branch("evt", None, parts), Branch("y", numbers)],
        group="Event",
    )  # fmt: skip
    parent = byte_ranges.of_branches(str(path), ["evt"], "Events")
    assert parent == byte_ranges.of_branches(str(path), ["x", "n"], "Events")
    assert len(parent) == 4, "two baskets of each"
    assert not set(parent) & set(byte_ranges.of_branches(str(path), ["y"], "Events"))


class CacheFile:
    """A file at a cache, of which a test sees the requested bytes."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.requests: list[list[tuple[int, int]]] = []
        self.closed = threading.Event()

    def stat(self, **_: Any) -> tuple[Any, Any]:
        return OK, SimpleNamespace(size=self.size)

    def vector_read(self, chunks: list[tuple[int, int]], **_: Any) -> tuple[Any, Any]:
        self.requests.append(chunks)
        return OK, None


CacheFiles = dict[str, CacheFile]


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch) -> CacheFiles:
    """The files that a cache serves, by the last part of their address."""
    monkeypatch.setenv(ENV_XCACHE, "xcache=root://x:1094")
    files: CacheFiles = {}

    @contextmanager
    def opened(address: str) -> Iterator[CacheFile]:
        assert address.startswith(f"root://x:1094//{ORIGIN}")
        if (name := address.rpartition("/")[2]) not in files:
            raise OSError("[ERROR] Server responded with an error: [3011] No such file")
        try:
            yield files[name]
        finally:
            files[name].closed.set()

    monkeypatch.setattr(prefetching, "_open", opened)
    return files


def test_a_whole_file_is_fetched_by_one_byte_of_each_block(cache: CacheFiles) -> None:
    size = BLOCKS_PER_REQUEST * BLOCK + 7
    cache["a.root"] = CacheFile(size)
    outcome = prefetch([f"{ORIGIN}/a.root"], progress=False)
    assert (outcome.files, outcome.bytes) == (1, size)
    requests = cache["a.root"].requests
    assert [len(chunks) for chunks in requests] == [BLOCKS_PER_REQUEST, 1]
    assert requests[0][:2] == [(0, 1), (BLOCK, 1)]


def test_a_file_that_fails_is_named_and_ends_no_other(cache: CacheFiles) -> None:
    cache["a.root"] = CacheFile(99)
    urls = [f"{ORIGIN}/{name}.root" for name in ("absent", "a", "a")]
    outcome = prefetch(urls, progress=False)
    assert (outcome.files, outcome.bytes) == (1, 99)
    assert outcome.failed == {urls[0]: "no such file"}
    assert str(outcome).endswith("; 1 FAILED")


def test_dask_workers_fetch(cache: CacheFiles) -> None:
    cache["a.root"], cache["b.root"] = CacheFile(99), CacheFile(BLOCK + 1)
    urls = [f"{ORIGIN}/{name}.root" for name in ("a", "b", "absent")]
    # Workers are threads of this process, in which the cache is replaced.
    with Client(processes=False, n_workers=1, dashboard_address=None) as client:
        outcome = prefetch(urls, client=client, progress=False)
    assert (outcome.files, outcome.bytes) == (2, BLOCK + 100)
    assert outcome.failed == {urls[2]: "no such file"}


def test_an_interrupt_ends_the_file_that_is_being_fetched(
    cache: CacheFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = cache["a.root"] = CacheFile(9 * BLOCKS_PER_REQUEST * BLOCK)
    begun, interrupted = threading.Event(), threading.Event()
    vector_read = file.vector_read

    def slow(*arguments: Any, **more: Any) -> tuple[Any, Any]:
        begun.set()
        assert interrupted.wait(10)
        return vector_read(*arguments, **more)

    def interrupt(*_: Any) -> None:
        assert begun.wait(10)
        raise KeyboardInterrupt

    monkeypatch.setattr(file, "vector_read", slow)
    monkeypatch.setattr(prefetching, "_collect", interrupt)
    with pytest.raises(KeyboardInterrupt):
        prefetch(f"{ORIGIN}/a.root", progress=False)
    interrupted.set()
    assert file.closed.wait(10)
    assert len(file.requests) == 1, "of nine"


def test_branches_that_are_not_there_are_named(
    cache: CacheFiles, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache["a.root"] = CacheFile(file.stat().st_size)
    of_branches = byte_ranges.of_branches
    monkeypatch.setattr(
        byte_ranges, "of_branches", lambda _, *arguments: of_branches(str(file), *arguments)
    )
    url = f"{ORIGIN}/a.root"
    assert prefetch(url, "met", progress=False).files == 1
    assert prefetch(url, "Jet_*", progress=False).failed == {
        url: "branches: 'Jet_*' fits no branch of 'Events'"
    }
    absent = prefetch(url, "met", tree="Runs", progress=False)
    assert absent.failed == {url: "tree: the file has no 'Runs'"}


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"files": ["/data/f.root"]}, "files: '/data/f.root' is no file at an origin"),
        ({"files": [f"{ORIGIN}/f.root"], "branches": []}, "branches: the list is empty"),
        ({"files": [f"{ORIGIN}/f.root"], "cache": "cms"}, "there is no cache 'cms'"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_read(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        prefetch(**arguments)


def test_without_a_cache_nothing_can_be_prefetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENV_XCACHE, raising=False)
    with pytest.raises(FacilityError, match="prefetch: there is no cache here"):
        prefetch(f"{ORIGIN}/f.root")
