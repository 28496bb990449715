"""Files that the facility's cache fetches from their origin before somebody reads them."""

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from coffea_shoppe_contract.causes import find_cause
from coffea_shoppe_contract.origin_logins import login_failure

from coffea_shoppe import byte_ranges
from coffea_shoppe.byte_ranges import Range, UnknownNameError
from coffea_shoppe.connections import FacilityError
from coffea_shoppe.data import caches, data_url
from coffea_shoppe.extras import extra

BLOCK = 64 * 1024
"""Bytes; XCache fetches a block as a whole if one byte of it is read, and its blocks are not
smaller than this (`xcache.XCacheConfig.BlockSize`)."""
BLOCKS_PER_REQUEST = 256
"""Of at most 1,024 that XRootD takes."""
FILES_AT_ONCE = 8
TIMEOUT_S = 300
"""Of one request to the cache, which waits for the origin."""


@dataclass(frozen=True)
class Prefetched:
    """What a prefetch did."""

    files: int
    """Files that are in the cache now: as a whole, or the branches that were named."""
    bytes: int
    """Their size, or the size of the blocks with these branches."""
    seconds: float
    failed: dict[str, str] = field(default_factory=dict)
    """URL → why the cache does not have it."""

    def __str__(self) -> str:
        text = f"{self.files:,} files, {self.bytes / 1e6:,.1f} MB in {self.seconds:,.1f} s"
        return f"{text}; {len(self.failed):,} FAILED" if self.failed else text

    __repr__ = __str__


def prefetch(
    files: str | Iterable[str],
    branches: str | Iterable[str] | None = None,
    *,
    tree: str = "Events",
    cache: str | None = None,
    client: Any = None,
    progress: bool = True,
) -> Prefetched:
    """Have the facility's cache fetch files from their origin, and return when it has them.

    The data go to the cache, not to this process.  Interrupting the kernel, or Ctrl-C, ends the
    prefetch; the cache keeps what it has, and the next call asks the origin for the rest.

    Args:
        files: Addresses at the origin, `root://…`; each is fetched once.
        branches: Names, globs (`Jet_*`) or regular expressions (`/mu.*/`) of the only branches
            to fetch; None: whole files.
        tree: Name of the TTree or RNTuple with these branches.
        cache: Name of the cache; None: the default.
        client: A Dask client, whose workers ask the cache; None: this process does.
        progress: Show a progress bar.

    A file that fails does not end the others: see `Prefetched.failed`.  Raises `FacilityError`
    where there is no cache, and `ValueError` for an address that no cache serves.
    """
    if not caches():
        raise FacilityError(
            "prefetch: there is no cache here; files are read from their origin outside of a "
            "facility, and in one whose values have no xcache"
        )
    urls = list(dict.fromkeys([files] if isinstance(files, str) else files))
    patterns = [branches] if isinstance(branches, str) else list(branches or ())
    if branches is not None and not patterns:
        raise ValueError("branches: the list is empty; name at least one, or leave branches out")
    addresses = {url: _cached(url, cache) for url in urls}
    start = time.monotonic()
    # Workers of Dask end a file that they have begun.
    interrupted = None if client else threading.Event()
    with _executor(client) as executor, _bar(len(urls), shown=progress) as advance:
        jobs = {
            executor.submit(fetch, address, patterns, tree, interrupted): url
            for url, address in addresses.items()
        }
        try:
            results = _collect(jobs, addresses, advance)
        finally:
            if interrupted:
                interrupted.set()
            for job in jobs:
                job.cancel()
    sizes = [result for result in results.values() if isinstance(result, int)]
    return Prefetched(
        files=len(sizes),
        bytes=sum(sizes),
        seconds=time.monotonic() - start,
        failed={url: result for url, result in results.items() if isinstance(result, str)},
    )


def _cached(url: str, cache: str | None) -> str:
    """Return the file's address at the cache."""
    if not url.startswith(("root://", "xroot://")):
        raise ValueError(f"files: {url!r} is no file at an origin; caches serve root:// addresses")
    return data_url(url, cache=cache)


@contextmanager
def _executor(client: Any) -> Iterator[Executor]:
    """Yield what runs the requests; waits for none of them after an interrupt."""
    executor = client.get_executor() if client else ThreadPoolExecutor(FILES_AT_ONCE)
    try:
        yield executor
    finally:
        executor.shutdown(wait=False)


@contextmanager
def _bar(total: int, *, shown: bool) -> Iterator[Any]:
    """Yield a function to call after each file, which moves the progress bar."""
    if not shown:
        yield lambda size: None
        return
    with extra("xcache", user="shoppe.prefetch"):
        from tqdm.auto import tqdm
    with tqdm(total=total, desc="prefetch", unit="file") as bar:
        fetched = 0

        def advance(size: int) -> None:
            nonlocal fetched
            fetched += size
            bar.set_postfix_str(f"{fetched / 1e6:,.0f} MB")
            bar.update()

        yield advance


def _collect(
    jobs: dict[Future[int], str], addresses: dict[str, str], advance: Any
) -> dict[str, int | str]:
    """Return by URL, in the order of the jobs, the bytes that were fetched, or why none were.

    `addresses` has the address in the cache by URL.
    """
    results: dict[str, int | str] = dict.fromkeys(jobs.values(), "")
    for job in as_completed(jobs):
        url, error = jobs[job], job.exception()
        if error is None:
            results[url] = job.result()
        elif isinstance(error, UnknownNameError):
            results[url] = str(error)
        else:
            cause = find_cause(addresses[url], error, login_failure=login_failure)
            results[url] = cause.sentence
        advance(job.result() if error is None else 0)
    return results


def fetch(
    address: str, branches: Sequence[str], tree: str, interrupted: threading.Event | None = None
) -> int:
    """Have the cache fetch the file at its address `root://CACHE//root://ORIGIN//PATH`.

    Without `branches`, the whole file.  Returns the size of the blocks in bytes.  Runs in a
    thread, or on a Dask worker.  Raises `OSError` with XRootD's message, and `InterruptedError`
    between two requests where the event `interrupted` is set.
    """
    with _open(address) as file:
        status, info = file.stat(timeout=TIMEOUT_S)
        _check(status)
        ranges = byte_ranges.of_branches(address, branches, tree) if branches else [(0, info.size)]
        starts = blocks(ranges, info.size)
        for first in range(0, len(starts), BLOCKS_PER_REQUEST):
            if interrupted and interrupted.is_set():
                raise InterruptedError(f"{address}: the prefetch was interrupted")
            part = starts[first : first + BLOCKS_PER_REQUEST]
            status, _ = file.vector_read([(start, 1) for start in part], timeout=TIMEOUT_S)
            _check(status)
    return sum(min(BLOCK, info.size - start) for start in starts)


def blocks(ranges: Iterable[Range], size: int) -> list[int]:
    """Return the first bytes of the blocks with these ranges of a file of `size` bytes."""
    numbers: set[int] = set()
    for start, length in ranges:
        numbers.update(range(start // BLOCK, -(-(start + length) // BLOCK)))
    return [number * BLOCK for number in sorted(numbers) if number * BLOCK < size]


@contextmanager
def _open(address: str) -> Iterator[Any]:
    with extra("xcache", user="shoppe.prefetch"):
        from XRootD import client
    file = client.File()
    status, _ = file.open(address, timeout=TIMEOUT_S)
    _check(status)
    try:
        yield file
    finally:
        file.close(timeout=TIMEOUT_S)


def _check(status: Any) -> None:
    """Raise `OSError` for a request that failed."""
    if not status.ok:
        raise OSError(status.message.strip())
