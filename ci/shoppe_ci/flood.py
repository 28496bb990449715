"""Sends servers more than they should take.  It runs in a user's pod, without our packages.

Usage: python flood.py TARGETS SECONDS; TARGETS is JSON, a list of objects with the fields of
`Target`.  Prints {server: {kind: {"connections": …, "bytes": …, "responses": {…}}}}.
"""

import contextlib
import gzip
import json
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

LARGE = 300 * 10**6
"""Bytes of a body that no request needs."""
BLOCK = b" " * 2**16
MANY = 10_000
"""Keys of a JSON object, and headers."""
BOMB = gzip.compress(b"\0" * 2**26) * 16
"""A mebibyte that decompresses to a gibibyte."""
SLOW_CONNECTIONS, SILENT_CONNECTIONS = 150, 300
"""Connections of one kind to one server at once."""
CONNECT_S = 5


@dataclass(frozen=True)
class Target:
    """A server, and a request that it takes from this user."""

    name: str
    host: str
    port: int
    path: str = "/"
    method: str = "POST"
    headers: dict[str, str] = field(default_factory=dict)

    def head(self, **headers: str) -> bytes:
        """Return the head of a request with more headers; their names have `_` for `-`."""
        lines = [f"{self.method} {self.path} HTTP/1.1", f"Host: {self.host}:{self.port}"]
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        lines += [f"{name}: {value}" for name, value in (self.headers | more).items()]
        return "\r\n".join([*lines, "", ""]).encode()


class Tally:
    """What came of one kind at one server."""

    def __init__(self) -> None:
        self.connections, self.bytes = 0, 0
        self.responses: Counter[str] = Counter()

    def connect(self, target: Target) -> socket.socket:
        """Open a connection."""
        connection = socket.create_connection((target.host, target.port), CONNECT_S)
        self.connections += 1
        return connection

    def send(self, connection: socket.socket, content: bytes) -> None:
        """Send all of it."""
        connection.sendall(content)
        self.bytes += len(content)

    def note_response(self, connection: socket.socket) -> None:
        """Note how the server responds, or that it ends the connection."""
        try:
            line = connection.recv(64)
        except TimeoutError:
            line = b"- silent"
        except OSError:
            line = b"- reset"
        words = line.split()
        self.responses[words[1].decode(errors="replace") if len(words) > 1 else "closed"] += 1


Kind = Callable[[Target, Tally, float], None]


def _requests(
    target: Target, tally: Tally, end: float, parts: Callable[[], Iterator[bytes]]
) -> None:
    """Send a request in parts, once and then until the end."""
    while True:
        try:
            connection = tally.connect(target)
        except OSError:
            tally.responses["not connected"] += 1
            time.sleep(0.5)
        else:
            with connection:
                try:
                    for part in parts():
                        tally.send(connection, part)
                        if time.monotonic() > end:
                            break
                except OSError:
                    pass  # the server has ended the connection, maybe with a response
                tally.note_response(connection)
        if time.monotonic() >= end:
            return


