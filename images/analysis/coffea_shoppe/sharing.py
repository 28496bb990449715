"""Who else may read my runs and models in MLflow."""

import os

import requests
from coffea_shoppe_contract import identity

from coffea_shoppe.connections import TIMEOUT_S, FacilityError, token, workspace

KINDS = ("experiment", "registered_model")


def workspace_of(user: str) -> str:
    """Return the name of another user's workspace, for `mlflow.set_workspace`."""
    return identity.workspace_name(user)


def share_runs(user: str) -> None:
    """Let another user read all my experiments and models, present and future ones.

    Raises `FacilityError` where MLflow refuses: it may not know the user yet.
    """
    for kind in KINDS:
        _ask("grant", user, kind, permission="READ")


def unshare_runs(user: str) -> None:
    """Take back what `share_runs` gave; it is no error where nothing was given."""
    for kind in KINDS:
        _ask("revoke", user, kind)


def _ask(what: str, user: str, kind: str, **more: str) -> None:
    address = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not address:
        raise FacilityError("MLFLOW_TRACKING_URI is not set: this facility has no MLflow")
    try:
        answer = requests.post(
            f"{address.rstrip('/')}/api/3.0/mlflow/users/permissions/{what}",
            json={"username": user, "resource_type": kind, "resource_id": "*", **more},
            headers={
                "Authorization": f"Bearer {token('mlflow')}",
                identity.WORKSPACE_HEADER: workspace(),
            },
            timeout=TIMEOUT_S,
        )
    except requests.RequestException as error:
        raise FacilityError(
            f"MLflow at {address} does not answer ({type(error).__name__}); try again in a minute"
        ) from error
    if answer.ok or (what == "revoke" and answer.status_code == 404):
        return
    raise FacilityError(f"MLflow did not {what} {user!r} a look at my runs: {answer.text[:200]}")
