"""The front of Triton, over HTTP and gRPC: it asks for a token, and Triton for nothing.

Triton tells users not apart; it listens for this front alone, in the same pod.  Bodies
pass through as they are.
"""

import argparse
import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import grpc
from aiohttp import web
from coffea_shoppe_identity import Published, RefusedError, Verifier
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message
from prometheus_client import Counter, start_http_server

from coffea_shoppe_triton.access import Asked, DeniedError, Gate, over_grpc, over_http

LOG = logging.getLogger(__name__)
GRACE_S = 20
"""Requests in flight have so long when the pod is to end."""
HOP_BY_HOP = {"connection", "content-length", "host", "keep-alive", "transfer-encoding"}
LARGEST = 128 * 2**20
"""Bytes of a request; the front holds it whole."""
SIZES = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", LARGEST)]

REQUESTS = Counter(
    "shoppe_triton_requests",
    "Requests that Triton answered, by user, model and protocol.",
    ["user", "model", "protocol"],
)
REFUSALS = Counter("shoppe_triton_refusals", "Requests that were not let through.", ["protocol"])


def _named() -> type[Message]:
    """Return a message of which only the first field is read: the model's name.

    It is the first field of every request that is about a model.
    """
    file = descriptor_pb2.FileDescriptorProto(name="shoppe/named.proto", package="shoppe")
    field = file.message_type.add(name="Named").field.add(name="name", number=1)
    field.type = descriptor_pb2.FieldDescriptorProto.TYPE_STRING
    field.label = descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("shoppe.Named"))


Named = _named()


def model_of(request: bytes) -> str:
    """Return the model's name in a gRPC request; raises `DeniedError` where it is garbled."""
    try:
        return str(Named.FromString(request).name)  # type: ignore[attr-defined]
    except DecodeError as error:
        raise DeniedError("the request cannot be read") from error


def _admit(gate: Gate, asked: Asked, authorization: str, protocol: str) -> str:
    try:
        user = gate.admit(asked, authorization)
    except (RefusedError, DeniedError) as error:
        REFUSALS.labels(protocol).inc()
        LOG.warning("%s refused: %s", protocol, error)
        raise
    return user


def _count(user: str, asked: Asked, protocol: str) -> None:
    # Names that Triton does not know would make metrics without end.
    if asked.model:
        REQUESTS.labels(user, asked.model, protocol).inc()


def http_application(gate: Gate, triton: str) -> web.Application:
    """Return the front over HTTP; `triton` is Triton's address."""
    session = web.AppKey("session", aiohttp.ClientSession)

    async def handle(request: web.Request) -> web.StreamResponse:
        # The path as it is sent on: what is encoded must not be read in two ways.
        asked = over_http(request.rel_url.raw_path)
        try:
            user = _admit(gate, asked, request.headers.get("Authorization", ""), "http")
        except RefusedError as error:
            headers = {"WWW-Authenticate": "Bearer"}
            return web.json_response({"error": str(error)}, status=401, headers=headers)
        except DeniedError as error:
            return web.json_response({"error": str(error)}, status=403)
        kept = {k: v for k, v in request.headers.items() if k.lower() not in HOP_BY_HOP}
        kept.pop("Authorization", None)
        try:
            async with request.app[session].request(
                request.method,
                f"{triton}{request.rel_url.raw_path}",
                params=request.rel_url.query,
                headers=kept,
                data=await request.read() if request.can_read_body else None,
            ) as answer:
                if answer.ok:
                    _count(user, asked, "http")
                passed = {k: v for k, v in answer.headers.items() if k.lower() not in HOP_BY_HOP}
                return web.Response(body=await answer.read(), status=answer.status, headers=passed)
        except aiohttp.ClientError as error:
            told = {"error": f"Triton does not answer: {error}"}
            return web.json_response(told, status=503, headers={"Retry-After": "5"})

    async def client(app: web.Application) -> Any:
        # No limit to the time of a load: who asks has one.
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
        async with aiohttp.ClientSession(
            timeout=timeout, auto_decompress=False, connector=aiohttp.TCPConnector(limit=0)
        ) as app[session]:
            yield

    app = web.Application(client_max_size=LARGEST)
    app.cleanup_ctx.append(client)
    app.router.add_route("*", "/{path:.*}", handle)
    return app


class GrpcFront(grpc.GenericRpcHandler):
    """Passes each call on to the same method of Triton."""

    def __init__(self, gate: Gate, channel: grpc.aio.Channel) -> None:
        self.gate, self.channel = gate, channel

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """Return what answers a call of a method."""
        method = details.method

        async def call(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
            sent = dict(context.invocation_metadata() or ())
            try:
                asked = over_grpc(method, lambda: model_of(request))
                user = _admit(self.gate, asked, str(sent.get("authorization", "")), "grpc")
            except RefusedError as error:
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(error))
            except DeniedError as error:
                await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))
            passed: Callable[..., Awaitable[bytes]] = self.channel.unary_unary(method)
            try:
                answer = await passed(request, timeout=context.time_remaining())
            except grpc.aio.AioRpcError as error:
                await context.abort(error.code(), error.details() or "")
                raise
            _count(user, asked, "grpc")
            return answer

        return grpc.unary_unary_rpc_method_handler(call)


async def serve(gate: Gate, *, http: int, grpc_port: int, triton: str, triton_grpc: str) -> None:
    """Serve both protocols until the process is told to end."""
    ending = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, ending.set)
    runner = web.AppRunner(
        http_application(gate, triton), access_log=None, shutdown_timeout=GRACE_S
    )
    await runner.setup()
    await web.TCPSite(runner, port=http).start()
    async with grpc.aio.insecure_channel(triton_grpc, options=SIZES) as channel:
        server = grpc.aio.server(options=SIZES)
        server.add_generic_rpc_handlers((GrpcFront(gate, channel),))
        server.add_insecure_port(f"[::]:{grpc_port}")
        await server.start()
        LOG.info("serving HTTP at %d and gRPC at %d", http, grpc_port)
        await ending.wait()
        await asyncio.gather(server.stop(GRACE_S), runner.cleanup())


def main() -> None:
    """Serve until the pod ends."""
    parser = argparse.ArgumentParser(description="The front of a facility's Triton.")
    parser.add_argument("--api", required=True, help="address of the facility API")
    parser.add_argument("--issuer", required=True, help="the facility's name in its tokens")
    parser.add_argument("--http-port", type=int, default=8000)
    parser.add_argument("--grpc-port", type=int, default=8001)
    parser.add_argument("--metrics-port", type=int, default=9090)
    parser.add_argument("--triton", default="http://127.0.0.1:8500")
    parser.add_argument("--triton-grpc", default="127.0.0.1:8501")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    verifier = Verifier(Published(options.api), issuer=options.issuer, audience="triton")
    verifier.start()
    start_http_server(options.metrics_port)
    asyncio.run(
        serve(
            Gate(verifier),
            http=options.http_port,
            grpc_port=options.grpc_port,
            triton=options.triton,
            triton_grpc=options.triton_grpc,
        )
    )


if __name__ == "__main__":
    main()