def large_body(target: Target, tally: Tally, end: float) -> None:
    """Send 300 MB, announced."""

    def parts() -> Iterator[bytes]:
        yield target.head(Content_Length=str(LARGE), Content_Type="application/json")
        for _ in range(LARGE // len(BLOCK)):
            yield BLOCK

    _requests(target, tally, end, parts)


def chunked_body(target: Target, tally: Tally, end: float) -> None:
    """Send 300 MB, whose size the server does not know before."""
    chunk = b"%x\r\n%b\r\n" % (len(BLOCK), BLOCK)

    def parts() -> Iterator[bytes]:
        yield target.head(Transfer_Encoding="chunked", Content_Type="application/json")
        for _ in range(LARGE // len(BLOCK)):
            yield chunk

    _requests(target, tally, end, parts)


def many_keys(target: Target, tally: Tally, end: float) -> None:
    """Send a JSON object of 10,000 keys."""
    body = json.dumps({f"key{number}": [{}] * 5 for number in range(MANY)}).encode()
    head = target.head(Content_Length=str(len(body)), Content_Type="application/json")
    _requests(target, tally, end, lambda: iter((head, body)))


def many_headers(target: Target, tally: Tally, end: float) -> None:
    """Send 10,000 headers."""
    head = target.head(**{f"X_{number}": "x" * 50 for number in range(MANY)}, Content_Length="0")
    _requests(target, tally, end, lambda: iter((head,)))


def bomb(target: Target, tally: Tally, end: float) -> None:
    """Send a compressed body."""
    head = target.head(
        Content_Length=str(len(BOMB)), Content_Encoding="gzip", Content_Type="application/json"
    )
    _requests(target, tally, end, lambda: iter((head, BOMB)))


def _slowly(
    target: Target, tally: Tally, end: float, first: bytes, next_part: bytes, count: int
) -> None:
    """Keep so many connections open, and send each a part in a second."""
    open_connections: list[socket.socket] = []
    while True:
        began = time.monotonic()
        while not open_connections or (
            len(open_connections) < count and time.monotonic() < min(end, began + 5)
        ):
            try:
                connection = tally.connect(target)
                tally.send(connection, first)
                connection.setblocking(False)
            except OSError:
                tally.responses["not connected"] += 1
                break
            open_connections.append(connection)
        for connection in list(open_connections):
            try:
                if connection.recv(64) == b"":
                    raise ConnectionResetError
                tally.responses["answered"] += 1
            except BlockingIOError:
                pass
            except OSError:
                open_connections.remove(connection)
                connection.close()
                tally.responses["closed"] += 1
                continue
            with contextlib.suppress(OSError):  # seen at the next look
                tally.bytes += connection.send(next_part) if next_part else 0
        if time.monotonic() >= end:
            break
        time.sleep(max(0.0, began + 1 - time.monotonic()))
    tally.responses["open in the end"] += len(open_connections)
    for connection in open_connections:
        connection.close()


def slow_body(target: Target, tally: Tally, end: float) -> None:
    """Send bodies of which one byte comes in a second."""
    head = target.head(Content_Length="60000", Content_Type="application/json")
    _slowly(target, tally, end, head, b" ", SLOW_CONNECTIONS)


def slow_head(target: Target, tally: Tally, end: float) -> None:
    """Send heads of which one line comes in a second."""
    head = target.head()[:-2]
    _slowly(target, tally, end, head, b"X-Slow: 1\r\n", SLOW_CONNECTIONS)


def silent(target: Target, tally: Tally, end: float) -> None:
    """Open connections and send nothing."""
    _slowly(target, tally, end, b"", b"", SILENT_CONNECTIONS)


KINDS: tuple[Kind, ...] = (
    large_body,
    chunked_body,
    many_keys,
    many_headers,
    bomb,
    slow_body,
    slow_head,
    silent,
)


def flood(targets: list[Target], seconds: float) -> dict[str, dict[str, Tally]]:
    """Send each server each kind, all at once; return what came of it."""
    end = time.monotonic() + seconds
    tallies = {target.name: {kind.__name__: Tally() for kind in KINDS} for target in targets}
    threads = [
        threading.Thread(
            target=kind, args=(target, tallies[target.name][kind.__name__], end), daemon=True
        )
        for target in targets
        for kind in KINDS
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end + 60 - time.monotonic()))
    return tallies


def main() -> None:
    """Flood the targets of the command line."""
    targets = [Target(**fields) for fields in json.loads(sys.argv[1])]
    tallies = flood(targets, float(sys.argv[2]))
    outcome = {
        name: {kind: vars(tally) for kind, tally in kinds.items()}
        for name, kinds in tallies.items()
    }
    print(json.dumps(outcome))


if __name__ == "__main__":
    main()
