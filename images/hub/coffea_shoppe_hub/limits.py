"""Limits on what the hub's HTTP server reads, before it knows who sends it.

Tornado's own are 100 MB for each body, an hour for a head, and no end for a body or for the
number of connections: one user's requests would take all of the hub's memory.
"""

from collections import Counter
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream

LIMITS: dict[str, Any] = {
    "max_body_size": 256 * 2**10,
    "idle_connection_timeout": 75,
    "body_timeout": 30,
}
"""Of a body, bytes: enough for the names of thousands of users.  Of a head and the pause before
it, and of a body, seconds."""
CONNECTIONS = 512
"""Connections of one address at once: of a user's pod, or of the proxy for all browsers."""


class LimitedServer(HTTPServer):
    """An HTTP server that closes the connections of an address that has too many."""

    connections_each = CONNECTIONS

    def initialize(self, *words: Any, **options: Any) -> None:
        """Take what `HTTPServer` takes."""
        super().initialize(*words, **options)
        self.by_address: Counter[str] = Counter()

    def handle_stream(self, stream: IOStream, address: tuple[Any, ...]) -> None:
        """Serve a connection, or close it."""
        if self.by_address[_host(address)] >= self.connections_each:
            stream.close()
            return
        self.by_address[_host(address)] += 1
        super().handle_stream(stream, address)

    def on_close(self, server_conn: Any) -> None:
        """Forget a connection."""
        host = _host(server_conn.context.address)
        self.by_address[host] -= 1
        if not self.by_address[host]:
            del self.by_address[host]
        super().on_close(server_conn)


def _host(address: tuple[Any, ...]) -> str:
    return str(address[0]) if address else ""


def limit_servers() -> None:
    """Have each `HTTPServer` that this process makes keep the limits."""
    HTTPServer.configure(LimitedServer, **LIMITS)
