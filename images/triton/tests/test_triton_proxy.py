"""The reverse proxy of Triton: authorization, forwarding, limits, and balancing."""

import asyncio
import gzip
import socket
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import grpc
import pytest
from aiohttp import web
from coffea_shoppe_contract.claims import TRITON_ADMIN
from coffea_shoppe_identity import Identity, RefusedError
from coffea_shoppe_triton.access import SERVICE, Authorizer, DeniedError, grpc_target, http_target
from coffea_shoppe_triton.proxy import (
    LARGEST,
    SIZES,
    Capacities,
    GrpcProxy,
    HttpProxy,
    Named,
    model_of,
)
from coffea_shoppe_triton.replicas import Replicas


class Tokens:
    """A verifier to which a token's text is its user; the operator's is 'operator'."""

    def verify(self, token: str, *, audience: str | None = None) -> Identity:
        if (token == "operator") != (audience == TRITON_ADMIN):  # noqa: S105
            raise RefusedError("the token is for something else")
        if token == "expired":  # noqa: S105
            raise RefusedError("the token has expired")
        return Identity(token, "uid", (), 0.0)


AUTHORIZER = Authorizer(Tokens())  # type: ignore[arg-type]
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
def test_http_paths_are_authorized(path: str, token: str, good: bool) -> None:
    authorization = f"Bearer {token}" if token else ""
    if good:
        AUTHORIZER.authorize(http_target(path), authorization)
        return
    with pytest.raises((RefusedError, DeniedError)):
        AUTHORIZER.authorize(http_target(path), authorization)


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
def test_grpc_methods_are_authorized(method: str, model: str, token: str, good: bool) -> None:
    target = grpc_target(f"{SERVICE}{method}", lambda: model)
    authorization = f"Bearer {token}" if token else ""
    if good:
        AUTHORIZER.authorize(target, authorization)
        return
    with pytest.raises((RefusedError, DeniedError)):
        AUTHORIZER.authorize(target, authorization)


def test_the_model_of_a_grpc_request_is_its_first_field() -> None:
    request = Named(name="ann.bdt").SerializeToString() + b"\x12\x011" + b"\x3a\x03abc"
    assert model_of(request) == "ann.bdt"
    # As protobuf has it, the last one counts: for Triton, too.
    assert model_of(request + Named(name="bob.bdt").SerializeToString()) == "bob.bdt"
    with pytest.raises(DeniedError, match="not a message"):
        model_of(b"\x0a\xff")


def proxy_of(triton: str) -> web.Application:
    """Return the proxy of a Triton that has one replica."""
    return HttpProxy(AUTHORIZER, triton, Replicas(), port=0).application()


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


def test_http_is_forwarded_unchanged_without_the_token() -> None:
    received: list[tuple[str, str, bytes, str]] = []

    async def triton(request: web.Request) -> web.Response:
        body = await request.read()
        header_length = request.headers.get("Inference-Header-Content-Length", "")
        assert "Authorization" not in request.headers
        received.append((request.method, request.path_qs, body, header_length))
        return web.Response(body=body[::-1], status=202, headers={"X-Own": "yes"})

    async def story() -> None:
        upstream = web.Application()
        upstream.router.add_route("*", "/{path:.*}", triton)
        async with (
            listening(upstream) as upstream_address,
            listening(proxy_of(upstream_address)) as proxy,
            aiohttp.ClientSession() as client,
        ):
            url = f"{proxy}/v2/models/ann.bdt/infer?a=b"
            binary = bytes(range(256)) * 4096
            own = {"Authorization": "Bearer ann", "Inference-Header-Content-Length": "17"}
            async with client.post(url, data=binary, headers=own) as response:
                assert (response.status, response.headers["X-Own"]) == (202, "yes")
                assert await response.read() == binary[::-1]
            assert received == [("POST", "/v2/models/ann.bdt/infer?a=b", binary, "17")]
            for token, status in (("bob", 403), ("expired", 401)):
                headers = {"Authorization": f"Bearer {token}"}
                async with client.post(url, data=binary, headers=headers) as response:
                    assert response.status == status
                    assert (await response.json())["error"]
            too_large = b"x" * (LARGEST + 1)
            async with client.post(url, data=too_large, headers=own) as response:
                assert response.status == 413
            assert len(received) == 1
        async with (
            listening(proxy_of(upstream_address)) as proxy,
            aiohttp.ClientSession() as client,
            client.get(f"{proxy}/v2/health/ready") as response,
        ):
            assert response.status == 503
            assert "does not respond" in (await response.json())["error"]

    asyncio.run(story())


