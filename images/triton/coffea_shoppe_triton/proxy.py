"""Authenticating reverse proxy of Triton, for HTTP and gRPC.

Triton itself has no authentication, and listens on localhost only, in the same pod.
Bodies are forwarded unchanged.  The proxies of all replicas appear as one Triton: each
scoring request goes to one replica; loading a model and reading its state go to all.
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
from coffea_shoppe_contract.listening import every_address
from coffea_shoppe_identity import Published, RefusedError, Verifier
from coffea_shoppe_identity.capacity import WAIT_S, BusyError, Capacity, Reservation
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message
from prometheus_client import Counter, start_http_server

from coffea_shoppe_triton.access import Authorizer, DeniedError, Target, grpc_target, http_target
from coffea_shoppe_triton.replicas import FORWARDED, Replica, Replicas

LOG = logging.getLogger(__name__)
GRACE_S = 20
"""Seconds for requests in flight when the pod terminates."""
HOP_BY_HOP = {"connection", "content-length", "host", "keep-alive", "transfer-encoding"}
COMPRESSED = {"gzip", "deflate"}
ACCEPTED_CODINGS = {"", "identity", *COMPRESSED}
"""Accepted codings of a request's body; aiohttp decompresses the last two as it reads."""
LARGEST = 128 * 2**20
"""Maximum bytes of a request, and of a response; the proxy buffers each in memory."""
TOTAL_BYTES, USER_BYTES = 3 * LARGEST, 2 * LARGEST
"""Maximum bytes of all requests that the proxy buffers, and of those of one user; the same
numbers apply to responses."""
TRANSFER_S = 60
"""Time limit of receiving a request's body, and of sending a response's."""
MAX_EXPANSION = 1100
"""Maximum bytes to which one byte of gzip or deflate expands."""
SIZES = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", LARGEST)]

REQUESTS = Counter(
    "shoppe_triton_requests",
    "Requests to which Triton responded, by user, model and protocol.",
    ["user", "model", "protocol"],
)
REFUSALS = Counter("shoppe_triton_refusals", "Requests that were refused.", ["protocol"])


def _named() -> type[Message]:
    """Return the class of a message with one field, the model's name.

    That is the first field of each of Triton's requests about a model; the others are unknown
    fields to this class, and stay as they are.
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
    """Return the model's name in a gRPC request; raises `DeniedError` if it is not a message."""
    try:
        return str(Named.FromString(request).name)  # type: ignore[attr-defined]
    except DecodeError as error:
        raise DeniedError("the request is not a message of Triton's protocol") from error


def _authorize(authorizer: Authorizer, target: Target, authorization: str, protocol: str) -> str:
    try:
        user = authorizer.authorize(target, authorization)
    except (RefusedError, DeniedError) as error:
        REFUSALS.labels(protocol).inc()
        LOG.warning("%s refused: %s", protocol, error)
        raise
    return user


def _count(user: str, target: Target, protocol: str) -> None:
    # Only called for requests with a response: metrics of unknown names would be unlimited.
    if target.model:
        REQUESTS.labels(user, target.model, protocol).inc()


