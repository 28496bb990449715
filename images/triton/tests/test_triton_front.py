"""Whose model a request is for decides whether Triton hears of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import grpc
import pytest
from aiohttp import web
from coffea_shoppe_contract import identity
from coffea_shoppe_identity import Identity, RefusedError
from coffea_shoppe_triton.access import SERVICE, DeniedError, Gate, over_grpc, over_http
from coffea_shoppe_triton.front import LARGEST, GrpcFront, Named, http_application, model_of


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


@asynccontextmanager
async def listening(application: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    yield f"http://127.0.0.1:{port}"
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
            listening(http_application(GATE, behind)) as front,
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
            listening(http_application(GATE, behind)) as front,
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
        front, address = await start(GrpcFront(GATE, inner))
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
