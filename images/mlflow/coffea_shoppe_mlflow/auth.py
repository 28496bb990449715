"""Login at MLflow by the facility's signed tokens; each user has a workspace.

MLflow calls `authenticate` for each request: `authorization_function` of its configuration
names it.  A user's first request creates the user and the workspace.  The middleware that needs
the sender before MLflow does verifies the token, once (`verifying`).
"""

import configparser
import functools
import logging
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial

from coffea_shoppe_contract.claims import MLFLOW_ADMIN
from coffea_shoppe_contract.logs import OneLineFormatter
from coffea_shoppe_contract.names import workspace_name
from coffea_shoppe_identity import Identity, Published, RefusedError, Verifier, bearer
from flask import Response, after_this_request, g, request
from mlflow.entities import Workspace
from mlflow.environment_variables import MLFLOW_CREATE_MODEL_VERSION_SOURCE_VALIDATION_REGEX
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode
from werkzeug.datastructures import Authorization

from coffea_shoppe_mlflow.error_texts import without_sql

LOG = logging.getLogger(__name__)
# Requests are logged with their users, at any level that MLflow sets for other loggers.
LOG.setLevel(logging.INFO)
LOG.propagate = False
HANDLER = logging.StreamHandler()
HANDLER.setFormatter(OneLineFormatter())
LOG.addHandler(HANDLER)

CLOSED = re.compile(
    r".*/mlflow/users/(create|create-ui|delete|list|update-password|update-admin)"
    r"|.*/mlflow/(demo|assistant)(/.*)?"
    r"|(.*/)?signup"
)
"""Paths that no user may call: the facility manages users, and lists them to nobody; the others
cost money or send data out."""

READ_VERSION = re.compile(r"(.*/)?model-versions/get-artifact")
"""Paths at which the server reads the source of a model version."""


@dataclass(frozen=True)
class Sender:
    """Whose token a request has."""

    identity: Identity | None = None
    """The user; None: the operator, or nobody."""
    is_operator: bool = False
    refusal: str = ""
    """Why there is no valid token; '' if there is."""


_current: ContextVar[tuple[str, Sender] | None] = ContextVar("current", default=None)
"""The Authorization header of the request that is served, and its sender.

MLflow's Flask application does not get the ASGI scope; its threads get the context.
"""

_known: set[str] = set()
"""The uids of users who have a user and a workspace here."""


@functools.cache
def settings() -> configparser.ConfigParser:
    """Return MLflow's configuration of its login, with a section of the facility's."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(os.environ["MLFLOW_AUTH_CONFIG_PATH"])
    return parser


@functools.cache
def verifier() -> Verifier:
    """Return what verifies the facility's tokens for MLflow."""
    facility = settings()["facility"]
    started = Verifier(Published(facility["api"]), issuer=facility["issuer"], audience="mlflow")
    started.start()
    return started


def _verify(authorization: str) -> Sender:
    try:
        token = bearer(authorization)
    except RefusedError as refused:
        return Sender(refusal=str(refused))
    try:
        return Sender(verifier().verify(token))
    except RefusedError as refused:
        try:
            verifier().verify(token, audience=MLFLOW_ADMIN)
        except RefusedError:
            return Sender(refusal=str(refused))
        return Sender(is_operator=True)


@contextmanager
def verifying(authorization: str) -> Iterator[Sender]:
    """Yield the sender of a request, whose token is not verified again meanwhile."""
    sender = _verify(authorization)
    reset = _current.set((authorization, sender))
    try:
        yield sender
    finally:
        _current.reset(reset)


def sender_of(authorization: str) -> Sender:
    """Return the sender of a request with an Authorization header."""
    current = _current.get()
    if current is not None and current[0] == authorization:
        return current[1]
    return _verify(authorization)


def authenticate() -> Authorization | Response:
    """Return the user of this request, or the response that refuses it."""
    admin = settings()["mlflow"]["admin_username"]
    authorization = request.headers.get("Authorization", "")
    sender = sender_of(authorization)
    if sender.is_operator:
        return Authorization("basic", {"username": admin, "password": ""})
    identity = sender.identity
    if identity is None:
        if authorization:
            LOG.warning("%s refused: %s", request.path, sender.refusal)
        return _refuse(sender.refusal)
    if identity.user == admin:
        return _refuse(f"{admin!r} is not a user")
    if CLOSED.fullmatch(request.path):
        return Response("this is not for users of the facility", 403)
    if READ_VERSION.fullmatch(request.path) and (reason := _foreign_source()):
        return Response(reason, 403)
    if identity.uid not in _known:
        _welcome(identity)
        _known.add(identity.uid)
    if not g.get("logged"):  # MLflow calls this several times for some requests
        g.logged = True
        days = settings().get("facility", "gc_older_than", fallback="")
        after_this_request(partial(without_sql, older_than=days))
        LOG.info("%s %s for %s", request.method, request.path, identity.user)
    return Authorization("basic", {"username": identity.user, "password": ""})


def _refuse(reason: str) -> Response:
    return Response(reason, 401, {"WWW-Authenticate": "Bearer"})


def _foreign_source() -> str:
    """Return why the artifacts of the requested model version are not read, or ''.

    MLflow checks the source of a new version; this is for older versions.
    """
    from mlflow.server.handlers import _get_model_registry_store

    name, version = request.args.get("name", ""), request.args.get("version", "")
    try:
        source = _get_model_registry_store().get_model_version_download_uri(name, version)
    except MlflowException:
        return ""  # the server's response has the error
    if re.search(MLFLOW_CREATE_MODEL_VERSION_SOURCE_VALIDATION_REGEX.get(), source):
        return ""
    return (
        f"version {version} of {name} names {source}, which is not in MLflow: register it from "
        "a run, for example with mlflow.register_model('runs:/RUN/model', NAME)"
    )


def _welcome(identity: Identity) -> None:
    """Create the user and the workspace, unless they exist.

    The password is random and unknown; nobody can log in with a password.
    """
    # Imported here, because that module imports this one.
    from mlflow.server.auth import store
    from mlflow.server.workspace_helpers import _get_workspace_store

    workspace = workspace_name(identity.user)
    description = f"of {identity.user}"
    makers: tuple[Callable[[], object], ...] = (
        lambda: store.create_user(identity.user, secrets.token_urlsafe(32)),
        lambda: _get_workspace_store().create_workspace(
            Workspace(name=workspace, description=description)
        ),
    )
    for make in makers:
        try:
            make()
        except MlflowException as error:
            # Another request, or an earlier session, has created it.
            if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
                raise
    store.set_workspace_permission(workspace, identity.user, "MANAGE")
