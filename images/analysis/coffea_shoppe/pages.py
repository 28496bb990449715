"""A Jupyter server extension: the dashboards of a user's own Dask clusters.

A Dask dashboard asks for no login.  The facility's gateway therefore shows one
only with a hub token of the cluster's owner, which a browser does not have; the
user's own server has.  It answers below its own address, where the browser is
logged in already, and passes requests on with the token.
"""

import os
from typing import Any
from urllib.parse import urlsplit

import dask
from coffea_shoppe_contract import DASHBOARDS_PATH
from jupyter_server.utils import url_path_join
from jupyter_server_proxy.handlers import ProxyHandler

CLUSTER = r"([a-z0-9-]+\.[0-9a-f]{32})"


class DashboardHandler(ProxyHandler):
    """Passes a request for a dashboard on to the gateway, with the user's token."""

    def _target(self, cluster: str, path: str) -> tuple[str, int, str]:
        """Return host, port and path of a cluster's dashboard behind the gateway."""
        gateway = urlsplit(dask.config.get("gateway.address"))
        port = gateway.port or (443 if gateway.scheme == "https" else 80)
        prefix = gateway.path.rstrip("/")
        return gateway.hostname or "", port, f"{prefix}/clusters/{cluster}/{path}"

    def proxy_request_headers(self) -> dict[str, str]:
        """Return the browser's headers with the token, and without its cookies."""
        headers = dict(super().proxy_request_headers())
        headers.pop("Cookie", None)
        headers["Authorization"] = f"token {os.environ['JUPYTERHUB_API_TOKEN']}"
        return headers

    async def http_get(self, cluster: str, path: str) -> Any:
        """Answer a page."""
        return await self.proxy(*self._target(cluster, path))

    async def open(self, cluster: str, path: str) -> Any:
        """Open the websocket over which a page is updated."""
        return await super().proxy_open(*self._target(cluster, path))


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "coffea_shoppe.dashboards"}]


def _load_jupyter_server_extension(server: Any) -> None:
    """Serve dashboards below `dask-dashboards/`, where a gateway is configured."""
    if not dask.config.get("gateway.address", None):
        return
    base = server.web_app.settings["base_url"]
    pattern = url_path_join(base, DASHBOARDS_PATH, "clusters", CLUSTER, "(.*)")
    # The proxy lets no host but this machine through unless it is named.
    allowed = {"host_allowlist": [urlsplit(dask.config.get("gateway.address")).hostname]}
    server.web_app.add_handlers(".*$", [(pattern, DashboardHandler, allowed)])
