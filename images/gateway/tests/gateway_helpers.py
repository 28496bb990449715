"""A real gateway and a real controller over an API in memory."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import DummyCookieJar, encode_basic_auth, web
from aiohttp.test_utils import TestClient, TestServer
from coffea_shoppe_gateway.backend import LimitedKubeBackend
from coffea_shoppe_gateway.configuration import configure
from coffea_shoppe_gateway.controller import ReportingKubeController
from dask_gateway_server.auth import SimpleAuthenticator, unauthorized
from dask_gateway_server.models import User
from dask_gateway_server.routes import default_routes
from kube_api import KubeApi, Object, kube_api
from shoppe_ci.paths import CHARTS
from traitlets.config import Config

NAMESPACE, FACILITY = "dask", "facility"
PATIENCE_S = 60
TOKENS = {"of-ann": User("ann"), "of-bob": User("bob"), "of-root": User("root", admin=True)}


def settings_of(**gateway: Any) -> Object:
    """Return the chart's values, with what its template adds, and some of the gateway's changed."""
    values = yaml.safe_load((CHARTS / "dask-gateway" / "values.yaml").read_text())
    values["gateway"]["auth"]["type"] = "simple"
    for key, value in gateway.items():
        values["gateway"][key] |= value
    return {
        "instance": "here",
        "namespace": NAMESPACE,
        "apiUrl": "http://gateway:8000/api",
        "image": "analysis:1",
        "notebookImage": "notebook:1",
        "labels": {"app.kubernetes.io/part-of": "coffea-shoppe"},
        "imagePullSecrets": [],
        "podSecurityContext": {"runAsNonRoot": True},
        "containerSecurityContext": {"readOnlyRootFilesystem": True},
        "facilityUsers": "",
        "userSecrets": False,
        "environment": {},
        "hubUrl": "http://hub/api",
        "hubService": "dask-gateway",
        "prefix": "/services/dask-gateway",
        "tcpEntrypoint": "web",
        "values": {"gateway": values["gateway"], "controller": values["controller"]},
    }


def config_of(settings: Object, secrets: Path) -> Config:
    """Return the configuration that the settings make."""
    config = Config()
    configure(config, settings, secrets=secrets)
    return config


class Authenticator(SimpleAuthenticator):
    """Logs in by any name, and by the tokens of a hub, as the hub's authenticator does."""

    async def authenticate(self, request: web.Request) -> User:
        """Return who sends the request."""
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        if kind != "jupyterhub":
            return await super().authenticate(request)
        if token not in TOKENS:
            raise unauthorized("jupyterhub")
        return TOKENS[token]


@dataclass
class Gateway:
    """A running gateway, and what its users send."""

    api: KubeApi
    backend: LimitedKubeBackend
    client: TestClient[Any, Any]

    async def request(self, user: str, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """Return status and JSON of the response to a user."""
        url = f"/api/v1/clusters/{path}"
        headers = {"Authorization": encode_basic_auth(user, "any")}
        async with self.client.request(method, url, headers=headers, **options) as response:
            return response.status, await response.json()

    async def start(self, user: str, **options: Any) -> tuple[int, str]:
        """Start a cluster; return the status, and its name or the error."""
        status, response = await self.request(user, "POST", "", json={"cluster_options": options})
        return status, response.get("name") or response["error"]

    async def started(self, user: str, **options: Any) -> str:
        """Start a cluster; return its name once the gateway has seen it."""
        status, name = await self.start(user, **options)
        assert status == 201, name
        await eventually(lambda: name in self.backend.clusters, f"the gateway sees {name}")
        return name

    def resource(self, name: str) -> Object:
        """Return the DaskCluster of a cluster."""
        namespace, _, plain = name.partition(".")
        return self.api.objects["daskclusters", namespace, plain]

    def status(self, name: str) -> Object:
        """Return the status of a cluster's resource."""
        status: Object = self.resource(name).get("status", {})
        return status

    async def heartbeat(self, name: str, count: int) -> int:
        """Request workers for a cluster, as its scheduler does; return how many are granted."""
        workers = dict.fromkeys(("active_workers", "closing_workers", "closed_workers"), ())
        await self.backend.on_cluster_heartbeat(name, {"count": count, **workers})
        return int(self.resource(name)["spec"]["replicas"])


async def eventually(check: Callable[[], Any], what: str) -> None:
    """Wait until the check holds; fails naming what did not happen."""
    loop = asyncio.get_running_loop()
    end = loop.time() + PATIENCE_S
    while not check():
        assert loop.time() < end, f"not in {PATIENCE_S} s: {what}"
        await asyncio.sleep(0.01)


@asynccontextmanager
async def gateway(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    controller: bool = False,
    facility_users: str = "",
    metrics_port: int = 0,
    **values: Any,
) -> AsyncIterator[Gateway]:
    """Run a gateway, and its controller where that is chosen."""
    settings = settings_of(**values) | {"facilityUsers": facility_users}
    config = config_of(settings, folder)
    config.KubeController.address = "127.0.0.1:0"
    config.LimitedKubeBackend.metrics_port = metrics_port
    async with kube_api(folder, monkeypatch) as api:
        application = web.Application()
        application.add_routes(default_routes)
        backend = LimitedKubeBackend(config=config)
        authenticator = Authenticator(config=config)
        application["backend"], application["authenticator"] = backend, authenticator
        application["log"] = backend.log
        await backend.setup(application)
        process = ReportingKubeController(config=config)
        if controller:
            process.app = web.Application()
            await process.setup()
        try:
            # A login that is kept in a cookie would be that of all users.
            jar = DummyCookieJar()
            async with TestClient(TestServer(application), cookie_jar=jar) as client:
                yield Gateway(api, backend, client)
        finally:
            if controller:
                await process.cleanup()
            await backend.cleanup()


def run_with_gateway(
    folder: Path, monkeypatch: pytest.MonkeyPatch, steps: Callable[[Gateway], Any], **values: Any
) -> None:
    """Run an asynchronous test with a gateway."""

    async def run() -> None:
        async with gateway(folder, monkeypatch, **values) as here:
            await steps(here)

    asyncio.run(run())
