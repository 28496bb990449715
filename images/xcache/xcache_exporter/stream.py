"""Monitoring packets of the cache: closed files, and bytes on its links."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Closed:
    """One `file_close` event of XRootD's cache stream (g-stream `pfc`), in bytes."""

    name: str
    origins: tuple[str, ...]
    """HOST:PORT of the origins that were read from; empty if the cache had all blocks."""
    size: int
    block: int
    blocks: int
    """Number of the file's blocks on disk."""
    bypassed: int
    """Bytes that passed through without being cached."""


def parse(datagram: bytes) -> Iterator[Closed]:
    """Yield the file events of one monitoring packet; other lines are skipped.

    A packet is a header line followed by one JSON object per line, and ends with a zero
    byte.  Truncated lines are skipped: the stream is best effort by design.
    """
    for line in datagram.decode(errors="replace").rstrip("\0").splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if not isinstance(event, dict) or event.get("event") != "file_close":
            continue
        try:
            yield Closed(
                name=event["lfn"],
                origins=tuple(event["remotes"]),
                size=event["size"],
                block=event["blk_size"],
                blocks=event["n_blks_done"],
                bypassed=event["b_bypass"],
            )
        except KeyError:
            continue


def sent(datagram: bytes) -> int | None:
    """Return the bytes sent on all links since the cache started, from its summary report."""
    match = re.search(rb'<stats id="link">.*?<out>(\d+)</out>', datagram, re.DOTALL)
    return int(match[1]) if match else None


@dataclass
class Ledger:
    """Sums of the bytes that were fetched from origins.

    They are computed from the growth of the files on disk.  The stream's own hits and misses
    cannot be used: a read of a block that is still being fetched counts as a hit, and may
    count twice.
    """

    fetched: int = 0
    files: int = 0
    from_cache_alone: int = 0
    blocks: dict[tuple[str, int], int] = field(default_factory=dict)
    """Blocks on disk by file (name and size)."""

    def add(self, event: Closed) -> int:
        """Count one event; return the bytes that came from an origin for it."""
        key = (event.name, event.size)
        before = self.blocks.get(key, 0)
        self.blocks[key] = event.blocks
        self.files += 1
        if not event.origins:
            self.from_cache_alone += 1
            return 0
        # Fewer blocks than before: the file was purged and fetched again.
        grown = event.blocks - before if event.blocks >= before else event.blocks
        fetched = min(grown * event.block, event.size) + event.bypassed
        self.fetched += fetched
        return fetched
