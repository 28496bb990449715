"""The hub's HTTP server reads what its own requests need, and no more of any address."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from coffea_shoppe_hub import limits
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application, RequestHandler

TIMEOUT_S = 1


class Length(RequestHandler):
    """Tells the length of a body."""

    def post(self) -> None:
        self.write(f"length {len(self.request.body)}")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Run steps with the port of a server that is made as JupyterHub makes its own."""
    short = {"idle_connection_timeout": TIMEOUT_S, "body_timeout": TIMEOUT_S}
    monkeypatch.setattr(limits, "LIMITS", limits.LIMITS | short)
    monkeypatch.setattr(limits.LimitedServer, "connections_each", 3)
    limits.limit_servers()

    def run(steps: Callable[[int], Awaitable[None]]) -> None:
        async def main() -> None:
            server = HTTPServer(Application([("/", Length)]), xheaders=True)
            listener, port = bind_unused_port()
            server.add_sockets([listener])
            await steps(port)
            server.stop()
            await server.close_all_connections()

        asyncio.run(main())

    yield run
    HTTPServer.configure(None)


async def sent(port: int, *parts: bytes, address: str = "127.0.0.1") -> bytes:
    """Return what the server answers to a request, until it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
        return await asyncio.wait_for(reader.read(), 20)
    except ConnectionError:
        return b""
    finally:
        writer.close()


def request(size: int) -> bytes:
    head = f"POST / HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: {size}\r\n\r\n"
    return head.encode()


def test_a_body_has_at_most_so_many_bytes(run: Any) -> None:
    async def steps(port: int) -> None:
        largest = limits.LIMITS["max_body_size"]
        assert b"length %d" % largest in await sent(port, request(largest), b"x" * largest)
        assert b"length" not in await sent(port, request(largest + 1), b"x" * largest)

    run(steps)


@pytest.mark.parametrize("parts", [[], [b"POST / HTTP/1.1\r\nHo"], [request(10), b"x"]])
def test_who_is_slow_is_given_up(run: Any, parts: list[bytes]) -> None:
    async def steps(port: int) -> None:
        slow, quick = await asyncio.gather(sent(port, *parts), sent(port, request(1), b"x"))
        assert b"length" not in slow
        assert b"length 1" in quick

    run(steps)


def test_one_address_leaves_connections_to_others(run: Any) -> None:
    async def steps(port: int) -> None:
        mine = [asyncio.create_task(sent(port)) for _ in range(3)]
        await asyncio.sleep(0.1)
        assert b"length" not in await sent(port, request(1), b"x")
        assert b"length 1" in await sent(port, request(1), b"x", address="127.0.0.2")
        await asyncio.gather(*mine)
        assert b"length 1" in await sent(port, request(1), b"x")

    run(steps)
