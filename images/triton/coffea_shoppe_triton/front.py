"""The front of Triton, over HTTP and gRPC: it asks for a token, and Triton for nothing.

Triton tells users not apart; it listens for this front alone, in the same pod.  Bodies
pass through as they are.  The fronts of all replicas are one Triton to who asks: scoring
is shared among them, and loading a model, or asking for its state, is for all of them.
"""

import argparse
import asyncio
import json
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any

import aiohttp
import grpc
from aiohttp import web
from coffea_shoppe_identity import Published, RefusedError, Verifier
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message
from prometheus_client import Counter, start_http_server

from coffea_shoppe_triton.access import Asked, DeniedError, Gate, over_grpc, over_http
from coffea_shoppe_triton.replicas import FORWARDED, Replica, Replicas

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


@dataclass(frozen=True)
class _Answer:
    """What a replica answered over HTTP."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def good(self) -> bool:
        return self.status < HTTPStatus.BAD_REQUEST


def _together(asked: Asked, path: str, answers: Sequence[_Answer]) -> _Answer:
    """Return the answer of all replicas: the first that is bad, or their statistics in a row."""
    for answer in answers:
        if not answer.good:
            return answer
    first = answers[0]
    if len(answers) == 1 or not path.endswith("/stats"):
        return first
    found = [one for answer in answers for one in json.loads(answer.body)["model_stats"]]
    return _Answer(first.status, first.headers, json.dumps({"model_stats": found}).encode())


class HttpFront:
    """Passes each request on to one replica of Triton, or to all."""

    def __init__(self, gate: Gate, triton: str, replicas: Replicas, *, port: int) -> None:
        self.gate, self.triton, self.replicas, self.port = gate, triton, replicas, port
        self.session: aiohttp.ClientSession

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a request."""
        # The path as it is sent on: what is encoded must not be read in two ways.
        path = request.rel_url.raw_path
        asked = over_http(path)
        try:
            user = _admit(self.gate, asked, request.headers.get("Authorization", ""), "http")
        except RefusedError as error:
            headers = {"WWW-Authenticate": "Bearer"}
            return web.json_response({"error": str(error)}, status=401, headers=headers)
        except DeniedError as error:
            return web.json_response({"error": str(error)}, status=403)
        body = await request.read() if request.can_read_body else None
        forwarded = FORWARDED in request.headers
        try:
            if asked.whither == "all" and not forwarded:
                every = self.replicas.all()
                answers = await asyncio.gather(*(self._ask(one, request, body) for one in every))
                answer = _together(asked, path, answers)
            elif asked.whither == "one" and not forwarded:
                answer = await self._ask_one(request, body)
            else:
                answer = await self._ask(self.replicas.here, request, body)
        except aiohttp.ClientError as error:
            told = {"error": f"Triton does not answer: {error}"}
            return web.json_response(told, status=503, headers={"Retry-After": "5"})
        if answer.good and not forwarded:
            _count(user, asked, "http")
        return web.Response(body=answer.body, status=answer.status, headers=answer.headers)

    async def _ask_one(self, request: web.Request, body: bytes | None) -> _Answer:
        """Ask one replica, and another one where that is away: scoring twice does no harm."""
        found: _Answer | aiohttp.ClientError = aiohttp.ClientError("there is no replica")
        for replica in self.replicas.tries():
            try:
                found = await self._ask(replica, request, body)
            except aiohttp.ClientError as error:
                found = error
            else:
                if found.status != HTTPStatus.SERVICE_UNAVAILABLE:
                    return found
        if isinstance(found, aiohttp.ClientError):
            raise found
        return found

    async def _ask(self, replica: Replica, request: web.Request, body: bytes | None) -> _Answer:
        kept = {k: v for k, v in request.headers.items() if k.lower() not in HOP_BY_HOP}
        if replica.host:
            base = f"http://{replica.host}:{self.port}"
            kept[FORWARDED] = "1"
        else:
            base = self.triton
            for name in ("Authorization", FORWARDED):
                kept.pop(name, None)
        with self.replicas.asking(replica):
            async with self.session.request(
                request.method,
                f"{base}{request.rel_url.raw_path}",
                params=request.rel_url.query,
                headers=kept,
                data=body,
            ) as answer:
                passed = {k: v for k, v in answer.headers.items() if k.lower() not in HOP_BY_HOP}
                return _Answer(answer.status, passed, await answer.read())

    def application(self) -> web.Application:
        """Return the application that serves this."""

        async def client(_: web.Application) -> Any:
            # No limit to the time of a load: who asks has one.
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
            async with aiohttp.ClientSession(
                timeout=timeout, auto_decompress=False, connector=aiohttp.TCPConnector(limit=0)
            ) as self.session:
                yield

        app = web.Application(client_max_size=LARGEST)
        app.cleanup_ctx.append(client)
        app.router.add_route("*", "/{path:.*}", self.handle)
        return app


