"""Who may see a dashboard: the responses to Traefik."""

from pathlib import Path

import pytest
from gateway_helpers import Gateway, run_with_gateway


def test_the_owner_and_administrators_see_a_dashboard_and_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def steps(gateway: Gateway) -> None:
        name = await gateway.started("ann")
        page = f"/services/dask-gateway/clusters/{name}/status"
        unknown = page.replace(name, f"dask.{'0' * 32}")

        async def status(uri: str, **headers: str) -> int:
            sent = {key.replace("_", "-"): value for key, value in headers.items()}
            url = "/api/dashboards/authorize"
            async with gateway.client.get(
                url, headers={"X-Forwarded-Uri": uri, **sent}
            ) as response:
                return response.status

        assert await status(page, X_Forwarded_User="ann") == 200
        assert await status(page, X_Forwarded_User="bob") == 403
        for kind in ("token", "Bearer", "jupyterhub"):
            assert await status(page, Authorization=f"{kind} of-ann") == 200
        assert await status(page, Authorization="token of-bob") == 403
        assert await status(page, Authorization="token of-root") == 200
        assert await status(page, Authorization="token of-nobody") == 401
        assert await status(page, Authorization="Basic of-ann") == 401
        assert await status(page) == 401
        for uri in (unknown, "/services/dask-gateway/", ""):
            assert await status(uri, X_Forwarded_User="ann") == 404

        await gateway.backend.stop_cluster(name)
        resource = gateway.resource(name)
        resource["status"] = {"phase": "Stopped", "completionTime": "2026-01-01T00:00:00Z"}
        await gateway.api.put("daskclusters", resource)
        await gateway.backend.get_cluster(name, wait=True)
        assert await status(page, X_Forwarded_User="ann") == 404

    run_with_gateway(tmp_path, monkeypatch, steps)
