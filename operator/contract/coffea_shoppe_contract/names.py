"""Names of what a user has in the cluster and in each service."""

import hashlib
import re

SERVICEX_FOLDER = "servicex"
"""Folder of a user's bucket below which ServiceX keeps results."""
CODE_TAG = "code.sha256"
"""Tag of an MLflow run: the digest of its code, where no git commit is known."""


def resource_name(user: str) -> str:
    """Return the name of a user's FacilityUser: a DNS label, and no two users share one."""
    plain = re.sub(r"[^a-z0-9]+", "-", user.lower()).strip("-")[:40].strip("-")
    if plain == user and not re.search(r"-[0-9a-f]{8}$", user):
        return plain
    return f"{plain or 'user'}-{hashlib.sha256(user.encode()).hexdigest()[:8]}"


def secret_name(user: str) -> str:
    """Return the name of the Secret with a user's tokens and connections."""
    return f"shoppe-user-{resource_name(user)}"


def bucket_name(user: str) -> str:
    """Return the name of a user's bucket."""
    return f"user-{resource_name(user)}"


def account_names(user: str) -> tuple[str, str]:
    """Return the names of a user's two accounts in the object store; the first owns the bucket.

    Their keys are rotated in turn: the previous key stays valid while clients read the next.
    """
    bucket = bucket_name(user)
    return bucket, f"{bucket}.2"


def workspace_name(user: str) -> str:
    """Return the name of a user's workspace in MLflow."""
    return f"user-{resource_name(user)}"


def artifact_folder(workspace: str) -> str:
    """Return the folder of a workspace's artifacts, where MLflow stores them."""
    return f"workspaces/{workspace}"


def model_prefix(user: str) -> str:
    """Return the prefix of the names of a user's models in Triton."""
    return f"{resource_name(user)}."


def service_name(service: str) -> str:
    """Return the name of a service's bucket, and of the account that owns it."""
    return f"service-{service}"