DEFLATED = zlib.compress(b"x" * 1000)


@pytest.mark.parametrize(
    ("coding", "sent"),
    [
        ("gzip", gzip.compress(b"x" * 1000)),
        ("GZIP", gzip.compress(b"x" * 1000)),
        ("deflate", DEFLATED),
        ("deflate", DEFLATED[2:-4]),  # as some clients have it: without zlib's header
        ("identity", b"x" * 1000),
        ("", b"x" * 1000),
    ],
    ids=["gzip", "in capitals", "deflate", "raw deflate", "identity", "plain"],
)
def test_a_compressed_request_is_decompressed_for_triton(coding: str, sent: bytes) -> None:
    received: list[tuple[bytes, dict[str, str]]] = []

    async def triton(request: web.Request) -> web.Response:
        received.append((await request.read(), dict(request.headers)))
        packed = request.headers.get("Accept-Encoding") == coding == "gzip"
        headers = {"Content-Encoding": "gzip"} if packed else {}
        return web.Response(body=gzip.compress(b"yes") if packed else b"yes", headers=headers)

    async def story() -> None:
        upstream = web.Application()
        upstream.router.add_route("*", "/{path:.*}", triton)
        async with (
            listening(upstream) as upstream_address,
            listening(proxy_of(upstream_address)) as proxy,
            aiohttp.ClientSession(skip_auto_headers=["Accept-Encoding"]) as client,
        ):
            url = f"{proxy}/v2/models/ann.bdt/infer"
            own = {"authorization": "Bearer ann"}
            own |= {"Content-Encoding": coding} if coding else {}
            for accepted in ({}, {"Accept-Encoding": coding} if coding else {}):
                async with client.post(url, data=sent, headers={**own, **accepted}) as response:
                    assert (response.status, await response.read()) == (200, b"yes")
                body, headers = received.pop()
                assert body == b"x" * 1000
                names = {name.lower() for name in headers}
                assert not names & {"content-encoding", "authorization"}
                assert ("accept-encoding" in names) == bool(accepted)

    asyncio.run(story())


@pytest.mark.parametrize(
    ("coding", "sent", "status"),
    [
        ("gzip", gzip.compress(b"0" * (LARGEST + 1), 1), 413),
        ("deflate", zlib.compress(b"0" * (LARGEST + 1), 1), 413),
        ("gzip", b"this is not gzip", 400),
        ("deflate", b"\x78\x9cthis is not deflate", 400),
        ("gzip, gzip", gzip.compress(gzip.compress(b"x")), 415),
        ("br", b"x", 400),
        ("zstd", b"x", 400),
    ],
    ids=["bomb", "bomb of deflate", "no gzip", "no deflate", "twice", "brotli", "zstandard"],
)
def test_an_invalid_compressed_body_is_refused(coding: str, sent: bytes, status: int) -> None:
    async def triton(request: web.Request) -> web.Response:
        pytest.fail("Triton received it")

    async def story() -> None:
        upstream = web.Application()
        upstream.router.add_route("*", "/{path:.*}", triton)
        async with (
            listening(upstream) as upstream_address,
            listening(proxy_of(upstream_address)) as proxy,
            aiohttp.ClientSession() as client,
        ):
            url = f"{proxy}/v2/models/ann.bdt/infer"
            own = {"Authorization": "Bearer ann", "Content-Encoding": coding}
            async with client.post(url, data=sent, headers=own) as response:
                assert response.status == status

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


def test_grpc_is_forwarded_unchanged_without_the_token() -> None:
    async def story() -> None:
        async def start(handler: grpc.GenericRpcHandler) -> tuple[grpc.aio.Server, str]:
            server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
            server.add_generic_rpc_handlers((handler,))
            port = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            return server, f"127.0.0.1:{port}"

        unlimited = [("grpc.max_receive_message_length", -1)]
        upstream_address, address = await start(Echo())
        inner = grpc.aio.insecure_channel(address, options=unlimited)
        proxy, address = await start(GrpcProxy(AUTHORIZER, inner, Replicas(), port=0))
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
        await proxy.stop(None)
        await inner.close()
        await upstream_address.stop(None)

    asyncio.run(story())