@dataclass(frozen=True)
class _ReplicaResponse:
    """The response of a replica over HTTP."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        return self.status < HTTPStatus.BAD_REQUEST


class TooLargeError(Exception):
    """A request or a response is larger than `LARGEST`; the text says which."""


def _error_response(problem: str, status: int) -> web.Response:
    headers = {"Retry-After": "5"} if status == HTTPStatus.SERVICE_UNAVAILABLE else None
    return web.json_response({"error": problem}, status=status, headers=headers)


async def _body(
    request: web.Request, incoming: Reservation, *, compressed: bool
) -> bytearray | None:
    """Return a request's body; its capacity is reserved before the read.

    Raises `BusyError`, `TooLargeError`, `TimeoutError` and `web.RequestPayloadError`.
    """
    if not request.can_read_body or request.method == "GET":
        return None
    length, too_large = request.content_length, f"a request may have at most {LARGEST // 2**20} MiB"
    bound = LARGEST
    if length is not None:
        if length > LARGEST:
            raise TooLargeError(too_large)
        bound = min(LARGEST, length * (MAX_EXPANSION if compressed else 1))
    await incoming.add(bound)
    body = bytearray()
    async with asyncio.timeout(TRANSFER_S):
        async for part in request.content.iter_any():
            body += part
            if len(body) > LARGEST:
                raise TooLargeError(too_large)
    await incoming.shrink_to(len(body))
    return body


def merge_responses(path: str, responses: Sequence[_ReplicaResponse]) -> _ReplicaResponse:
    """Merge the responses of all replicas: the first error, else the concatenated statistics."""
    for response in responses:
        if not response.ok:
            return response
    first = responses[0]
    if len(responses) == 1 or not path.endswith("/stats"):
        return first
    entries = [
        entry for response in responses for entry in json.loads(response.body)["model_stats"]
    ]
    return _ReplicaResponse(
        first.status, first.headers, json.dumps({"model_stats": entries}).encode()
    )


class Capacities:
    """The capacities of the proxy for requests and for responses.

    With a single one, two requests could wait for each other: each has reserved its body and
    needs capacity for its response.
    """

    def __init__(self, *, wait_s: float = WAIT_S) -> None:
        self.requests = Capacity(TOTAL_BYTES, USER_BYTES, wait_s=wait_s)
        self.responses = Capacity(TOTAL_BYTES, USER_BYTES, wait_s=wait_s)


class HttpProxy:
    """Forwards each request to one replica of Triton, or to all."""

    def __init__(
        self,
        authorizer: Authorizer,
        triton: str,
        replicas: Replicas,
        *,
        port: int,
        capacities: Capacities | None = None,
    ) -> None:
        self.authorizer, self.triton, self.replicas, self.port = authorizer, triton, replicas, port
        self.capacities = capacities or Capacities()
        self.session: aiohttp.ClientSession

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Return the response to a request."""
        # The encoded path, as it is forwarded: Triton must not read another path than was
        # authorized.
        path = request.rel_url.raw_path
        target = http_target(path)
        try:
            user = _authorize(
                self.authorizer, target, request.headers.get("Authorization", ""), "http"
            )
        except RefusedError as error:
            headers = {"WWW-Authenticate": "Bearer"}
            return web.json_response({"error": str(error)}, status=401, headers=headers)
        except DeniedError as error:
            return web.json_response({"error": str(error)}, status=403)
        coding = ", ".join(request.headers.getall("Content-Encoding", []))
        if coding.lower() not in ACCEPTED_CODINGS:
            return _error_response(
                f"a body may be plain, gzip or deflate, not {coding[:50]!r}", 415
            )
        sender = user or "anybody"
        async with (
            self.capacities.requests.reservation(sender) as incoming,
            self.capacities.responses.reservation(sender) as outgoing,
        ):
            try:
                body = await _body(request, incoming, compressed=coding.lower() in COMPRESSED)
                result = await self._route(target, request, body, outgoing)
            except BusyError as error:
                return _error_response(str(error), 503)
            except TooLargeError as error:
                return _error_response(str(error), 413)
            except web.RequestPayloadError:
                return _error_response(
                    f"the body is not what its Content-Encoding says: {coding or 'plain'}", 400
                )
            except aiohttp.ClientError as error:  # before TimeoutError: some are both
                return _error_response(f"Triton does not respond: {error}", 503)
            except TimeoutError:
                return _error_response(f"the body did not arrive within {TRANSFER_S} s", 408)
            del body
            await incoming.shrink_to(0)
            if result.ok and FORWARDED not in request.headers:
                _count(user, target, "http")
            response = web.Response(body=result.body, status=result.status, headers=result.headers)
            # The capacity is released once the client has received the response.
            async with asyncio.timeout(TRANSFER_S):
                await response.prepare(request)
                await response.write_eof()
        return response

    async def _route(
        self, target: Target, request: web.Request, body: bytearray | None, outgoing: Reservation
    ) -> _ReplicaResponse:
        """Return the response of one replica, or of all."""
        forwarded = FORWARDED in request.headers
        if target.routing == "all" and not forwarded:
            responses = await asyncio.gather(
                *(
                    self._send(replica, request, body, outgoing, plain=True)
                    for replica in self.replicas.all()
                )
            )
            return merge_responses(request.rel_url.raw_path, responses)
        if target.routing == "any" and not forwarded:
            return await self._send_to_any(request, body, outgoing)
        return await self._send(self.replicas.here, request, body, outgoing)

    async def _send_to_any(
        self, request: web.Request, body: bytearray | None, outgoing: Reservation
    ) -> _ReplicaResponse:
        """Send to one replica, and to the next one if it is unavailable: scoring is idempotent."""
        last: _ReplicaResponse | aiohttp.ClientError = aiohttp.ClientError("there is no replica")
        for replica in self.replicas.tries():
            try:
                last = await self._send(replica, request, body, outgoing)
            except aiohttp.ClientError as error:
                last = error
            else:
                if last.status != HTTPStatus.SERVICE_UNAVAILABLE:
                    return last
        if isinstance(last, aiohttp.ClientError):
            raise last
        return last

    async def _send(
        self,
        replica: Replica,
        request: web.Request,
        body: bytearray | None,
        outgoing: Reservation,
        *,
        plain: bool = False,
    ) -> _ReplicaResponse:
        base, dropped, extra = self.triton, {"authorization", FORWARDED}, {}
        if replica.host:
            base, dropped = f"http://{replica.address(self.port)}", {FORWARDED}
            extra = {FORWARDED: "1"}
        # The body is decompressed by now; responses that are merged must not be compressed.
        dropped |= HOP_BY_HOP | {"content-encoding"}
        if plain:
            dropped.add("accept-encoding")
        headers = {k: v for k, v in request.headers.items() if k.lower() not in dropped} | extra
        with self.replicas.counted(replica):
            async with self.session.request(
                request.method,
                f"{base}{request.rel_url.raw_path}",
                params=request.rel_url.query,
                headers=headers,
                data=body,
                # Responses are compressed only if the client accepts it.
                skip_auto_headers=("Accept-Encoding",),
            ) as response:
                passed = {k: v for k, v in response.headers.items() if k.lower() not in HOP_BY_HOP}
                size = LARGEST if response.content_length is None else response.content_length
                if size > LARGEST:
                    raise TooLargeError(
                        f"the response is larger than {LARGEST // 2**20} MiB: "
                        "request fewer rows, or binary tensors"
                    )
                await outgoing.add(size)
                return _ReplicaResponse(response.status, passed, await response.read())

    def application(self) -> web.Application:
        """Return the application that serves this."""

        async def client(_: web.Application) -> Any:
            # Loading a model may take long: the client decides how long to wait.
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
            async with aiohttp.ClientSession(
                timeout=timeout, auto_decompress=False, connector=aiohttp.TCPConnector(limit=0)
            ) as self.session:
                yield

        app = web.Application(client_max_size=LARGEST)
        app.cleanup_ctx.append(client)
        app.router.add_route("*", "/{path:.*}", self.handle)
        return app


