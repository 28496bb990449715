"""Bodies are bounded in bytes, number and seconds; one user leaves capacity to others."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx2 as httpx
import pytest
from coffea_shoppe_identity.bodies import SENDER, BodyLimits
from coffea_shoppe_identity.capacity import Capacity
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route


class Between(BaseHTTPMiddleware):
    """A middleware that serves requests in task groups, as MLflow has some."""

    async def dispatch(
        self, request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        return await call_next(request)


@pytest.fixture
def run() -> Callable[..., Any]:
    """Run a story against a server that echoes the length of bodies."""

    def run(story: Callable[[httpx.AsyncClient], Awaitable[None]], **limits: Any) -> None:
        async def length(request: Request) -> Response:
            sender = request.headers.get("authorization", "")
            if not sender:
                return PlainTextResponse("who are you?", 401)
            request.scope[SENDER] = sender
            return PlainTextResponse(str(len(await request.body())))

        async def main() -> None:
            total, per_user = limits.pop("total", 300), limits.pop("per_user", 200)
            capacity = Capacity(total, per_user, wait_s=0.2, small=0)
            between = [Middleware(Between)] if limits.pop("between", False) else []
            options = {"largest": 100, "capacity": capacity, "timeout_s": 0.3, **limits}
            application = Starlette(
                routes=[Route("/", length, methods=["POST"])],
                middleware=[Middleware(BodyLimits, **options), *between],
            )
            transport = httpx.ASGITransport(app=application)
            async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
                await story(client)
            assert not capacity.reserved

        asyncio.run(main())

    return run


ANN, BOB = {"Authorization": "ann"}, {"Authorization": "bob"}


async def slow_body(*, parts: int, pause: float) -> AsyncIterator[bytes]:
    for _ in range(parts):
        yield b"x" * 10
        await asyncio.sleep(pause)


@pytest.mark.parametrize("between", [False, True])
def test_a_body_has_at_most_so_many_bytes(run: Any, *, between: bool) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        allowed = await client.post("/", content=b"x" * 100, headers=ANN)
        assert (allowed.status_code, allowed.text) == (200, "100")
        refused = await client.post("/", content=b"x" * 101, headers=ANN)
        assert refused.status_code == 413
        assert "larger than" in refused.json()["message"]
        chunked = await client.post("/", content=slow_body(parts=11, pause=0), headers=ANN)
        assert chunked.status_code == 413
        chunked = await client.post("/", content=slow_body(parts=10, pause=0), headers=ANN)
        assert (chunked.status_code, chunked.text) == (200, "100")
        assert (await client.post("/", headers=ANN)).text == "0"

    run(story, between=between)


def test_a_slow_body_is_given_up(run: Any) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        slow = await client.post("/", content=slow_body(parts=5, pause=0.2), headers=ANN)
        assert slow.status_code == 408
        assert "within 0.3 s" in slow.json()["error"]
        assert (await client.post("/", content=b"x", headers=ANN)).text == "1"

    run(story)


def test_a_body_of_nobody_is_not_read(run: Any) -> None:
    def read() -> bytes:
        raise AssertionError("the body is read")

    async def never() -> AsyncIterator[bytes]:
        for part in iter(read, b""):
            yield part

    async def story(client: httpx.AsyncClient) -> None:
        refused = await client.post("/", content=never())
        assert refused.status_code == 401

    run(story)


def test_bodies_of_one_user_leave_capacity_for_another(run: Any) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        async def slow() -> httpx.Response:
            return await client.post("/", content=slow_body(parts=9, pause=0.03), headers=ANN)

        slow_ones = [asyncio.create_task(slow()) for _ in range(3)]
        await asyncio.sleep(0.02)
        quick = await client.post("/", content=b"x" * 100, headers=BOB)
        assert quick.text == "100"
        responses = await asyncio.gather(*slow_ones)
        assert sorted(response.status_code for response in responses) == [200, 200, 503]
        (busy,) = (response for response in responses if response.status_code == 503)
        assert busy.headers["Retry-After"] == "5"

    run(story, timeout_s=5)


def test_so_many_bodies_of_a_user_arrive_at_once(run: Any) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        async def slow() -> httpx.Response:
            return await client.post("/", content=slow_body(parts=4, pause=0.05), headers=ANN)

        slow_ones = [asyncio.create_task(slow()) for _ in range(3)]
        await asyncio.sleep(0.02)
        quick = await client.post("/", content=b"x", headers=BOB)
        assert quick.text == "1"
        responses = await asyncio.gather(*slow_ones)
        assert sorted(response.status_code for response in responses) == [200, 200, 503]
        (busy,) = (response for response in responses if response.status_code == 503)
        assert "arrive at once" in busy.json()["message"]
        # What has arrived is not counted any more.
        for _ in range(3):
            assert (await client.post("/", content=b"x", headers=ANN)).text == "1"

    run(story, timeout_s=5, total=10_000, per_user=10_000, at_once=2)
