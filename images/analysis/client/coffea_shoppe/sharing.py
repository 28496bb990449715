"""Which other users may read the user's runs and models in MLflow."""

import os

from coffea_shoppe_contract.api import WORKSPACE_HEADER
from coffea_shoppe_contract.names import workspace_name

from coffea_shoppe.connections import FacilityError, send, workspace

KINDS = ("experiment", "registered_model")


def workspace_of(user: str) -> str:
    """Return the name of another user's workspace, for `mlflow.set_workspace`."""
    return workspace_name(user)


def share_runs(user: str) -> None:
    """Let another user read all my experiments and models, present and future ones.

    Raises `FacilityError` where MLflow refuses: it does not know users before their first
    login.
    """
    for kind in KINDS:
        _change("grant", user, kind, permission="READ")


def unshare_runs(user: str) -> None:
    """Revoke what `share_runs` granted; it is not an error where nothing was granted."""
    for kind in KINDS:
        _change("revoke", user, kind)


def _change(action: str, user: str, kind: str, **more: str) -> None:
    """Grant or revoke a permission for all resources of a kind."""
    address = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not address:
        raise FacilityError("MLFLOW_TRACKING_URI is not set: this facility has no MLflow")
    response = send(
        "POST",
        f"{address.rstrip('/')}/api/3.0/mlflow/users/permissions/{action}",
        audience="mlflow",
        name="MLflow",
        json={"username": user, "resource_type": kind, "resource_id": "*", **more},
        headers={WORKSPACE_HEADER: workspace()},
    )
    if response.ok or (action == "revoke" and response.status_code == 404):
        return
    raise FacilityError(
        f"MLflow did not {action} read permission for {user!r}: {response.text[:200]}"
    )