def merge_grpc_responses(method: str, responses: Sequence[bytes]) -> bytes:
    """Merge the responses of all replicas, as a serialized message.

    Concatenated messages are one message with the entries of all (statistics).  `ready: false`
    is an empty message, so the shortest response says whether all are ready.
    """
    if method.endswith("ModelStatistics"):
        return b"".join(responses)
    return min(responses, key=len)


def _error(code: grpc.StatusCode, details: str) -> grpc.aio.AioRpcError:
    """Return the error of a call that ended without a response."""
    nothing = grpc.aio.Metadata()
    if code == grpc.StatusCode.OK:
        code, details = grpc.StatusCode.INTERNAL, "Triton sent no response"
    return grpc.aio.AioRpcError(code, nothing, nothing, details)


async def _message(context: grpc.aio.ServicerContext, incoming: Reservation) -> bytes:
    """Return the message of a call; its capacity is reserved before the read.

    Raises `BusyError`, `TimeoutError`, and `DeniedError` where the call has no message.
    """
    await incoming.add(LARGEST)
    async with asyncio.timeout(TRANSFER_S):
        message = await context.read()
    if not isinstance(message, bytes):
        raise DeniedError("the call has no request message")
    await incoming.shrink_to(len(message))
    return message


class GrpcProxy(grpc.GenericRpcHandler):
    """Forwards each call to the same method of one replica of Triton, or of all."""

    def __init__(
        self,
        authorizer: Authorizer,
        channel: grpc.aio.Channel,
        replicas: Replicas,
        *,
        port: int,
        capacities: Capacities | None = None,
    ) -> None:
        self.authorizer, self.channel, self.replicas, self.port = (
            authorizer,
            channel,
            replicas,
            port,
        )
        self.capacities = capacities or Capacities()
        self._channels: dict[str, grpc.aio.Channel] = {}

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """Return the handler of a call."""
        method = details.method

        async def call(_: object, context: grpc.aio.ServicerContext) -> None:
            metadata = dict(context.invocation_metadata() or ())
            authorization = str(metadata.get("authorization", ""))
            target = grpc_target(method, str)
            try:
                # A message is read only from users; the model's name is in the message.
                if target.kind == "model":
                    user = self.authorizer.user(authorization)
                else:
                    user = _authorize(self.authorizer, target, authorization, "grpc")
                capacities = self.capacities
                async with (
                    capacities.requests.reservation(user) as incoming,
                    capacities.responses.reservation(user) as outgoing,
                ):
                    request = await _message(context, incoming)
                    if target.kind == "model":
                        target = grpc_target(method, partial(model_of, request))
                        user = _authorize(self.authorizer, target, authorization, "grpc")
                    forwarded = FORWARDED in metadata
                    response = await self._route(
                        target,
                        method,
                        request,
                        authorization,
                        context,
                        outgoing,
                        forwarded=forwarded,
                    )
                    del request
                    await incoming.shrink_to(0)
                    if not forwarded:
                        _count(user, target, "grpc")
                    # The capacity is released once the client has received the response.
                    async with asyncio.timeout(TRANSFER_S):
                        await context.write(response)
            except RefusedError as error:
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(error))
            except DeniedError as error:
                await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))
            except BusyError as error:
                await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
            except TimeoutError:
                problem = f"the message was not transferred within {TRANSFER_S} s"
                await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, problem)
            except grpc.aio.AioRpcError as error:
                await context.abort(error.code(), error.details() or "")

        # To a client this is the same as a unary call; here it lets us decide when messages
        # are read and written.
        return grpc.stream_stream_rpc_method_handler(call)

    async def _route(
        self,
        target: Target,
        method: str,
        request: bytes,
        authorization: str,
        context: grpc.aio.ServicerContext,
        outgoing: Reservation,
        *,
        forwarded: bool,
    ) -> bytes:
        """Return the response of one replica, or of all."""
        send = partial(self._send, method, request, authorization, context.time_remaining, outgoing)
        if target.routing == "all" and not forwarded:
            responses = await asyncio.gather(*map(send, self.replicas.all()))
            return merge_grpc_responses(method, responses)
        if target.routing == "any" and not forwarded:
            return await self._send_to_any(send)
        return await send(self.replicas.here)

    async def _send_to_any(self, send: Callable[[Replica], Awaitable[bytes]]) -> bytes:
        """Send to one replica, and to the next one if it is unavailable: scoring is idempotent."""
        problem: grpc.aio.AioRpcError
        for replica in self.replicas.tries():
            try:
                return await send(replica)
            except grpc.aio.AioRpcError as error:
                problem = error
                if error.code() != grpc.StatusCode.UNAVAILABLE:
                    break
        raise problem

    async def _send(
        self,
        method: str,
        request: bytes,
        authorization: str,
        remaining: Callable[[], float | None],
        outgoing: Reservation,
        replica: Replica,
    ) -> bytes:
        channel = self.channel
        extra: tuple[tuple[str, str], ...] = ()
        if replica.host:
            channel = self._channel(replica)
            extra = (("authorization", authorization), (FORWARDED, "1"))
        with self.replicas.counted(replica):
            # As a stream of one response: its capacity is reserved before the read.
            call = channel.unary_stream(method)(request, timeout=remaining(), metadata=extra)
            try:
                await call.initial_metadata()
                await outgoing.add(LARGEST)
                response = await call.read()
                if not isinstance(response, bytes):
                    raise _error(await call.code(), await call.details())
                await outgoing.release(LARGEST - len(response))
                await call.code()  # wait for the end: `cancel` would otherwise reach Triton
            finally:
                call.cancel()
            return response

    def _channel(self, replica: Replica) -> grpc.aio.Channel:
        """Return the connection to another replica's proxy; close those to former replicas."""
        host = replica.host
        for former in self._channels.keys() - self.replicas.others.keys() - {host}:
            # Calls in flight have time to finish.
            self._closing = asyncio.ensure_future(self._channels.pop(former).close(GRACE_S))
        if host not in self._channels:
            address = replica.address(self.port)
            self._channels[host] = grpc.aio.insecure_channel(address, options=SIZES)
        return self._channels[host]


