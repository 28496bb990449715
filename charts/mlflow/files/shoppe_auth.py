"""Login at MLflow by the facility's signed tokens; each user has a workspace.

MLflow calls `authenticate` for each request (`authorization_function` of its
configuration).  A user's first request makes the user and the workspace.
"""

import configparser
import functools
import logging
import os
import re
import secrets

from coffea_shoppe_contract import identity
from coffea_shoppe_identity import Identity, Published, RefusedError, Verifier, bearer
from flask import Response, g, request
from mlflow.entities import Workspace
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode
from werkzeug.datastructures import Authorization

LOG = logging.getLogger(__name__)
# Who asked for what is told, whatever level MLflow leaves to others.
LOG.setLevel(logging.INFO)
LOG.addHandler(logging.StreamHandler())
LOG.propagate = False

CLOSED = re.compile(
    r".*/mlflow/users/(create|create-ui|delete|update-password|update-admin)"
    r"|.*/mlflow/(demo|assistant)(/.*)?"
    r"|(.*/)?signup"
)
"""What nobody may do: users are the facility's, and the rest costs or sends something."""

_known: set[str] = set()


@functools.cache
def _settings() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(os.environ["MLFLOW_AUTH_CONFIG_PATH"])
    return parser


@functools.cache
def _verifier() -> Verifier:
    facility = _settings()["facility"]
    verifier = Verifier(Published(facility["api"]), issuer=facility["issuer"], audience="mlflow")
    verifier.start()
    return verifier


def authenticate() -> Authorization | Response:
    """Return who sends this request, or the refusal."""
    admin = _settings()["mlflow"]["admin_username"]
    try:
        token = bearer(request.headers.get("Authorization", ""))
    except RefusedError as refused:
        return _refuse(str(refused))
    try:
        who = _verifier().verify(token)
    except RefusedError as refused:
        try:
            _verifier().verify(token, audience=identity.MLFLOW_ADMIN)
        except RefusedError:
            LOG.warning("%s refused: %s", request.path, refused)
            return _refuse(str(refused))
        return Authorization("basic", {"username": admin, "password": ""})
    if who.user == admin:
        return _refuse(f"{admin!r} is no user")
    if CLOSED.fullmatch(request.path):
        return Response("this is not for users of the facility", 403)
    if who.uid not in _known:
        _welcome(who)
        _known.add(who.uid)
    if not g.get("told"):  # MLflow asks several times for some requests
        g.told = True
        LOG.info("%s %s for %s", request.method, request.path, who.user)
    return Authorization("basic", {"username": who.user, "password": ""})


def _refuse(why: str) -> Response:
    return Response(why, 401, {"WWW-Authenticate": "Bearer"})


def _welcome(who: Identity) -> None:
    """Make the user and the workspace, where they are not there yet.

    The password is known to nobody, and by no password is anybody let in.
    """
    # Not at the module's top: this module is imported while that one is.
    from mlflow.server.auth import store
    from mlflow.server.workspace_helpers import _get_workspace_store

    workspace = identity.workspace_name(who.user)
    for make in (
        lambda: store.create_user(who.user, secrets.token_urlsafe(32)),
        lambda: _get_workspace_store().create_workspace(
            Workspace(name=workspace, description=f"of {who.user}")
        ),
    ):
        try:
            make()
        except MlflowException as error:
            # Two requests at once, or a user who comes back.
            if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
                raise
    store.set_workspace_permission(workspace, who.user, "MANAGE")