def _together_grpc(method: str, answers: Sequence[bytes]) -> bytes:
    """Return the answer of all replicas.

    Messages in a row are one with all entries of both; a model that is not ready
    somewhere is an empty message, for false is not written.
    """
    if method.endswith("ModelStatistics"):
        return b"".join(answers)
    return min(answers, key=len)


class GrpcFront(grpc.GenericRpcHandler):
    """Passes each call on to the same method of one replica of Triton, or of all."""

    def __init__(
        self, gate: Gate, channel: grpc.aio.Channel, replicas: Replicas, *, port: int
    ) -> None:
        self.gate, self.channel, self.replicas, self.port = gate, channel, replicas, port
        self._channels: dict[str, grpc.aio.Channel] = {}

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """Return what answers a call of a method."""
        method = details.method

        async def call(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
            sent = dict(context.invocation_metadata() or ())
            authorization = str(sent.get("authorization", ""))
            try:
                asked = over_grpc(method, lambda: model_of(request))
                user = _admit(self.gate, asked, authorization, "grpc")
            except RefusedError as error:
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(error))
            except DeniedError as error:
                await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))
            forwarded = FORWARDED in sent
            ask = partial(self._ask, method, request, authorization, context.time_remaining)
            try:
                if asked.whither == "all" and not forwarded:
                    every = self.replicas.all()
                    answer = _together_grpc(method, await asyncio.gather(*map(ask, every)))
                elif asked.whither == "one" and not forwarded:
                    answer = await self._ask_one(ask)
                else:
                    answer = await ask(self.replicas.here)
            except grpc.aio.AioRpcError as error:
                await context.abort(error.code(), error.details() or "")
                raise
            if not forwarded:
                _count(user, asked, "grpc")
            return answer

        return grpc.unary_unary_rpc_method_handler(call)

    async def _ask_one(self, ask: Callable[[Replica], Awaitable[bytes]]) -> bytes:
        """Ask one replica, and another one where that is away: scoring twice does no harm."""
        problem: grpc.aio.AioRpcError
        for replica in self.replicas.tries():
            try:
                return await ask(replica)
            except grpc.aio.AioRpcError as error:
                problem = error
                if error.code() != grpc.StatusCode.UNAVAILABLE:
                    break
        raise problem

    async def _ask(
        self,
        method: str,
        request: bytes,
        authorization: str,
        remaining: Callable[[], float | None],
        replica: Replica,
    ) -> bytes:
        passed: Callable[..., Awaitable[bytes]] = self.channel.unary_unary(method)
        own: tuple[tuple[str, str], ...] = ()
        if replica.host:
            passed = self._channel(replica.host).unary_unary(method)
            own = (("authorization", authorization), (FORWARDED, "1"))
        with self.replicas.asking(replica):
            return await passed(request, timeout=remaining(), metadata=own)

    def _channel(self, host: str) -> grpc.aio.Channel:
        """Return the connection to another replica's front; those to gone ones are dropped."""
        for gone in self._channels.keys() - self.replicas.others.keys() - {host}:
            # What is in flight there ends by itself.
            self._closing = asyncio.ensure_future(self._channels.pop(gone).close(GRACE_S))
        if host not in self._channels:
            target = f"{host}:{self.port}"
            self._channels[host] = grpc.aio.insecure_channel(target, options=SIZES)
        return self._channels[host]


async def serve(
    gate: Gate, replicas: Replicas, *, http: int, grpc_port: int, triton: str, triton_grpc: str
) -> None:
    """Serve both protocols until the process is told to end."""
    ending = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, ending.set)
    watching = asyncio.create_task(replicas.watch())
    front = HttpFront(gate, triton, replicas, port=http)
    runner = web.AppRunner(front.application(), access_log=None, shutdown_timeout=GRACE_S)
    await runner.setup()
    await web.TCPSite(runner, port=http).start()
    async with grpc.aio.insecure_channel(triton_grpc, options=SIZES) as channel:
        server = grpc.aio.server(options=SIZES)
        server.add_generic_rpc_handlers((GrpcFront(gate, channel, replicas, port=grpc_port),))
        server.add_insecure_port(f"[::]:{grpc_port}")
        await server.start()
        LOG.info("serving HTTP at %d and gRPC at %d", http, grpc_port)
        await ending.wait()
        await asyncio.gather(server.stop(GRACE_S), runner.cleanup())
    watching.cancel()


def main() -> None:
    """Serve until the pod ends."""
    parser = argparse.ArgumentParser(description="The front of a facility's Triton.")
    parser.add_argument("--api", required=True, help="address of the facility API")
    parser.add_argument("--issuer", required=True, help="the facility's name in its tokens")
    parser.add_argument("--http-port", type=int, default=8000)
    parser.add_argument("--grpc-port", type=int, default=8001)
    parser.add_argument("--metrics-port", type=int, default=9090)
    parser.add_argument("--replicas", default="", help="headless Service of all replicas")
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
            Replicas(options.replicas, os.environ.get("POD_IP", "")),
            http=options.http_port,
            grpc_port=options.grpc_port,
            triton=options.triton,
            triton_grpc=options.triton_grpc,
        )
    )


if __name__ == "__main__":
    main()