def test_slow_requests_of_one_user_do_not_block_another() -> None:
    """Ann announces more than her capacity, and sends nothing; Bob gets his response at once."""

    async def triton(request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    async def slow(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(host, port)
        head = "POST /v2/models/ann.bdt/infer HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ann\r\n"
        writer.write(f"{head}Content-Length: {LARGEST}\r\n\r\nx".encode())
        await writer.drain()
        return reader, writer

    async def story() -> None:
        upstream = web.Application(client_max_size=LARGEST)
        upstream.router.add_route("*", "/{path:.*}", triton)
        capacities = Capacities(wait_s=1)
        async with (
            listening(upstream) as upstream_address,
            listening(
                HttpProxy(
                    AUTHORIZER, upstream_address, Replicas(), port=0, capacities=capacities
                ).application()
            ) as proxy,
            aiohttp.ClientSession() as client,
        ):
            host, port = proxy.removeprefix("http://").split(":")
            slows = [await slow(host, int(port)) for _ in range(4)]
            # Two of Ann's requests are read; the other two are refused as busy.
            for reader, _ in slows[2:]:
                assert b"503" in await asyncio.wait_for(reader.readline(), 10)
            own = {"Authorization": "Bearer bob"}
            url = f"{proxy}/v2/models/bob.bdt/infer"
            for size in (10, LARGEST - 10):
                async with client.post(url, data=b"x" * size, headers=own) as response:
                    assert (response.status, len(await response.read())) == (200, size)
            for _, writer in slows:
                writer.close()

    asyncio.run(story())


def test_grpc_messages_of_unauthorized_senders_are_not_read() -> None:
    async def story() -> None:
        server = grpc.aio.server(options=SIZES)
        inner = grpc.aio.insecure_channel("127.0.0.1:1")
        capacities = Capacities(wait_s=1)
        server.add_generic_rpc_handlers(
            (GrpcProxy(AUTHORIZER, inner, Replicas(), port=0, capacities=capacities),)
        )
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            # The stream sends no message: reading it would block.
            for token, code in (
                ("expired", grpc.StatusCode.UNAUTHENTICATED),
                ("ann", grpc.StatusCode.PERMISSION_DENIED),
            ):
                method = "ModelInfer" if token == "expired" else "RepositoryModelLoad"  # noqa: S105
                call = channel.stream_stream(f"{SERVICE}{method}")(
                    metadata=(("authorization", f"Bearer {token}"),), timeout=20
                )
                assert await call.code() == code
            # A compression bomb is refused by its decompressed size.
            packed = channel.unary_unary(f"{SERVICE}ModelInfer")
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await packed(
                    b"\0" * (LARGEST + 1),
                    metadata=(("authorization", "Bearer ann"),),
                    compression=grpc.Compression.Gzip,
                )
            assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            # The client may know before the server's handler has ended.
            async with asyncio.timeout(10):
                while capacities.requests.reserved:
                    await asyncio.sleep(0.01)
        await server.stop(None)
        await inner.close()

    asyncio.run(story())


HOSTS = ("127.0.0.1", "127.0.0.2")
"""Addresses of two replicas; the client connects to the first."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOSTS[0], 0))
        return int(probe.getsockname()[1])


async def both_replicas(own: str) -> Replicas:
    async def lookup(_: str) -> set[str]:
        return set(HOSTS)

    replicas = Replicas("triton-replicas", own, lookup=lookup)
    await replicas.refresh()
    return replicas


class RecordingTriton:
    """A Triton that records the paths of its requests, and can be unavailable."""

    def __init__(self, name: str) -> None:
        self.name, self.requests, self.unavailable = name, list[str](), False

    async def over_http(self, request: web.Request) -> web.Response:
        if self.unavailable:
            return web.json_response({"error": "unavailable"}, status=503)
        self.requests.append(request.path)
        if request.path.endswith("/stats"):
            return web.json_response({"model_stats": [{"name": "ann.bdt", "at": self.name}]})
        missing = "missing" in request.path
        return web.json_response({"at": self.name}, status=400 if missing else 200)

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.over_http)
        return app


def test_http_scoring_is_balanced_and_loading_goes_to_all_replicas() -> None:
    async def story() -> None:
        port, tritons = free_port(), [RecordingTriton(host) for host in HOSTS]
        infer = "/v2/models/ann.bdt/infer"
        load = "/v2/repository/models/ann.bdt/load"
        async with (
            listening(tritons[0].application()) as here,
            listening(tritons[1].application()) as there,
            listening(
                HttpProxy(AUTHORIZER, here, await both_replicas(HOSTS[0]), port=port).application(),
                *(HOSTS[0], port),
            ) as proxy,
            listening(
                HttpProxy(
                    AUTHORIZER, there, await both_replicas(HOSTS[1]), port=port
                ).application(),
                *(HOSTS[1], port),
            ),
            aiohttp.ClientSession() as client,
        ):

            async def send(method: str, path: str, token: str) -> tuple[int, dict[str, object]]:
                headers = {"Authorization": f"Bearer {token}"}
                async with client.request(method, f"{proxy}{path}", headers=headers) as response:
                    return response.status, await response.json()

            for _ in range(20):
                assert (await send("POST", infer, "ann"))[0] == 200
            assert [triton.requests for triton in tritons] == [[infer] * 10, [infer] * 10]
            _, statistics = await send("GET", "/v2/models/ann.bdt/stats", "ann")
            models = statistics["model_stats"]
            assert isinstance(models, list)
            assert [model["at"] for model in models] == list(HOSTS)
            assert (await send("POST", load, "operator"))[0] == 200
            assert all(triton.requests[-1] == load for triton in tritons)
            assert (await send("POST", load, "ann"))[0] == 403
            assert all(triton.requests.count(load) == 1 for triton in tritons)
            tritons[1].unavailable = True
            for _ in range(6):
                assert await send("POST", infer, "ann") == (200, {"at": HOSTS[0]})
            assert (await send("POST", load, "operator"))[0] == 503
            tritons[0].unavailable = True
            assert (await send("POST", infer, "ann"))[0] == 503

    asyncio.run(story())


class CountingTriton(grpc.GenericRpcHandler):
    """A Triton that counts its requests, responds with its name, and can be unavailable."""

    def __init__(self, name: str) -> None:
        self.name, self.requests, self.unavailable = name, 0, False

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        async def call(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
            if self.unavailable:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "unavailable")
            self.requests += 1
            return Named(name=self.name).SerializeToString()

        return grpc.unary_unary_rpc_method_handler(call)


def test_grpc_scoring_over_one_connection_is_balanced() -> None:
    async def story() -> None:
        async def start(handler: grpc.GenericRpcHandler, address: str) -> grpc.aio.Server:
            server = grpc.aio.server()
            server.add_generic_rpc_handlers((handler,))
            assert server.add_insecure_port(address)
            await server.start()
            return server

        port, tritons, servers, inner = free_port(), [], [], []
        for host in HOSTS:
            tritons.append(CountingTriton(host))
            upstream_address = free_port()
            servers.append(await start(tritons[-1], f"{host}:{upstream_address}"))
            inner.append(grpc.aio.insecure_channel(f"{host}:{upstream_address}"))
            proxy = GrpcProxy(AUTHORIZER, inner[-1], await both_replicas(host), port=port)
            servers.append(await start(proxy, f"{host}:{port}"))
        async with grpc.aio.insecure_channel(f"{HOSTS[0]}:{port}") as channel:
            request = Named(name="ann.bdt").SerializeToString()
            own = (("authorization", "Bearer ann"),)
            infer = channel.unary_unary(f"{SERVICE}ModelInfer")
            for _ in range(20):
                await infer(request, metadata=own)
            assert [triton.requests for triton in tritons] == [10, 10]
            both = await channel.unary_unary(f"{SERVICE}ModelStatistics")(request, metadata=own)
            assert both == b"".join(Named(name=host).SerializeToString() for host in HOSTS)
            with pytest.raises(grpc.aio.AioRpcError, match="not a model of 'bob'"):
                await infer(request, metadata=(("authorization", "Bearer bob"),))
            tritons[0].unavailable = True
            responses = {model_of(await infer(request, metadata=own)) for _ in range(6)}
            assert responses == {HOSTS[1]}
            tritons[1].unavailable = True
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await infer(request, metadata=own)
            assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
        for channel in inner:
            await channel.close()
        for server in servers:
            await server.stop(None)

    asyncio.run(story())
