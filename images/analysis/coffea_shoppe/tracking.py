"""MLflow's login: the user's token, read anew for each request, and the user's workspace.

MLflow finds this by its entry point (`mlflow.request_auth_provider`), and uses it
where MLFLOW_TRACKING_AUTH names it, as it does in the facility's pods.
"""

import requests
from coffea_shoppe_contract import identity
from mlflow.tracking.request_auth.abstract_request_auth_provider import RequestAuthProvider
from requests.auth import AuthBase

from coffea_shoppe.connections import token, workspace


class FacilityAuth(AuthBase):
    """Signs a request to MLflow; a workspace that the caller chose stays."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add token and workspace.  Raises `FacilityError` where there is no token."""
        request.headers["Authorization"] = f"Bearer {token('mlflow')}"
        if mine := workspace():
            request.headers.setdefault(identity.WORKSPACE_HEADER, mine)
        return request


class FacilityAuthProvider(RequestAuthProvider):
    """What MLflow asks for the above."""

    def get_name(self) -> str:
        """Return the value of MLFLOW_TRACKING_AUTH that chooses this."""
        return "coffea-shoppe"

    def get_auth(self) -> AuthBase:
        """Return how requests are signed."""
        return FacilityAuth()
