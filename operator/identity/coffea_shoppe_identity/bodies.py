"""ASGI middleware that bounds the bodies of requests: size, sum, number, and time."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from coffea_shoppe_identity.capacity import BusyError, Capacity, Reservation

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

SENDER = "coffea_shoppe.sender"
"""Key in a request's ASGI scope: who sent it; set after authentication, before the body is read."""
NOBODY = "nobody"
"""The sender of requests that were not authenticated: they share the capacity of one user."""
TIMEOUT_S = 30
"""A body arrives within this time."""
AT_ONCE = 32
"""Bodies of one sender that arrive at once."""


class _BodyError(Exception):
    """A body that is not read, and the status that says so."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class BodyLimits:
    """Middleware: bodies have at most `largest` bytes, and share a capacity.

    Nothing is read before a handler asks for it, and a handler asks once it knows the sender.
    A body that is too large is refused with 413, one that is too slow with 408.  One that exceeds
    the capacity for too long, or while `at_once` others of its sender arrive, is refused with 503.
    """

    def __init__(
        self,
        application: Application,
        *,
        largest: int,
        capacity: Capacity,
        timeout_s: float = TIMEOUT_S,
        at_once: int = AT_ONCE,
    ) -> None:
        self.application, self.largest, self.capacity = application, largest, capacity
        self.timeout_s, self.at_once = timeout_s, at_once
        self.arriving: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self.application(scope, receive, send)
            return
        started = False

        async def send_and_note(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        async with self.capacity.reservation(NOBODY) as reservation:
            body = _Body(self, reservation, scope, receive)
            try:
                await self.application(scope, body.receive, send_and_note)
            except Exception:
                # Task groups between here and the reader wrap the error in a group.
                if started or body.error is None:
                    raise
                await refuse(body.error.status, str(body.error), send)
            finally:
                body.end()


class _Body:
    """The body of one request while it is read."""

    def __init__(
        self, limits: BodyLimits, reservation: Reservation, scope: Scope, receive: Receive
    ) -> None:
        self.limits, self.reservation = limits, reservation
        self.scope, self.receive_part = scope, receive
        self.size, self.deadline, self.complete = 0, 0.0, False
        self.sender = ""
        """Whose body arrives; '' before and afterwards."""
        self.error: _BodyError | None = None
        """Why no more of it is read."""

    async def receive(self) -> Message:
        """Return the next part of the body; raises `_BodyError`."""
        try:
            return await self._receive()
        except _BodyError as error:
            self.error = error
            raise

    async def _receive(self) -> Message:
        if self.complete:
            return await self.receive_part()
        if not self.deadline:
            await self._begin()
        try:
            async with asyncio.timeout(max(self.deadline - time.monotonic(), 0)):
                message = await self.receive_part()
        except TimeoutError as error:
            seconds = self.limits.timeout_s
            raise _BodyError(408, f"the body did not arrive within {seconds:g} s") from error
        if message["type"] == "http.request":
            self.size += len(message.get("body", b""))
            if self.size > self.limits.largest:
                raise self._too_large()
            if not message.get("more_body", False):
                self.complete = True
                self.end()
        return message

    def end(self) -> None:
        """Count the body no longer among those that arrive."""
        if self.sender:
            self.limits.arriving[self.sender] -= 1
            if not self.limits.arriving[self.sender]:
                del self.limits.arriving[self.sender]
            self.sender = ""

    async def _begin(self) -> None:
        """Reserve the size that is announced, or that of the largest body."""
        headers = dict(self.scope["headers"])
        chunked = b"transfer-encoding" in headers
        announced = self.limits.largest if chunked else int(headers.get(b"content-length", 0))
        if announced > self.limits.largest:
            raise self._too_large()
        sender = self.reservation.user = self.scope.get(SENDER, NOBODY)
        if announced:
            if self.limits.arriving[sender] >= self.limits.at_once:
                message = "too many of your requests arrive at once; try again in some seconds"
                raise _BodyError(503, message)
            self.limits.arriving[sender] += 1
            self.sender = sender
        try:
            await self.reservation.add(announced)
        except BusyError as error:
            raise _BodyError(503, str(error)) from error
        self.deadline = time.monotonic() + self.limits.timeout_s

    def _too_large(self) -> _BodyError:
        mebibytes = self.limits.largest / 2**20
        return _BodyError(413, f"the body is larger than {mebibytes:g} MiB")


async def refuse(status: int, message: str, send: Send) -> None:
    """Send an error in the forms that the clients of all our servers read."""
    body = json.dumps({"message": message, "error": message}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        # What is left of the body is not read.
        (b"connection", b"close"),
    ]
    if status == 503:
        headers.append((b"retry-after", b"5"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
