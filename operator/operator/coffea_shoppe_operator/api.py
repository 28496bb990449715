"""The facility API: keys and revocations for services, users' status and models, logins."""

import argparse
import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from coffea_shoppe_contract import listening
from coffea_shoppe_contract.api import (
    ARTIFACT_QUOTA_PATH,
    KEYS_PATH,
    QUOTA_PATH,
    REVOCATIONS_PATH,
    SERVE_PATH,
    STATUS_PATH,
)
from coffea_shoppe_contract.logs import start_logging
from coffea_shoppe_contract.names import model_prefix, resource_name
from coffea_shoppe_contract.resources import USER_LABEL
from coffea_shoppe_identity import RefusedError, VerificationData, Verifier, bearer
from coffea_shoppe_identity.bodies import SENDER, BodyLimits
from coffea_shoppe_identity.capacity import Capacity
from coffea_shoppe_identity.connections import UVICORN
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from coffea_shoppe_operator import builders, composition, quotas, signing
from coffea_shoppe_operator.adapters.base import GB
from coffea_shoppe_operator.clients.hub import Hub
from coffea_shoppe_operator.errors import StorageError
from coffea_shoppe_operator.forward_auth import ForwardAuth
from coffea_shoppe_operator.models import FacilityUser, ServedModel, ServedModelSpec, Settings
from coffea_shoppe_operator.schema import first_problem
from coffea_shoppe_operator.storage import Storage

LOG = logging.getLogger(__name__)
LARGEST_BODY = 64 * 2**10
"""Bytes of a request to serve a model, or of a login's form."""
TOTAL_BODY_BYTES, USER_BODY_BYTES = 4 * 2**20, 2**20
"""Bytes of bodies in memory at once: of all users, and of each."""
PROBE_S = 3
PORTS = {"root": 1094, "http": 80, "https": 443}

Handler = Callable[[Request, FacilityUser], Awaitable[Response]]


async def connection_problem(address: str) -> str:
    """Return why an address does not accept connections, or ''."""
    parts = urlsplit(address)
    port = parts.port or PORTS.get(parts.scheme)
    if not parts.hostname or not port:
        return f"{address!r} is not a valid address"
    try:
        opened = asyncio.open_connection(parts.hostname, port)
        _, writer = await asyncio.wait_for(opened, PROBE_S)
    except TimeoutError:
        return f"does not respond within {PROBE_S} s"
    except OSError as error:
        return os.strerror(error.errno) if error.errno else str(error)
    writer.close()
    return ""


