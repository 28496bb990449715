"""A Jupyter server extension that shows the pages of the facility's services.

Dask's dashboards, MLflow and ServiceX need a token that a browser does not have, but the
user's server does.  The browser is logged in there already; the extension forwards its
requests with the token.
"""

import os
from typing import Any
from urllib.parse import urlsplit

import dask
from coffea_shoppe_contract import DASHBOARDS_PATH, MLFLOW_PATH, SERVICEX_PATH
from coffea_shoppe_contract.api import WORKSPACE_HEADER
from jupyter_server.utils import url_path_join
from jupyter_server_proxy.handlers import ProxyHandler
from tornado.web import HTTPError

from coffea_shoppe.connections import (
    FacilityError,
    connections,
    mlflow_address,
    token,
    workspace,
)

CLUSTER = r"([a-z0-9-]+\.[0-9a-f]{32})"


class _Page(ProxyHandler):
    """Forwards requests without the headers that are only for the user's server."""

    def proxy_request_headers(self) -> dict[str, str]:
        headers = dict(super().proxy_request_headers())
        # Host, too: the service has another name than the user's server.
        for name in ("Cookie", "Host"):
            headers.pop(name, None)
        return headers

    def _parts(self, address: str) -> tuple[str, int, str]:
        """Return host, port and path of a service's address."""
        parts = urlsplit(address)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return parts.hostname or "", port, parts.path.rstrip("/")


class DashboardHandler(_Page):
    """Forwards a request for a dashboard to the gateway, with the user's hub token."""

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
        """Respond with a page."""
        return await self.proxy(*self._target(cluster, path))

    async def open(self, cluster: str, path: str) -> Any:
        """Open the websocket that updates a page."""
        return await super().proxy_open(*self._target(cluster, path))


class _TokenPage(_Page):
    """Forwards a request to a service that accepts the facility's tokens."""

    service = ""

    def proxy_request_headers(self) -> dict[str, str]:
        """Return the browser's headers with the token."""
        headers = super().proxy_request_headers()
        # Cross-site requests would carry the token, too; the service cannot refuse them, as it
        # does not know the address that the browser uses.
        origin = headers.pop("Origin", "")
        if origin and urlsplit(origin).netloc != self.request.host:
            raise HTTPError(403, f"{self.service} does not accept requests of pages of {origin}")
        try:
            headers["Authorization"] = f"Bearer {token(self.service)}"
        except FacilityError as error:
            raise HTTPError(503, str(error)) from error
        return headers


class ServicexHandler(_TokenPage):
    """Forwards a request to ServiceX, with the user's token."""

    service = "servicex"

    async def http_get(self, path: str) -> Any:
        """Respond with a page of the user's requests."""
        try:
            address = connections().get("servicex", "")
        except FacilityError as error:
            raise HTTPError(503, str(error)) from error
        if not address:
            raise HTTPError(404, "this facility has no ServiceX")
        host, port, prefix = self._parts(address)
        # The address is in a file of the user's, which may appear after the server has started.
        self.host_allowlist = [host]
        return await self.proxy(host, port, f"{prefix}/{path}")

    post = head = http_get


class MlflowHandler(_TokenPage):
    """Forwards a request to MLflow, with the user's token."""

    service = "mlflow"

    def proxy_request_headers(self) -> dict[str, str]:
        """Return the browser's headers with token and workspace."""
        headers = super().proxy_request_headers()
        if name := workspace():
            headers.setdefault(WORKSPACE_HEADER, name)
        return headers

    async def http_get(self, path: str) -> Any:
        """Forward a request; MLflow's pages use all methods."""
        host, port, prefix = self._parts(mlflow_address())
        return await self.proxy(host, port, f"{prefix}/{path}")

    post = put = patch = delete = head = http_get


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "coffea_shoppe.pages"}]


def _load_jupyter_server_extension(server: Any) -> None:
    """Add the pages of the services that this server's environment names."""
    base = server.web_app.settings["base_url"]
    requests = url_path_join(base, SERVICEX_PATH, "(transformation-request.*)")
    server.web_app.add_handlers(".*$", [(requests, ServicexHandler, {"host_allowlist": []})])
    # jupyter-server-proxy forwards to localhost only, unless a host is named.
    for address, path, handler in (
        (
            dask.config.get("gateway.address", None),
            url_path_join(DASHBOARDS_PATH, "clusters", CLUSTER, "(.*)"),
            DashboardHandler,
        ),
        (mlflow_address(), url_path_join(MLFLOW_PATH, "(.*)"), MlflowHandler),
    ):
        if address:
            allowed = {"host_allowlist": [urlsplit(address).hostname]}
            pattern = url_path_join(base, path)
            server.web_app.add_handlers(".*$", [(pattern, handler, allowed)])
