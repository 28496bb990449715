"""A Jupyter server extension: pages of the facility's services, as their user's own.

Dask's dashboards, MLflow and ServiceX ask a browser for a token that it does not have; the
user's own server has.  It answers below its own address, where the browser is logged
in already, and passes requests on with the token.
"""

import os
from typing import Any
from urllib.parse import urlsplit

import dask
from coffea_shoppe_contract import DASHBOARDS_PATH, MLFLOW_PATH, SERVICEX_PATH, identity
from jupyter_server.utils import url_path_join
from jupyter_server_proxy.handlers import ProxyHandler
from tornado.web import HTTPError

from coffea_shoppe.connections import FacilityError, connections, token, workspace

CLUSTER = r"([a-z0-9-]+\.[0-9a-f]{32})"


class _Page(ProxyHandler):
    """Passes requests on without what the browser tells the user's server alone."""

    def proxy_request_headers(self) -> dict[str, str]:
        headers = dict(super().proxy_request_headers())
        # Host, too: the service is called by its own name.
        for name in ("Cookie", "Host"):
            headers.pop(name, None)
        return headers

    def _parts(self, address: str) -> tuple[str, int, str]:
        """Return host, port and path of a service's address."""
        parts = urlsplit(address)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return parts.hostname or "", port, parts.path.rstrip("/")


class DashboardHandler(_Page):
    """Passes a request for a dashboard on to the gateway, with the user's hub token."""

    def _target(self, cluster: str, path: str) -> tuple[str, int, str]:
        """Return host, port and path of a cluster's dashboard behind the gateway."""
        host, port, prefix = self._parts(dask.config.get("gateway.address"))
        return host, port, f"{prefix}/clusters/{cluster}/{path}"

    def proxy_request_headers(self) -> dict[str, str]:
        """Return the browser's headers with the token."""
        headers = super().proxy_request_headers()
        headers["Authorization"] = f"token {os.environ['JUPYTERHUB_API_TOKEN']}"
        return headers

    async def http_get(self, cluster: str, path: str) -> Any:
        """Answer a page."""
        return await self.proxy(*self._target(cluster, path))

    async def open(self, cluster: str, path: str) -> Any:
        """Open the websocket over which a page is updated."""
        return await super().proxy_open(*self._target(cluster, path))


class _TokenPage(_Page):
    """Passes a request on to a service that accepts the user's token for it."""

    service = ""

    def proxy_request_headers(self) -> dict[str, str]:
        """Return the browser's headers with the token."""
        headers = super().proxy_request_headers()
        # The token is the user's on all pages, so no other site may make a browser
        # send it; the service itself knows only its own address.
        origin = headers.pop("Origin", "")
        if origin and urlsplit(origin).netloc != self.request.host:
            raise HTTPError(403, f"{self.service} is not for pages of {origin}")
        try:
            headers["Authorization"] = f"Bearer {token(self.service)}"
        except FacilityError as error:
            raise HTTPError(503, str(error)) from error
        return headers


class ServicexHandler(_TokenPage):
    """Passes a request on to ServiceX, with the user's token for it."""

    service = "servicex"

    async def http_get(self, path: str) -> Any:
        """Answer a page of the user's requests."""
        try:
            address = connections().get("servicex", "")
        except FacilityError as error:
            raise HTTPError(503, str(error)) from error
        if not address:
            raise HTTPError(404, "this facility has no ServiceX")
        host, port, prefix = self._parts(address)
        # Not known before: the address stands in a file that comes with the user.
        self.host_allowlist = [host]
        return await self.proxy(host, port, f"{prefix}/{path}")

    post = head = http_get


class MlflowHandler(_TokenPage):
    """Passes a request on to MLflow, with the user's token for it."""

    service = "mlflow"

    def proxy_request_headers(self) -> dict[str, str]:
        """Return the browser's headers with token and workspace."""
        headers = super().proxy_request_headers()
        if mine := workspace():
            headers.setdefault(identity.WORKSPACE_HEADER, mine)
        return headers

    async def http_get(self, path: str) -> Any:
        """Answer a request; MLflow's pages use all methods."""
        host, port, prefix = self._parts(os.environ["MLFLOW_TRACKING_URI"])
        return await self.proxy(host, port, f"{prefix}/{path}")

    post = put = patch = delete = head = http_get


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "coffea_shoppe.pages"}]


def _load_jupyter_server_extension(server: Any) -> None:
    """Serve the pages of the services that this server's environment names."""
    base = server.web_app.settings["base_url"]
    requests = url_path_join(base, SERVICEX_PATH, "(transformation-request.*)")
    server.web_app.add_handlers(".*$", [(requests, ServicexHandler, {"host_allowlist": []})])
    # The proxy lets no host but this machine through unless it is named.
    for address, path, handler in (
        (
            dask.config.get("gateway.address", None),
            url_path_join(DASHBOARDS_PATH, "clusters", CLUSTER, "(.*)"),
            DashboardHandler,
        ),
        (os.environ.get("MLFLOW_TRACKING_URI"), url_path_join(MLFLOW_PATH, "(.*)"), MlflowHandler),
    ):
        if address:
            allowed = {"host_allowlist": [urlsplit(address).hostname]}
            pattern = url_path_join(base, path)
            server.web_app.add_handlers(".*$", [(pattern, handler, allowed)])
