"""Whose model a request is for decides whether Triton hears of it."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import grpc
import pytest
from aiohttp import web
from coffea_shoppe_contract import identity
from coffea_shoppe_identity import Identity, RefusedError
from coffea_shoppe_triton.access import SERVICE, DeniedError, Gate, over_grpc, over_http
from coffea_shoppe_triton.front import LARGEST, GrpcFront, HttpFront, Named, model_of
from coffea_shoppe_triton.replicas import Replicas


class Tokens:
    """A verifier to which a token's text is its user; the operator's is 'operator'."""

    def verify(self, token: str, *, audience: str | None = None) -> Identity:
        if (token == "operator") != (audience == identity.TRITON_ADMIN):  # noqa: S105
            raise RefusedError("the token is for something else")
        if token == "expired":  # noqa: S105
            raise RefusedError("the token has expired")
        return Identity(token, "uid", (), 0.0)


GATE = Gate(Tokens())  # type: ignore[arg-type]
CASES = [
    ("/v2/health/ready", "", True),
    ("/v2", "ann", True),
    ("/v2", "expired", False),
    ("/v2", "", False),
    ("/v2/models/ann.bdt/infer", "ann", True),
    ("/v2/models/ann.bdt/versions/2/infer", "ann", True),
    ("/v2/models/ann.bdt", "ann", True),
    ("/v2/models/ann.bdt/infer", "bob", False),
    ("/v2/models/annie.bdt/infer", "ann", False),
    ("/v2/models/ann.bdt/infer", "operator", True),
    ("/v2/models/stats", "ann", False),
    ("/v2/models/stats", "operator", True),
    ("/v2/models/ann.bdt/trace/setting", "ann", False),
    ("/v2/repository/index", "ann", False),
    ("/v2/repository/models/ann.bdt/load", "ann", False),
    ("/v2/repository/models/ann.bdt/load", "operator", True),
    ("/v2/models/ann.bdt%2f..%2fbob.bdt/infer", "ann", False),
    ("/v2/models/ann.x/../../repository/index", "ann", False),
    ("/v2/logging", "ann", False),
]


@pytest.mark.parametrize(("path", "token", "good"), CASES)
def test_a_path_is_open_to_the_right_ones(path: str, token: str, good: bool) -> None:
    authorization = f"Bearer {token}" if token else ""
    if good:
        GATE.admit(over_http(path), authorization)
        return
    with pytest.raises((RefusedError, DeniedError)):
        GATE.admit(over_http(path), authorization)


@pytest.mark.parametrize(
    ("method", "model", "token", "good"),
    [
        ("ModelInfer", "ann.bdt", "ann", True),
        ("ModelInfer", "ann.bdt", "bob", False),
        ("ModelStatistics", "", "ann", False),
        ("RepositoryModelLoad", "ann.bdt", "ann", False),
        ("RepositoryModelLoad", "ann.bdt", "operator", True),
        ("ServerReady", "", "", True),
        ("ModelStreamInfer", "ann.bdt", "ann", False),
        ("SystemSharedMemoryRegister", "", "ann", False),
    ],
)
def test_a_method_is_open_to_the_right_ones(
    method: str, model: str, token: str, good: bool
) -> None:
    asked = over_grpc(f"{SERVICE}{method}", lambda: model)
    authorization = f"Bearer {token}" if token else ""
    if good:
        GATE.admit(asked, authorization)
        return
    with pytest.raises((RefusedError, DeniedError)):
        GATE.admit(asked, authorization)


def test_the_model_is_the_first_field_whatever_follows() -> None:
    request = Named(name="ann.bdt").SerializeToString() + b"\x12\x011" + b"\x3a\x03abc"
    assert model_of(request) == "ann.bdt"
    # As protobuf has it, the last one counts: for Triton, too.
    assert model_of(request + Named(name="bob.bdt").SerializeToString()) == "bob.bdt"
    with pytest.raises(DeniedError, match="cannot be read"):
        model_of(b"\x0a\xff")


def alone(triton: str) -> web.Application:
    """Return the front of a Triton that has one replica."""
    return HttpFront(GATE, triton, Replicas(), port=0).application()


@asynccontextmanager
async def listening(
    application: web.Application, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[str]:
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, host, port)
    await site.start()
    port = runner.addresses[0][1]
    yield f"http://{host}:{port}"
    await runner.cleanup()


def test_http_passes_through_as_it_is_and_without_the_token() -> None:
    heard: list[tuple[str, str, bytes, str]] = []

    async def triton(request: web.Request) -> web.Response:
        body = await request.read()
        told = request.headers.get("Inference-Header-Content-Length", "")
        assert "Authorization" not in request.headers
        heard.append((request.method, request.path_qs, body, told))
        return web.Response(body=body[::-1], status=202, headers={"X-Own": "yes"})

    async def story() -> None:
        upstream = web.Application()
        upstream.router.add_route("*", "/{path:.*}", triton)
        async with (
            listening(upstream) as behind,
            listening(alone(behind)) as front,
            aiohttp.ClientSession() as client,
        ):
            url = f"{front}/v2/models/ann.bdt/infer?a=b"
            binary = bytes(range(256)) * 4096
            own = {"Authorization": "Bearer ann", "Inference-Header-Content-Length": "17"}
            async with client.post(url, data=binary, headers=own) as answer:
                assert (answer.status, answer.headers["X-Own"]) == (202, "yes")
                assert await answer.read() == binary[::-1]
            assert heard == [("POST", "/v2/models/ann.bdt/infer?a=b", binary, "17")]
            for token, status in (("bob", 403), ("expired", 401)):
                headers = {"Authorization": f"Bearer {token}"}
                async with client.post(url, data=binary, headers=headers) as answer:
                    assert answer.status == status
                    assert (await answer.json())["error"]
            too_large = b"x" * (LARGEST + 1)
            async with client.post(url, data=too_large, headers=own) as answer:
                assert answer.status == 413
            assert len(heard) == 1
        async with (
            listening(alone(behind)) as front,
            aiohttp.ClientSession() as client,
            client.get(f"{front}/v2/health/ready") as answer,
        ):
            assert answer.status == 503
            assert "does not answer" in (await answer.json())["error"]

    asyncio.run(story())


class Echo(grpc.GenericRpcHandler):
    """A Triton that sends back what it gets, and knows one model."""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        async def call(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
            assert "authorization" not in dict(context.invocation_metadata() or ())
            if model_of(request) == "ann.none":
                await context.abort(grpc.StatusCode.NOT_FOUND, "no such model")
            return request

        return grpc.unary_unary_rpc_method_handler(call)


def test_grpc_passes_through_as_it_is_and_without_the_token() -> None:
    async def story() -> None:
        async def start(handler: grpc.GenericRpcHandler) -> tuple[grpc.aio.Server, str]:
            server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
            server.add_generic_rpc_handlers((handler,))
            port = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            return server, f"127.0.0.1:{port}"

        unlimited = [("grpc.max_receive_message_length", -1)]
        behind, address = await start(Echo())
        inner = grpc.aio.insecure_channel(address, options=unlimited)
        front, address = await start(GrpcFront(GATE, inner, Replicas(), port=0))
        async with grpc.aio.insecure_channel(address, options=unlimited) as channel:
            infer = channel.unary_unary(f"{SERVICE}ModelInfer")
            request = Named(name="ann.bdt").SerializeToString() + b"\x3a\x80\x80\x80\x04"
            request += b"x" * 8388608
            own = (("authorization", "Bearer ann"),)
            assert await infer(request, metadata=own) == request
            missing = Named(name="ann.none").SerializeToString()
            for sent, token, code in (
                (request, "bob", grpc.StatusCode.PERMISSION_DENIED),
                (request, "expired", grpc.StatusCode.UNAUTHENTICATED),
                (missing, "ann", grpc.StatusCode.NOT_FOUND),
            ):
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await infer(sent, metadata=(("authorization", f"Bearer {token}"),))
                assert refused.value.code() == code
        await front.stop(None)
        await inner.close()
        await behind.stop(None)

    asyncio.run(story())


HOSTS = ("127.0.0.1", "127.0.0.2")
"""Of two replicas, the first of which is asked."""


def free_port() -> int:
    with socket.socket() as some:
        some.bind((HOSTS[0], 0))
        return int(some.getsockname()[1])


async def knowing_both(own: str) -> Replicas:
    async def lookup(_: str) -> set[str]:
        return set(HOSTS)

    replicas = Replicas("triton-replicas", own, lookup=lookup)
    await replicas.refresh()
    return replicas


class Scores:
    """A Triton that counts what it is asked, and can be away."""

    def __init__(self, name: str) -> None:
        self.name, self.asked, self.away = name, list[str](), False

    async def over_http(self, request: web.Request) -> web.Response:
        if self.away:
            return web.json_response({"error": "unavailable"}, status=503)
        self.asked.append(request.path)
        if request.path.endswith("/stats"):
            return web.json_response({"model_stats": [{"name": "ann.bdt", "at": self.name}]})
        missing = "missing" in request.path
        return web.json_response({"at": self.name}, status=400 if missing else 200)

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.over_http)
        return app


def test_replicas_share_what_is_scored_and_hear_all_else_over_http() -> None:
    async def story() -> None:
        port, tritons = free_port(), [Scores(host) for host in HOSTS]
        infer = "/v2/models/ann.bdt/infer"
        load = "/v2/repository/models/ann.bdt/load"
        async with (
            listening(tritons[0].application()) as here,
            listening(tritons[1].application()) as there,
            listening(
                HttpFront(GATE, here, await knowing_both(HOSTS[0]), port=port).application(),
                *(HOSTS[0], port),
            ) as front,
            listening(
                HttpFront(GATE, there, await knowing_both(HOSTS[1]), port=port).application(),
                *(HOSTS[1], port),
            ),
            aiohttp.ClientSession() as client,
        ):

            async def ask(method: str, path: str, token: str) -> tuple[int, dict[str, object]]:
                headers = {"Authorization": f"Bearer {token}"}
                async with client.request(method, f"{front}{path}", headers=headers) as answer:
                    return answer.status, await answer.json()

            for _ in range(20):
                assert (await ask("POST", infer, "ann"))[0] == 200
            assert [triton.asked for triton in tritons] == [[infer] * 10, [infer] * 10]
            _, told = await ask("GET", "/v2/models/ann.bdt/stats", "ann")
            found = told["model_stats"]
            assert isinstance(found, list)
            assert [one["at"] for one in found] == list(HOSTS)
            assert (await ask("POST", load, "operator"))[0] == 200
            assert all(triton.asked[-1] == load for triton in tritons)
            assert (await ask("POST", load, "ann"))[0] == 403
            assert all(triton.asked.count(load) == 1 for triton in tritons)
            tritons[1].away = True
            for _ in range(6):
                assert await ask("POST", infer, "ann") == (200, {"at": HOSTS[0]})
            assert (await ask("POST", load, "operator"))[0] == 503
            tritons[0].away = True
            assert (await ask("POST", infer, "ann"))[0] == 503

    asyncio.run(story())


class Counted(grpc.GenericRpcHandler):
    """A Triton that answers with its own name, or is away."""

    def __init__(self, name: str) -> None:
        self.name, self.asked, self.away = name, 0, False

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        async def call(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
            if self.away:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "away")
            self.asked += 1
            return Named(name=self.name).SerializeToString()

        return grpc.unary_unary_rpc_method_handler(call)


def test_replicas_share_what_is_scored_over_one_connection_of_grpc() -> None:
    async def story() -> None:
        async def start(handler: grpc.GenericRpcHandler, address: str) -> grpc.aio.Server:
            server = grpc.aio.server()
            server.add_generic_rpc_handlers((handler,))
            assert server.add_insecure_port(address)
            await server.start()
            return server

        port, tritons, servers, inner = free_port(), [], [], []
        for host in HOSTS:
            tritons.append(Counted(host))
            behind = free_port()
            servers.append(await start(tritons[-1], f"{host}:{behind}"))
            inner.append(grpc.aio.insecure_channel(f"{host}:{behind}"))
            front = GrpcFront(GATE, inner[-1], await knowing_both(host), port=port)
            servers.append(await start(front, f"{host}:{port}"))
        async with grpc.aio.insecure_channel(f"{HOSTS[0]}:{port}") as channel:
            request = Named(name="ann.bdt").SerializeToString()
            own = (("authorization", "Bearer ann"),)
            infer = channel.unary_unary(f"{SERVICE}ModelInfer")
            for _ in range(20):
                await infer(request, metadata=own)
            assert [triton.asked for triton in tritons] == [10, 10]
            both = await channel.unary_unary(f"{SERVICE}ModelStatistics")(request, metadata=own)
            assert both == b"".join(Named(name=host).SerializeToString() for host in HOSTS)
            with pytest.raises(grpc.aio.AioRpcError, match="no model of 'bob'"):
                await infer(request, metadata=(("authorization", "Bearer bob"),))
            tritons[0].away = True
            answers = {model_of(await infer(request, metadata=own)) for _ in range(6)}
            assert answers == {HOSTS[1]}
            tritons[1].away = True
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await infer(request, metadata=own)
            assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
        for channel in inner:
            await channel.close()
        for server in servers:
            await server.stop(None)

    asyncio.run(story())
