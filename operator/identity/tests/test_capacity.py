"""The memory of requests is limited, in total and per user."""

import asyncio

import pytest
from coffea_shoppe_identity.capacity import BusyError, Capacity


def test_reservations_are_limited_in_total_and_per_user() -> None:
    async def story() -> None:
        capacity = Capacity(300, 200, wait_s=0.2, small=0)
        reserve = capacity.reservation
        async with reserve("ann") as ann, reserve("ann") as again, reserve("bob") as bob:
            await ann.add(150)
            with pytest.raises(BusyError, match="try again"):
                await again.add(60)  # more than one user may have
            await bob.add(100)
            async with reserve("cat") as cat:
                with pytest.raises(BusyError):
                    await cat.add(60)  # more than all may have
                await cat.add(50)
            waiting = asyncio.create_task(again.add(60))
            await asyncio.sleep(0)
            await ann.release(100)
            await waiting
            assert capacity.reserved == {"ann": 110, "bob": 100}
        assert not capacity.reserved
        async with Capacity(300, 200, wait_s=0.2, small=100).reservation("ann") as small:
            for _ in range(5):
                await small.add(100)  # a small size is not counted

    asyncio.run(story())
