"""MLflow's login: the user's current token with each request, and the user's workspace.

MLflow finds this module by its entry point (`mlflow.request_auth_provider`), and uses it
where MLFLOW_TRACKING_AUTH names it, as it does in the facility's pods.  Requests to another
MLflow carry the user's own login for that one.
"""

from urllib.parse import urlsplit

import requests
from coffea_shoppe_contract.api import WORKSPACE_HEADER
from requests.auth import AuthBase

from coffea_shoppe.connections import MLFLOW_AUTH, connections, token, workspace
from coffea_shoppe.extras import extra

with extra("mlflow", user="coffea_shoppe.tracking"):
    from mlflow.tracking.request_auth.abstract_request_auth_provider import RequestAuthProvider

PORTS = {"http": 80, "https": 443}


def _parts(url: str) -> tuple[str, str, int | None, list[str]]:
    """Return scheme, host, port and path of an address, in a form to compare."""
    parts = urlsplit(url)
    scheme, path = parts.scheme.lower(), parts.path.strip("/")
    return scheme, parts.hostname or "", parts.port or PORTS.get(scheme), path.split("/")


def is_of_the_facility(url: str) -> bool:
    """Return whether an address is that of the facility's own MLflow, or below it."""
    address = connections().get("mlflow", "")
    if not address:
        return False
    *own, below = _parts(address)
    *other, path = _parts(url)
    inside = path[: len(below)] == below and ".." not in path
    return own == other and (below == [""] or inside)


class FacilityAuth(AuthBase):
    """Adds token and workspace to requests to the facility's MLflow; a chosen workspace stays."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add token and workspace.  Raises `FacilityError` where there is no token."""
        if not is_of_the_facility(request.url or ""):
            return request
        request.headers["Authorization"] = f"Bearer {token('mlflow')}"
        if name := workspace():
            request.headers.setdefault(WORKSPACE_HEADER, name)
        return request


class FacilityAuthProvider(RequestAuthProvider):
    """Registers `FacilityAuth` in MLflow."""

    def get_name(self) -> str:
        """Return the value of MLFLOW_TRACKING_AUTH that selects this provider."""
        return MLFLOW_AUTH

    def get_auth(self) -> AuthBase:
        """Return what adds the token to requests."""
        return FacilityAuth()
