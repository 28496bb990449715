"""What the cache tells about a file when its last reader closes it."""

import json
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
    served: int
    """Bytes given to readers: from disk, from memory, and passed through."""
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
                served=event["b_hit"] + event["b_miss"] + event["b_bypass"],
                bypassed=event["b_bypass"],
            )
        except KeyError:
            continue


@dataclass
class Ledger:
    """Sums of what was served and what came from the origins.

    The stream's own hits and misses do not tell bytes from the origin: a read of
    a block that is still on its way counts as a hit.  The growth of the file on
    disk does.
    """

    served: int = 0
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
        self.served += event.served
        if not event.origins:
            self.from_cache_alone += 1
            return
        # Fewer blocks than before: the file was purged and fetched anew.
        grown = event.blocks - before if event.blocks >= before else event.blocks
        self.fetched += min(grown * event.block, event.size) + event.bypassed
