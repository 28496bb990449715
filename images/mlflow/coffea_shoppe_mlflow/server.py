"""MLflow's application with login, behind the quota of uploads and limits on what it reads.

MLflow reads the whole body of most requests into memory before it knows the sender, and
decompresses those of OpenTelemetry to any size.  Uploads of artifacts alone are streams.  All
requests are counted, those that are refused too.
"""

from coffea_shoppe_identity.bodies import (
    SENDER,
    Application,
    BodyLimits,
    Receive,
    Scope,
    Send,
    refuse,
)
from coffea_shoppe_identity.capacity import Capacity
from fastapi import FastAPI
from starlette.datastructures import Headers

from coffea_shoppe_mlflow import auth
from coffea_shoppe_mlflow.counters import Counters
from coffea_shoppe_mlflow.endpoints import ARTIFACT_UPLOAD
from coffea_shoppe_mlflow.uploads import UploadQuota

LARGEST_BODY = 32 * 2**20
"""A batch of traces or an image of the user interface, bytes."""
BODIES, BODIES_PER_USER = 3 * LARGEST_BODY, 2 * LARGEST_BODY
"""Bytes of bodies that are held at once: of all users, and of each.  MLflow has two copies."""
LARGEST_OF_NOBODY = 64 * 2**10
"""Of a request without a valid token, which MLflow refuses after it has read the body, bytes."""
OPERATOR = "operator"
"""The sender of requests with the operator's token."""


class Limits:
    """Middleware: limits bodies by their sender, and refuses compressed ones."""

    def __init__(self, application: Application) -> None:
        self.streaming = application
        capacity = Capacity(BODIES, BODIES_PER_USER)
        self.reading = BodyLimits(application, largest=LARGEST_BODY, capacity=capacity)
        self.of_nobody = BodyLimits(application, largest=LARGEST_OF_NOBODY, capacity=capacity)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self.streaming(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if headers.get("content-encoding", "identity").lower() != "identity":
            await refuse(415, "send the body without compression", send)
            return
        with auth.verifying(headers.get("authorization", "")) as sender:
            await self._application(scope, sender)(scope, receive, send)

    def _application(self, scope: Scope, sender: auth.Sender) -> Application:
        """Return the application with the limits for a sender, and note who it is."""
        if sender.refusal:
            # MLflow itself refuses the request.
            return self.of_nobody
        scope[SENDER] = sender.identity.uid if sender.identity else OPERATOR
        upload = ARTIFACT_UPLOAD.fullmatch(f"{scope['method']} {scope['path']}")
        return self.streaming if upload else self.reading


def create_app() -> FastAPI:
    """Return the application, as `mlflow server --app-name` calls for it."""
    # Not at the module's top: it reads MLflow's configuration.
    from mlflow.server.auth import create_app as create_mlflow

    application: FastAPI = create_mlflow()
    application.add_middleware(UploadQuota)
    application.add_middleware(Limits)
    application.add_middleware(Counters)
    return application