def application(settings: Settings, cluster: Storage) -> Starlette:
    """Return the API of a facility."""

    def documents() -> dict[str, object]:
        return cluster.read_published(settings.namespace, settings.published)

    def latest() -> VerificationData:
        return VerificationData.parse(*signing.published_keys(documents()))

    adapters = composition.adapters(settings, cluster, composition.Clients.of(settings))
    verifier = Verifier(latest, issuer=settings.issuer, audience="api")
    verifier.start()
    serving = asyncio.Lock()

    def published(document: str) -> Response:
        try:
            content = documents().get(document)
        except StorageError as error:
            return JSONResponse({"error": str(error)}, status_code=503)
        if content is None:
            return JSONResponse({"error": "the operator has not published yet"}, status_code=503)
        return JSONResponse(content)

    async def keys(_: Request) -> Response:
        return await run_in_threadpool(published, signing.KEYS_DOCUMENT)

    async def revocations(_: Request) -> Response:
        return await run_in_threadpool(published, signing.REVOCATIONS_DOCUMENT)

    def identified(
        handler: Handler, *, audience: str = "api"
    ) -> Callable[[Request], Awaitable[Response]]:
        """Return a handler that is called with the FacilityUser of the request's token."""

        async def handle(request: Request) -> Response:
            try:
                token = bearer(request.headers.get("Authorization", ""))
                identity = verifier.verify(token, audience=audience)
            except RefusedError as error:
                LOG.warning("%s refused: %s", request.url.path, error)
                headers = {"WWW-Authenticate": "Bearer"}
                return JSONResponse({"error": str(error)}, status_code=401, headers=headers)
            request.scope[SENDER] = identity.uid
            LOG.info("%s %s for %s", request.method, request.url.path, identity.user)
            name = resource_name(identity.user)
            try:
                body = await run_in_threadpool(cluster.read_user, settings.namespace, name)
                if body is None or body["spec"]["username"] != identity.user:
                    missing = {"error": f"there is no user {identity.user!r}"}
                    return JSONResponse(missing, status_code=404)
                return await handler(request, FacilityUser.parse(body))
            except StorageError as error:
                return JSONResponse({"error": str(error)}, status_code=503)

        return handle

    def limits(user: FacilityUser) -> list[dict[str, Any]]:
        """Return a user's limits, and what is used of them."""
        owner = user.owner(quotas.effective(user.spec, settings.quotas))
        usage = [row for adapter in adapters for row in adapter.usage(owner)]
        return [vars(row) for row in sorted(usage, key=lambda row: row.service)]

    async def quota(_: Request, user: FacilityUser) -> Response:
        return JSONResponse({"quota": await run_in_threadpool(limits, user)})

    async def artifact_quota(_: Request, user: FacilityUser) -> Response:
        """Tell MLflow, which has the user's token, how much of the quota is not its own."""
        gigabytes = quotas.effective(user.spec, settings.quotas).object_store.gigabytes or 0
        used = user.status.used
        return JSONResponse(
            {"limit": round(gigabytes * GB), "elsewhere": used.object_store - used.mlflow}
        )

    async def status(_: Request, user: FacilityUser) -> Response:
        rows = await run_in_threadpool(limits, user)
        problems = await asyncio.gather(*map(connection_problem, settings.connections.values()))
        return JSONResponse(
            {
                "user": user.spec.username,
                "groups": user.spec.groups,
                "validUntil": user.status.valid_until,
                "quota": rows,
                "conditions": [c.model_dump(by_alias=True) for c in user.status.conditions],
                "services": {
                    service: {"address": address, "healthy": not problem, "problem": problem}
                    for (service, address), problem in zip(
                        settings.connections.items(), problems, strict=True
                    )
                },
            }
        )

    async def serve(request: Request, user: FacilityUser) -> Response:
        if not settings.triton:
            return JSONResponse(
                {"error": "this facility has no Triton to serve models"}, status_code=404
            )
        try:
            body = await request.json()
            fixed = {"username": user.spec.username, "requestedAt": time.time()}
            spec = ServedModelSpec.model_validate({**body, **fixed})
        except (ValueError, TypeError, RecursionError) as error:  # Pydantic's are ValueErrors
            return JSONResponse({"error": _body_problem(error)}, status_code=422)
        # One at a time: two simultaneous requests could exceed the quota together.
        async with serving:
            return await run_in_threadpool(write_model, user, spec)

    def write_model(user: FacilityUser, spec: ServedModelSpec) -> Response:
        """Create or update a served model within the user's quota."""
        labels = {USER_LABEL: user.name}
        limit = quotas.effective(user.spec, settings.quotas).triton.models
        names = names_of_models(labels)
        if limit and spec.name not in names and len(names) >= limit:
            return _too_many(names, limit)
        desired = builders.served_model(user, spec, settings, {**settings.labels, **labels})
        written = cluster.write_model(desired)
        if _being_deleted(written):
            message = f"{spec.name!r} is still being removed; try again in some seconds"
            return JSONResponse({"error": message}, status_code=409)
        if limit and spec.name not in names:
            # Another replica of this API may have accepted one at the same time; then both may be
            # refused.
            names = names_of_models(labels)
            if len(names) > limit:
                cluster.delete_model(settings.namespace, written["metadata"]["name"])
                return _too_many(names - {spec.name}, limit)
        return JSONResponse(model_view(written), status_code=202)

    def names_of_models(labels: dict[str, str]) -> set[str]:
        models = cluster.list_models(settings.namespace, labels)
        return {model["spec"]["name"] for model in models}

    async def served(_: Request, user: FacilityUser) -> Response:
        labels = {USER_LABEL: user.name}
        models = await run_in_threadpool(cluster.list_models, settings.namespace, labels)
        return JSONResponse(
            {"models": [model_view(model) for model in models if not _being_deleted(model)]}
        )

    async def served_by_name(request: Request, user: FacilityUser) -> Response:
        name = f"{model_prefix(user.spec.username)}{request.path_params['name']}"
        body = await run_in_threadpool(cluster.read_model, settings.namespace, name)
        if body is None or _being_deleted(body):
            return _no_model(name)
        if request.method == "DELETE":
            await run_in_threadpool(cluster.delete_model, settings.namespace, name)
            return JSONResponse({}, 202)
        return JSONResponse(model_view(body))

    async def health(_: Request) -> Response:
        ready = await run_in_threadpool(verifier.refresh)
        return PlainTextResponse("ok" if ready else "no keys yet", 200 if ready else 503)

    forward_auth: list[Route] = []
    if settings.hub:
        forward_auth = ForwardAuth(settings, Hub(settings.hub), cluster).routes(limits)
    capacity = Capacity(TOTAL_BODY_BYTES, USER_BODY_BYTES, small=0)
    return Starlette(
        middleware=[Middleware(BodyLimits, largest=LARGEST_BODY, capacity=capacity)],
        routes=[
            *forward_auth,
            Route(KEYS_PATH, keys),
            Route(REVOCATIONS_PATH, revocations),
            Route(STATUS_PATH, identified(status)),
            Route(QUOTA_PATH, identified(quota)),
            Route(ARTIFACT_QUOTA_PATH, identified(artifact_quota, audience="mlflow")),
            Route(SERVE_PATH, identified(serve), methods=["POST"]),
            Route(SERVE_PATH, identified(served)),
            Route(f"{SERVE_PATH}/{{name}}", identified(served_by_name), methods=["GET", "DELETE"]),
            Route("/healthz", health),
        ],
    )