async def serve(
    authorizer: Authorizer,
    replicas: Replicas,
    *,
    http: int,
    grpc_port: int,
    triton: str,
    triton_grpc: str,
) -> None:
    """Serve both protocols until SIGTERM or SIGINT."""
    ending = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, ending.set)
    refreshing = asyncio.create_task(replicas.watch())
    capacities = Capacities()
    proxy = HttpProxy(authorizer, triton, replicas, port=http, capacities=capacities)
    runner = web.AppRunner(proxy.application(), access_log=None, shutdown_timeout=GRACE_S)
    await runner.setup()
    await web.TCPSite(runner, port=http).start()
    async with grpc.aio.insecure_channel(triton_grpc, options=SIZES) as channel:
        server = grpc.aio.server(options=SIZES)
        server.add_generic_rpc_handlers(
            (GrpcProxy(authorizer, channel, replicas, port=grpc_port, capacities=capacities),)
        )
        server.add_insecure_port(f"[::]:{grpc_port}")
        await server.start()
        LOG.info("serving HTTP at %d and gRPC at %d", http, grpc_port)
        await ending.wait()
        await asyncio.gather(server.stop(GRACE_S), runner.cleanup())
    refreshing.cancel()


def main() -> None:
    """Serve until the pod terminates."""
    parser = argparse.ArgumentParser(
        description="Authenticating reverse proxy of a facility's Triton."
    )
    parser.add_argument("--api", required=True, help="address of the facility API")
    parser.add_argument("--issuer", required=True, help="the issuer of its tokens")
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
    start_http_server(options.metrics_port, addr=every_address())
    asyncio.run(
        serve(
            Authorizer(verifier),
            Replicas(options.replicas, os.environ.get("POD_IP", "")),
            http=options.http_port,
            grpc_port=options.grpc_port,
            triton=options.triton,
            triton_grpc=options.triton_grpc,
        )
    )


if __name__ == "__main__":
    main()
