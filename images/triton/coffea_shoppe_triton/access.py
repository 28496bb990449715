"""Which user may make which request to Triton: the same rules for HTTP and gRPC."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from coffea_shoppe_contract.claims import TRITON_ADMIN
from coffea_shoppe_contract.names import model_prefix
from coffea_shoppe_identity import Identity, RefusedError, Verifier, bearer

Kind = Literal["open", "anyone", "model", "operator", "nobody"]
"""Who may make a request: everybody, any user, the model's owner, the operator, or nobody."""

Routing = Literal["here", "any", "all"]
"""Which replicas process a request: the one that received the request, any one, or all of them."""

MODEL = re.compile(
    r"/v2/models/(?P<model>[a-z0-9.-]+)(?:/versions/\d+)?(?:/(?P<what>infer|ready|config|stats))?"
)
STATISTICS = "/v2/models/stats"
LOADING = re.compile(r"/v2/repository/models/[^/]+/(?:load|unload)")
ROUTING: dict[str, Routing] = {
    "infer": "any",
    "ready": "all",
    "stats": "all",
    "ModelInfer": "any",
    "ModelReady": "all",
    "ModelStatistics": "all",
    "RepositoryModelLoad": "all",
    "RepositoryModelUnload": "all",
}
"""By the last part of an HTTP path, or the gRPC method; all others are `here`."""
SERVICE = "/inference.GRPCInferenceService/"
METHODS: dict[str, Kind] = {
    "ServerLive": "open",
    "ServerReady": "open",
    "ServerMetadata": "anyone",
    "ModelReady": "model",
    "ModelMetadata": "model",
    "ModelConfig": "model",
    "ModelStatistics": "model",
    "ModelInfer": "model",
    "RepositoryIndex": "operator",
    "RepositoryModelLoad": "operator",
    "RepositoryModelUnload": "operator",
}


class DeniedError(Exception):
    """The token is valid, but the user may not make this request; the text may be shown."""


@dataclass(frozen=True)
class Target:
    """What a request is addressed to."""

    kind: Kind
    model: str = ""
    routing: Routing = "here"


def http_target(path: str) -> Target:
    """Return the target of an HTTP request to a path."""
    if path in ("/v2/health/live", "/v2/health/ready"):
        return Target("open")
    if path == "/v2":
        return Target("anyone")
    if path.startswith("/v2/repository/"):
        return Target("operator", routing="all" if LOADING.fullmatch(path) else "here")
    if path == STATISTICS:
        return Target("operator", routing="all")
    if match := MODEL.fullmatch(path):
        return Target("model", match["model"], ROUTING.get(match["what"] or "", "here"))
    return Target("nobody")


def grpc_target(method: str, model: Callable[[], str]) -> Target:
    """Return the target of a gRPC call; `model` returns the model's name in its message."""
    name = method.removeprefix(SERVICE)
    kind = METHODS.get(name, "nobody")
    return Target(kind, model() if kind == "model" else "", ROUTING.get(name, "here"))


class Authorizer:
    """Decides whether the sender of a request may make it."""

    def __init__(self, verifier: Verifier) -> None:
        self.verifier = verifier

    def authorize(self, target: Target, authorization: str) -> str:
        """Return the user of a request, or '' where everybody may make it.

        Raises `RefusedError` where the token is not valid, and `DeniedError` where its user
        may not make this request.
        """
        if target.kind == "open":
            return ""
        identity = self._identify(bearer(authorization))
        if identity is None:
            return "operator"
        user = identity.user
        if target.kind == "anyone":
            return user
        if target.kind == "model" and target.model.startswith(model_prefix(user)):
            return user
        if target.kind == "model":
            raise DeniedError(f"{target.model!r} is not a model of {user!r}")
        raise DeniedError("only the facility's operator may make this request")

    def user(self, authorization: str) -> str:
        """Return the user of a token; raises `RefusedError` where it is not valid."""
        identity = self._identify(bearer(authorization))
        return identity.user if identity else "operator"

    def _identify(self, token: str) -> Identity | None:
        """Return the user of a token, or None for the operator's own."""
        try:
            return self.verifier.verify(token)
        except RefusedError:
            try:
                self.verifier.verify(token, audience=TRITON_ADMIN)
            except RefusedError:
                pass
            else:
                return None
            raise
