"""Who somebody is to every service of a facility, and for how long.

The operator signs tokens (JSON Web Tokens, RFC 7519); services verify them offline
with the facility's published keys and look at its list of revocations.  What is in a
token, and what makes it good, stands here alone.  Checking the signature needs a
cryptographic library and is done by `coffea_shoppe_identity`.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ALGORITHM = "ES256"
SERVICEX_REFRESH = "servicex-refresh"
"""The audience of tokens with which the stock ServiceX client asks for access tokens.

They are good for nothing else, so that they may live for as long as a client does.
"""
AUDIENCES = ("api", "mlflow", "s3", "servicex", SERVICEX_REFRESH, "triton")
"""The services that tokens are for; each accepts none but its own."""
MLFLOW_ADMIN = "mlflow-admin"
"""The audience of the operator's own tokens for MLflow; users get none."""
TRITON_ADMIN = "triton-admin"
"""The same for Triton, whose models it loads and unloads."""
SERVICEX_ADMIN = "servicex-admin"
"""The same for ServiceX, which it tells of its users."""

LIFETIME_S = 900
"""A token's life, unless a facility has a shorter one; it is renewed at half of it."""
SHORTEST_S = 300
"""The shortest life that a facility may give tokens: files in pods are minutes behind."""
REFRESH_LIFETIME_S = 24 * 3600
"""The life of a token that is for `SERVICEX_REFRESH`; revoked like any other."""
LONGEST_S = max(LIFETIME_S, REFRESH_LIFETIME_S)
"""The longest that any token lives: so long keys and revocations are published."""
LEEWAY_S = 10
"""By how much the clocks of two pods may differ."""
POLL_S = 10
"""How often a service looks for new keys and revocations."""
STALE_S = 60
"""A service that has had no news for so long refuses everybody."""

KEYS_PATH = "/keys"
REVOCATIONS_PATH = "/revocations"
STATUS_PATH = "/status"
QUOTA_PATH = "/quota"
AUTHORIZE_PATH = "/authorize"
SERVE_PATH = "/serve"
"""Paths of the facility API."""

FOLDER = "/run/coffea-shoppe"
"""Where a user's pods find tokens and connections, as files that are renewed."""
ENV_FOLDER = "SHOPPE_IDENTITY"
"""Names another folder than `FOLDER`."""
CONNECTIONS_FILE = "connections.json"
"""Service → address."""
S3_CONFIG_FILE, S3_CREDENTIALS_FILE = "aws-config", "aws-credentials"
"""What every client of S3 reads where AWS_CONFIG_FILE and AWS_SHARED_CREDENTIALS_FILE say so.

Users have no credentials file: their config names a process that tells the present keys.
"""
S3_KEYS_FILE = "aws-keys.json"
"""A user's present keys, as that process tells them, and when clients must ask again."""
S3_BUCKET_FILE = "s3-bucket"
"""Holds the name of the user's own bucket."""
SERVICEX_FILE = "servicex.yaml"
"""What the stock ServiceX client reads."""
SERVICEX_FOLDER = "servicex"
"""Folder of a user's bucket below which ServiceX keeps results."""
WORKSPACE_FILE = "mlflow-workspace"
"""Holds the name of the user's own workspace in MLflow."""
CODE_TAG = "code.sha256"
"""Of a run in MLflow: the digest of the code that made it, where no git commit is known."""
WORKSPACE_HEADER = "X-Mlflow-Workspace"
"""Names the workspace that a request to MLflow is for."""

DASK_SCHEDULER, DASK_WORKER = "dask-scheduler", "dask-worker"
"""How dask-gateway labels its pods (`app.kubernetes.io/component`)."""

GROUP, VERSION = "coffea-shoppe.dev", "v1alpha1"
USER_LABEL = f"{GROUP}/user"
"""Label of whatever belongs to a user: the name of the user's resource."""
USERS = "facilityusers"
"""The custom resource that stands for a user: its group, version and plural."""
MODELS = "servedmodels"
"""The plural of the custom resource that stands for a model in Triton."""
WANTED = f"{GROUP}/wanted"
"""Annotation: when (Unix time) somebody last asked for fresh tokens."""


class RefusedError(Exception):
    """A token that is not good; the text says why, and is fit for the user's eyes."""


