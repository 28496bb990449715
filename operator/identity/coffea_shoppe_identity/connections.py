"""uvicorn's HTTP protocol with limits on connections: their number, and their slowness.

uvicorn itself waits without limit for a connection's first request and for the rest of a head, and
accepts any number of connections.
"""

import asyncio
from collections import Counter
from typing import Any, ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S = 20
"""A request's head arrives within this time: from the connection, or from its first byte."""
CONNECTIONS = 256
"""Connections of one address, such as a user's pod or a proxy, at once."""
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\n\r\n"
SLOW = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n"


class LimitedProtocol(H11Protocol):
    """A connection that is closed if its address has too many, or while it sends no request.

    Use it as uvicorn's `http`.  The bodies of requests are the matter of `bodies.BodyLimits`.
    """

    head_s: ClassVar[float] = HEAD_S
    connections_each: ClassVar[int] = CONNECTIONS
    by_address: ClassVar[Counter[str]] = Counter()
    """Open connections of this process."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request, or close what is too much."""
        super().connection_made(transport)
        self.head_timer: asyncio.TimerHandle | None = None
        self.address = self.client[0] if self.client else ""
        self.by_address[self.address] += 1
        if self.by_address[self.address] > self.connections_each:
            self._end(BUSY)
        else:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_waiting()
        self.by_address[self.address] -= 1
        if not self.by_address[self.address]:
            del self.by_address[self.address]
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what the client sends."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()
        elif self.head_timer is None:
            # Part of a head, or the rest of a body after the response.
            self._await_head()

    def _await_head(self) -> None:
        self.head_timer = self.loop.call_later(self.head_s, self._end, SLOW)

    def _stop_waiting(self) -> None:
        if self.head_timer is not None:
            self.head_timer.cancel()
            self.head_timer = None

    def _end(self, response: bytes) -> None:
        """Close the connection with a response, which no request has been read for."""
        if not self.transport.is_closing():
            self.transport.write(response)
            self.transport.close()


# The applications log what matters; an access log would be full of probes and polling.
UVICORN: dict[str, Any] = {"http": LimitedProtocol, "proxy_headers": False, "access_log": False}
"""Options of `uvicorn.run` that all servers of the facility have in common."""
