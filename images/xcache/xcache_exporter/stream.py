"""What the cache tells: of a file when its last reader closes it, and of its links."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Closed:
    """One `file_close` event of XRootD's cache stream (g-stream `pfc`), in bytes."""

    name: str
    origins: tuple[str, ...]
    """HOST:PORT of the origins that were asked; none when the cache had it all."""
    size: int
    block: int
    blocks: int
    """Blocks of the file on disk by now."""
    bypassed: int
    """Bytes passed through without being kept."""


def parse(datagram: bytes) -> Iterator[Closed]:
    """Yield the file events of one monitoring packet; other lines are skipped.

    A packet is a line of header and then one JSON object a line, ended by a zero
    byte.  Lines that are cut short or not JSON are skipped, too: the stream is best
    effort by design.
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
    found = re.search(rb'<stats id="link">.*?<out>(\d+)</out>', datagram, re.DOTALL)
    return int(found[1]) if found else None


@dataclass
class Ledger:
    """Sums of what came from the origins.

    The stream's own hits and misses do not tell: a read of a block that is still
    on its way counts as a hit, and may count twice.  The growth of the file on disk
    does.
    """

    fetched: int = 0
    files: int = 0
    from_cache_alone: int = 0
    known: dict[tuple[str, int], int] = field(default_factory=dict)
    """Blocks on disk by file (name and size)."""

    def add(self, event: Closed) -> None:
        """Count one event."""
        key = (event.name, event.size)
        before = self.known.get(key, 0)
        self.known[key] = event.blocks
        self.files += 1
        if not event.origins:
            self.from_cache_alone += 1
            return
        # Fewer blocks than before: the file was purged and fetched anew.
        grown = event.blocks - before if event.blocks >= before else event.blocks
        self.fetched += min(grown * event.block, event.size) + event.bypassed