@dataclass(frozen=True)
class Identity:
    """A user whose token was good."""

    user: str
    """The hub's name of the user."""
    uid: str
    """Of the user's resource: another user of the same name, later, has another."""
    groups: tuple[str, ...]
    expires: float
    """Unix time."""


def lifetime_s(audience: str, usual: int = LIFETIME_S) -> int:
    """Return how long a token for a service lives."""
    return REFRESH_LIFETIME_S if audience == SERVICEX_REFRESH else usual


def token_file(audience: str) -> str:
    """Return the name of the file that holds the token for a service."""
    return f"token-{audience}"


def resource_name(user: str) -> str:
    """Return the name of the resource that stands for a user.

    It is a DNS label; two users never share one.
    """
    plain = re.sub(r"[^a-z0-9]+", "-", user.lower()).strip("-")[:40].strip("-")
    if plain == user and not re.search(r"-[0-9a-f]{8}$", user):
        return plain
    return f"{plain or 'user'}-{hashlib.sha256(user.encode()).hexdigest()[:8]}"


def secret_name(user: str) -> str:
    """Return the name of the Secret with a user's tokens and connections."""
    return f"shoppe-user-{resource_name(user)}"


def mounted(secret: str, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the volume of a user's Secret, and its mount, for a pod of that user's.

    `options` are Kubernetes' own of such a volume.
    """
    volume = {"name": "identity", "secret": {"secretName": secret, **options}}
    return volume, {"name": "identity", "mountPath": FOLDER, "readOnly": True}


def bucket_name(user: str) -> str:
    """Return the name of the user's bucket."""
    return f"user-{resource_name(user)}"


def account_names(user: str) -> tuple[str, str]:
    """Return the names of the user's accounts in the object store.

    Their keys take turns, so that one is still good when the next one arrives.  The first
    owns the bucket.
    """
    bucket = bucket_name(user)
    return bucket, f"{bucket}.2"


def workspace_name(user: str) -> str:
    """Return the name of the user's workspace in MLflow."""
    return f"user-{resource_name(user)}"


def model_prefix(user: str) -> str:
    """Return what the names of a user's models in Triton begin with."""
    return f"{resource_name(user)}."


def service_name(service: str) -> str:
    """Return the name of a service's bucket, and of the account that owns it."""
    return f"service-{service}"


def claims(
    *,
    issuer: str,
    audience: str,
    user: str,
    uid: str,
    groups: tuple[str, ...],
    now: float,
    lifetime: int = LIFETIME_S,
) -> dict[str, Any]:
    """Return what a token says; `lifetime` is for all but those that live for a day."""
    return {
        "iss": issuer,
        "aud": audience,
        "sub": user,
        "uid": uid,
        "groups": list(groups),
        "iat": int(now),
        "exp": int(now) + lifetime_s(audience, lifetime),
    }


def identify(
    said: Mapping[str, Any],
    *,
    issuer: str,
    audience: str,
    now: float,
    revoked: Mapping[str, float],
) -> Identity:
    """Return whose token this is, its signature being good.

    `revoked` gives, by a user's uid, the time (Unix) up to which tokens are void.
    Raises `RefusedError`.
    """
    try:
        found = Identity(
            user=str(said["sub"]),
            uid=str(said["uid"]),
            groups=tuple(str(group) for group in said["groups"]),
            expires=float(said["exp"]),
        )
        issued = float(said["iat"])
    except (KeyError, TypeError, ValueError) as error:
        raise RefusedError(f"the token lacks {error}") from error
    if said.get("iss") != issuer:
        raise RefusedError(f"the token is of {said.get('iss')!r}, not of this facility")
    if said.get("aud") != audience:
        raise RefusedError(f"the token is for {said.get('aud')!r}, not for {audience!r}")
    if issued > now + LEEWAY_S:
        raise RefusedError("the token is of the future: the clocks differ")
    if now > found.expires + LEEWAY_S:
        raise RefusedError("the token has expired; read it anew from its file")
    if found.expires - issued > lifetime_s(audience):
        raise RefusedError("the token lives longer than this facility allows")
    if issued <= revoked.get(found.uid, -1.0):
        raise RefusedError("the user's access was revoked")
    return found
