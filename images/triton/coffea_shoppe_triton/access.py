"""Who may ask Triton for what; the same rules for HTTP and gRPC."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from coffea_shoppe_contract import identity
from coffea_shoppe_identity import Identity, RefusedError, Verifier, bearer

Kind = Literal["open", "anyone", "model", "operator", "nobody"]
"""Whom a request is for: all, any user, the model's owner, the operator, or nobody."""

Whither = Literal["here", "one", "all"]
"""Which replicas answer: the one that was reached, any one, or all of them."""

MODEL = re.compile(
    r"/v2/models/(?P<model>[a-z0-9.-]+)(?:/versions/\d+)?(?:/(?P<what>infer|ready|config|stats))?"
)
STATISTICS = "/v2/models/stats"
LOADING = re.compile(r"/v2/repository/models/[^/]+/(?:load|unload)")
WHITHER: dict[str, Whither] = {
    "infer": "one",
    "ready": "all",
    "stats": "all",
    "ModelInfer": "one",
    "ModelReady": "all",
    "ModelStatistics": "all",
    "RepositoryModelLoad": "all",
    "RepositoryModelUnload": "all",
}
"""By what is asked, over HTTP or gRPC; all else is answered where it arrives."""
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
    """A good token, but not for this."""


@dataclass(frozen=True)
class Asked:
    """What a request is about."""

    kind: Kind
    model: str = ""
    whither: Whither = "here"


def over_http(path: str) -> Asked:
    """Return what an HTTP request to a path is about."""
    if path in ("/v2/health/live", "/v2/health/ready"):
        return Asked("open")
    if path == "/v2":
        return Asked("anyone")
    if path.startswith("/v2/repository/"):
        return Asked("operator", whither="all" if LOADING.fullmatch(path) else "here")
    if path == STATISTICS:
        return Asked("operator", whither="all")
    if found := MODEL.fullmatch(path):
        return Asked("model", found["model"], WHITHER.get(found["what"] or "", "here"))
    return Asked("nobody")


def over_grpc(method: str, model: Callable[[], str]) -> Asked:
    """Return what a gRPC request is about; `model` reads the model's name from it."""
    name = method.removeprefix(SERVICE)
    kind = METHODS.get(name, "nobody")
    return Asked(kind, model() if kind == "model" else "", WHITHER.get(name, "here"))


class Gate:
    """Lets requests through that their senders may make."""

    def __init__(self, verifier: Verifier) -> None:
        self.verifier = verifier

    def admit(self, asked: Asked, authorization: str) -> str:
        """Return the user who asks, '' where it does not matter.

        Raises `RefusedError` where the token is not good, `DeniedError` where it is not
        for this.
        """
        if asked.kind == "open":
            return ""
        who = self._identify(bearer(authorization))
        if who is None:
            return "operator"
        if asked.kind == "anyone":
            return who.user
        if asked.kind == "model" and asked.model.startswith(identity.model_prefix(who.user)):
            return who.user
        if asked.kind == "model":
            raise DeniedError(f"{asked.model!r} is no model of {who.user!r}")
        raise DeniedError("this is for the facility's operator alone")

    def _identify(self, token: str) -> Identity | None:
        """Return whose token this is; None for the operator's own."""
        try:
            return self.verifier.verify(token)
        except RefusedError:
            try:
                self.verifier.verify(token, audience=identity.TRITON_ADMIN)
            except RefusedError:
                pass
            else:
                return None
            raise