def model_view(body: dict[str, Any]) -> dict[str, Any]:
    """Return a ServedModel in the form of the API."""
    model = ServedModel.parse(body)
    status = model.status.model_dump(by_alias=True)
    return {**model.spec.model_dump(by_alias=True), "status": status}


def _being_deleted(body: dict[str, Any]) -> bool:
    """Return whether a resource is being deleted."""
    return bool(body["metadata"].get("deletionTimestamp"))


def _too_many(names: Collection[str], limit: int) -> Response:
    message = (
        f"{len(names)} of your models are served, and your quota is {limit}; "
        f"stop serving one of: {', '.join(sorted(names))}"
    )
    return JSONResponse({"error": message}, status_code=409)


def _no_model(name: str) -> Response:
    return JSONResponse({"error": f"no model {name!r} is served"}, status_code=404)


def _body_problem(error: Exception) -> str:
    """Return why the body of a request is invalid."""
    if isinstance(error, ValidationError):
        return first_problem(error)
    return f"the body is not a JSON object ({error})"


def main() -> None:
    """Serve the API until the pod ends."""
    parser = argparse.ArgumentParser(description="The API of a Coffea Shoppe facility.")
    parser.add_argument("--settings", type=Path, default=Path("/etc/coffea-shoppe/operator.yaml"))
    parser.add_argument("--port", type=int, default=8080)
    options = parser.parse_args()
    app = application(Settings.load(options.settings), Storage())
    start_logging()
    uvicorn.run(app, host=listening.ASYNCIO, port=options.port, **UVICORN)


if __name__ == "__main__":
    main()
