"""The replicas of one Triton: their addresses, and which of them gets the next request.

A gRPC client keeps one connection, and thus reaches one replica; each proxy therefore forwards
requests evenly to the proxies of all replicas.  A headless Service lists the ready ones.
"""

import asyncio
import itertools
import logging
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

LOG = logging.getLogger(__name__)
REFRESH_S = 1.0
"""Interval at which the list of replicas is refreshed."""
FORWARDED = "x-shoppe-forwarded"
"""Header of a request that another proxy has forwarded: this replica processes it."""


@dataclass
class Replica:
    """One replica."""

    host: str
    """Its address; empty for the replica in the pod of this proxy."""
    waiting: int = 0
    """Requests of this proxy to which it has not responded yet."""
    turn: int = 0
    """Number of the last request of this proxy to it."""

    def address(self, port: int) -> str:
        """Return HOST:PORT, as a URL has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{port}"


async def lookup(name: str) -> set[str]:
    """Return the addresses of a DNS name; none where it does not exist."""
    try:
        entries = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except socket.gaierror:
        return set()
    return {str(entry[4][0]) for entry in entries}


class Replicas:
    """The replica in this pod, and all others that are ready."""

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
        """Look up the other replicas."""
        hosts = await self._lookup(self.service) - {self.own}
        if hosts != self.others.keys():
            LOG.info("%d other replicas: %s", len(hosts), ", ".join(sorted(hosts)) or "none")
        self.others = {host: self.others.get(host, Replica(host)) for host in hosts}

    async def watch(self) -> None:
        """Refresh the list until cancelled; returns at once where there is no Service."""
        while self.service:
            await self.refresh()
            await asyncio.sleep(REFRESH_S)

    def all(self) -> list[Replica]:
        """Return all replicas, the one in this pod first."""
        return [self.here, *self.others.values()]

    def tries(self) -> Iterator[Replica]:
        """Yield the replicas in the order to try: always the least busy remaining one."""
        remaining = self.all()
        while remaining:
            best = min(remaining, key=lambda replica: (replica.waiting, replica.turn))
            remaining.remove(best)
            yield best

    @contextmanager
    def counted(self, replica: Replica) -> Iterator[None]:
        """Count a request as waiting within the context."""
        replica.waiting += 1
        replica.turn = next(self._turns)
        try:
            yield
        finally:
            replica.waiting -= 1
