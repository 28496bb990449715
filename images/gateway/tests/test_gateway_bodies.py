"""What the gateway reads of a request before it knows the sender: little, and not for long."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from coffea_shoppe_gateway import backend
from gateway_helpers import Gateway, run_with_gateway


async def slowly() -> AsyncIterator[bytes]:
    yield b"{"
    await asyncio.sleep(5)


def test_bodies_are_small_and_soon_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def steps(gateway: Gateway) -> None:
        monkeypatch.setattr(backend, "BODY_S", 1)

        async def status(user: str, body: object) -> int:
            url, headers = "/api/v1/clusters/", {"Authorization": f"jupyterhub of-{user}"}
            async with gateway.client.post(url, data=body, headers=headers) as response:
                return response.status

        padded = b'{"cluster_options": {}}'
        for user in ("ann", "nobody"):
            assert await status(user, padded.ljust(backend.LARGEST_BODY + 1)) == 413
            assert await status(user, slowly()) == 408
        assert await status("nobody", padded) == 401
        assert await status("ann", padded.ljust(backend.LARGEST_BODY)) == 201

    run_with_gateway(tmp_path, monkeypatch, steps)
