"""Limits the bytes of requests and responses in a server's memory, in total and per user."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

SMALL = 64 * 2**10
"""Sizes up to this are not counted, bytes."""
WAIT_S = 20
"""A request waits this long for capacity."""


class BusyError(Exception):
    """The capacity was exhausted for too long; the text is for the client."""


class Reservation:
    """The bytes that are reserved for one request."""

    def __init__(self, capacity: "Capacity", user: str) -> None:
        self.capacity, self.user, self.size = capacity, user, 0

    async def add(self, size: int) -> None:
        """Reserve `size` more bytes; raises `BusyError` if they do not become free in time.

        Small sizes are not counted: a probe must not wait for others' large requests.
        """
        capacity = self.capacity
        if size <= capacity.small:
            return
        try:
            async with asyncio.timeout(capacity.wait_s), capacity.changed:
                await capacity.changed.wait_for(lambda: capacity.fits(self.user, size))
                capacity.reserved[self.user] += size
                self.size += size
        except TimeoutError as error:
            message = "the server has too many large requests; try again in some seconds"
            raise BusyError(message) from error

    async def shrink_to(self, size: int) -> None:
        """Release what is reserved above `size` bytes."""
        await self.release(max(0, self.size - size))

    async def release(self, size: int) -> None:
        """Release `size` bytes."""
        capacity = self.capacity
        async with capacity.changed:
            capacity.reserved[self.user] -= size
            self.size -= size
            if not capacity.reserved[self.user]:
                del capacity.reserved[self.user]
            capacity.changed.notify_all()


class Capacity:
    """Limits of the reserved bytes: of all requests (`total`), and of one user (`per_user`)."""

    def __init__(
        self, total: int, per_user: int, *, wait_s: float = WAIT_S, small: int = SMALL
    ) -> None:
        self.total, self.per_user, self.wait_s, self.small = total, per_user, wait_s, small
        self.reserved: Counter[str] = Counter()
        self.changed = asyncio.Condition()

    def fits(self, user: str, size: int) -> bool:
        """Return whether `size` more bytes may be reserved for a user."""
        of_user, of_all = self.reserved[user], self.reserved.total()
        return of_user + size <= self.per_user and of_all + size <= self.total

    @asynccontextmanager
    async def reservation(self, user: str) -> AsyncIterator[Reservation]:
        """Yield a reservation for a request, empty at first; its end releases everything."""
        reservation = Reservation(self, user)
        try:
            yield reservation
        finally:
            # Also if the request was canceled.
            await asyncio.shield(reservation.shrink_to(0))
