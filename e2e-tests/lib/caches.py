"""What a cache served of one story's own files, whatever other stories read meanwhile."""

import re
from dataclasses import dataclass

from shoppe_ci.cluster import Cluster

CLOSED = re.compile(r"closed (\S+): (\d+) bytes from an origin")


@dataclass(frozen=True)
class Reads:
    """Files that were opened and closed again, and the bytes that came from origins for them."""

    files: int
    fetched: int


def reads(cluster: Cluster, below: str) -> Reads:
    """Return what the facility's cache has logged of the files whose path contains `below`.

    The cache reports a file some seconds after it was closed.
    """
    logs = ("-n", "shoppe", "logs", "shoppe-xcache-0", "-c", "exporter", "--tail=-1")
    closed = CLOSED.findall(cluster.kubectl(*logs))
    sizes = [int(size) for name, size in closed if below in name]
    return Reads(len(sizes), sum(sizes))
