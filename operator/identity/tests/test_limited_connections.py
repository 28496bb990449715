"""Connections that send nothing, or slowly, or are too many, are closed; others are served."""

import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest
import uvicorn
from coffea_shoppe_identity.connections import UVICORN, LimitedProtocol
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

HEAD_S = 1
REQUEST = b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\n\r\n"
OTHER = "127.0.0.2"
"""Another address of this machine, as another user's pod has."""


class Protocol(LimitedProtocol):
    """Short and few, for a test."""

    head_s, connections_each, by_address = HEAD_S, 3, Counter()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A server that tells the length of a body."""

    async def length(request: Request) -> Response:
        return PlainTextResponse(f"length {len(await request.body())}")

    application = Starlette(routes=[Route("/", length, methods=["POST"])])
    settings = {**UVICORN, "http": Protocol, "log_level": "warning"}
    server = uvicorn.Server(uvicorn.Config(application, port=0, **settings))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join()


def connected(port: int, address: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), 10, source_address=(address, 0))


def received(connection: socket.socket) -> bytes:
    """Return all that comes until the server closes the connection."""
    parts = []
    try:
        while part := connection.recv(4096):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def answered(connection: socket.socket) -> bool:
    """Return whether the response to `REQUEST` comes before the connection ends."""
    response = b""
    while b"length 1" not in response:
        part = connection.recv(4096)
        if not part:
            return False
        response += part
    return True


def served(connection: socket.socket) -> bool:
    connection.sendall(REQUEST + b"x")
    return answered(connection)


def trickle(connection: socket.socket, data: bytes) -> None:
    """Send one byte after the other, as long as the server takes them."""
    for number in range(len(data)):
        try:
            connection.sendall(data[number : number + 1])
        except OSError:
            return
        time.sleep(HEAD_S / 5)


def test_a_connection_that_sends_nothing_is_closed(port: int) -> None:
    with connected(port) as silent, connected(port) as busy:
        assert served(busy)
        assert received(silent).startswith(b"HTTP/1.1 408")
        assert served(busy)


def test_a_head_that_comes_slowly_is_given_up_and_a_slow_body_is_not(port: int) -> None:
    with connected(port) as slow:
        trickle(slow, REQUEST)
        assert b"length" not in received(slow)
    with connected(port) as body:
        body.sendall(REQUEST)
        time.sleep(2 * HEAD_S)
        body.sendall(b"x")
        assert answered(body)


def test_a_second_head_on_a_connection_has_the_same_time(port: int) -> None:
    with connected(port) as kept:
        assert served(kept)
        assert served(kept)
        trickle(kept, REQUEST)
        assert b"length" not in received(kept)


def test_one_address_leaves_connections_to_others(port: int) -> None:
    mine = [connected(port) for _ in range(3)]
    with connected(port) as fourth:
        assert received(fourth).startswith(b"HTTP/1.1 503")
    with connected(port, OTHER) as other:
        assert served(other)
    assert served(mine[0])
    for connection in mine:
        connection.close()
    end = time.monotonic() + 10
    while Protocol.by_address and time.monotonic() < end:
        time.sleep(0.01)
    with connected(port) as again:
        assert served(again)


def test_a_head_of_any_size_is_not_kept(port: int) -> None:
    with connected(port) as large:
        try:
            for _ in range(200):
                large.sendall(b"X: " + b"x" * 8000 + b"\r\n")
        except OSError:
            pass  # it was refused while we sent
        assert b"length" not in received(large)


def test_servers_have_these_limits() -> None:
    config = uvicorn.Config(Starlette(), **UVICORN)
    config.load()
    assert config.http_protocol_class is LimitedProtocol
