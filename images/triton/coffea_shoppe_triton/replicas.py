"""The replicas of one Triton: who they are, and which of them answers next.

Clients of gRPC keep one connection, and so one replica; each front therefore hands
requests on to the others' fronts, evenly.  A headless Service names those that are ready.
"""

import asyncio
import itertools
import logging
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

LOG = logging.getLogger(__name__)
EVERY_S = 1.0
FORWARDED = "x-shoppe-forwarded"
"""Header of a request that another front hands on: it is answered here."""


@dataclass
class Replica:
    """One of the replicas."""

    host: str
    """Its address; empty for the one beside this front."""
    waiting: int = 0
    """Requests of this front's that it has not answered yet."""
    turn: int = 0
    """When it was asked last, among all."""


async def lookup(name: str) -> set[str]:
    """Return the addresses that a name stands for; none where it stands for nothing."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except socket.gaierror:
        return set()
    return {str(entry[4][0]) for entry in found}


class Replicas:
    """All replicas that are ready, and the one here."""

    def __init__(
        self,
        service: str = "",
        own: str = "",
        *,
        lookup: Callable[[str], Awaitable[set[str]]] = lookup,
    ) -> None:
        self.service, self.own, self._lookup = service, own, lookup
        self.here = Replica("")
        self.others: dict[str, Replica] = {}
        self._turns = itertools.count(1)

    async def refresh(self) -> None:
        """Learn who the others are by now."""
        hosts = await self._lookup(self.service) - {self.own}
        if hosts != self.others.keys():
            LOG.info("%d other replicas: %s", len(hosts), ", ".join(sorted(hosts)) or "none")
        self.others = {host: self.others.get(host, Replica(host)) for host in hosts}

    async def watch(self) -> None:
        """Do so for ever, where there is a Service to ask."""
        while self.service:
            await self.refresh()
            await asyncio.sleep(EVERY_S)

    def all(self) -> list[Replica]:
        """Return all of them, the one here first."""
        return [self.here, *self.others.values()]

    def tries(self) -> Iterator[Replica]:
        """Yield one after the other: each time, of those not tried, the one that waits least."""
        left = self.all()
        while left:
            best = min(left, key=lambda one: (one.waiting, one.turn))
            left.remove(best)
            yield best

    @contextmanager
    def asking(self, replica: Replica) -> Iterator[None]:
        """Count a request as waiting meanwhile."""
        replica.waiting += 1
        replica.turn = next(self._turns)
        try:
            yield
        finally:
            replica.waiting -= 1
