"""The facility API: keys and revocations for services, a user's own status, and logins."""

import argparse
import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from coffea_shoppe_contract import identity
from coffea_shoppe_identity import News, RefusedError, Verifier, bearer
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from coffea_shoppe_operator import builders, quotas, services
from coffea_shoppe_operator.errors import StorageError
from coffea_shoppe_operator.front import Front
from coffea_shoppe_operator.hub import Hub
from coffea_shoppe_operator.models import FacilityUser, ServedModel, ServedModelSpec, Settings
from coffea_shoppe_operator.storage import Storage

LOG = logging.getLogger(__name__)
PROBE_S = 3
PORTS = {"root": 1094, "http": 80, "https": 443}

Handler = Callable[[Request, FacilityUser], Awaitable[Response]]


async def answers(address: str) -> str:
    """Return why nothing listens at an address, or ''."""
    parts = urlsplit(address)
    port = parts.port or PORTS.get(parts.scheme)
    if not parts.hostname or not port:
        return f"{address!r} is no address"
    try:
        opened = asyncio.open_connection(parts.hostname, port)
        _, writer = await asyncio.wait_for(opened, PROBE_S)
    except TimeoutError:
        return f"does not answer within {PROBE_S} s"
    except OSError as error:
        return os.strerror(error.errno) if error.errno else str(error)
    writer.close()
    return ""


def application(settings: Settings, cluster: Storage) -> Starlette:
    """Return the API of a facility."""

    def documents() -> dict[str, object]:
        return cluster.read_published(settings.namespace, settings.published)

    def latest() -> News:
        return News.parse(*services.news(documents()))

    verifier = Verifier(latest, issuer=settings.issuer, audience="api")
    verifier.start()

    def published(document: str) -> Response:
        try:
            found = documents().get(document)
        except StorageError as error:
            return JSONResponse({"error": str(error)}, status_code=503)
        if found is None:
            return JSONResponse({"error": "the operator has not published yet"}, status_code=503)
        return JSONResponse(found)

    async def keys(_: Request) -> Response:
        return await run_in_threadpool(published, services.KEYS_DOCUMENT)

    async def revocations(_: Request) -> Response:
        return await run_in_threadpool(published, services.REVOCATIONS_DOCUMENT)

    def identified(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """Return a handler that is called with the user who asks, as the cluster holds it."""

        async def handle(request: Request) -> Response:
            try:
                who = verifier.verify(bearer(request.headers.get("Authorization", "")))
            except RefusedError as error:
                LOG.warning("%s refused: %s", request.url.path, error)
                headers = {"WWW-Authenticate": "Bearer"}
                return JSONResponse({"error": str(error)}, status_code=401, headers=headers)
            LOG.info("%s %s for %s", request.method, request.url.path, who.user)
            name = identity.resource_name(who.user)
            try:
                body = await run_in_threadpool(cluster.read_user, settings.namespace, name)
                if body is None:
                    told = {"error": f"there is no user {who.user!r}"}
                    return JSONResponse(told, status_code=404)
                return await handler(request, FacilityUser.parse(body))
            except StorageError as error:
                return JSONResponse({"error": str(error)}, status_code=503)

        return handle

    def limits(user: FacilityUser) -> list[dict[str, Any]]:
        """Return a user's limits, and what is used of them."""
        label, pods, models = {identity.USER_LABEL: user.name}, None, None
        if settings.dask and (where := settings.dask.pods):
            held = cluster.read_pods(where.namespace, {**where.labels, **label})
            workers = [pod for pod in held if pod.component == identity.DASK_WORKER]
            pods = quotas.Pods(
                clusters=sum(pod.component == identity.DASK_SCHEDULER for pod in held),
                cores=sum(pod.cores for pod in workers),
                memory=sum(pod.memory for pod in workers),
            )
        if settings.triton:
            models = len(cluster.list_models(settings.namespace, label))
        quota = quotas.effective(user.spec, settings.quotas)
        return [vars(row) for row in quotas.rows(quota, user.status.used, pods, models)]

    async def quota(_: Request, user: FacilityUser) -> Response:
        return JSONResponse({"quota": await run_in_threadpool(limits, user)})

    async def status(_: Request, user: FacilityUser) -> Response:
        rows = await run_in_threadpool(limits, user)
        problems = await asyncio.gather(*map(answers, settings.connections.values()))
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
            return JSONResponse({"error": "this facility serves no models"}, status_code=404)
        try:
            body = await request.json()
            own = {"username": user.spec.username, "asked": time.time()}
            spec = ServedModelSpec.model_validate({**body, **own})
        except (ValueError, TypeError) as error:  # Pydantic's errors are ValueErrors
            return JSONResponse({"error": _first(error)}, status_code=422)
        labels = {identity.USER_LABEL: user.name}
        held = await run_in_threadpool(cluster.list_models, settings.namespace, labels)
        known = {one["spec"]["name"] for one in held}
        most = quotas.effective(user.spec, settings.quotas).triton.models
        if most and spec.name not in known and len(known) >= most:
            told = f"{len(known)} models of yours are served; stop one: {', '.join(sorted(known))}"
            return JSONResponse({"error": told}, status_code=409)
        wanted = builders.served_model(user, spec, settings, {**settings.labels, **labels})
        written = await run_in_threadpool(cluster.write_model, wanted)
        if _going(written):
            told = f"{spec.name!r} is still being removed; try again in some seconds"
            return JSONResponse({"error": told}, status_code=409)
        return JSONResponse(as_told(written), status_code=202)

    async def served(_: Request, user: FacilityUser) -> Response:
        labels = {identity.USER_LABEL: user.name}
        held = await run_in_threadpool(cluster.list_models, settings.namespace, labels)
        return JSONResponse({"models": [as_told(one) for one in held if not _going(one)]})

    async def one_served(request: Request, user: FacilityUser) -> Response:
        name = f"{identity.model_prefix(user.spec.username)}{request.path_params['name']}"
        body = await run_in_threadpool(cluster.read_model, settings.namespace, name)
        if body is None or _going(body):
            return _no_model(name)
        if request.method == "DELETE":
            await run_in_threadpool(cluster.delete_model, settings.namespace, name)
            return JSONResponse({}, 202)
        return JSONResponse(as_told(body))

    async def health(_: Request) -> Response:
        ready = await run_in_threadpool(verifier.refresh)
        return PlainTextResponse("ok" if ready else "no keys yet", 200 if ready else 503)

    front = Front(settings, Hub(settings.hub), cluster).routes(limits) if settings.hub else []
    return Starlette(
        routes=[
            *front,
            Route(identity.KEYS_PATH, keys),
            Route(identity.REVOCATIONS_PATH, revocations),
            Route(identity.STATUS_PATH, identified(status)),
            Route(identity.QUOTA_PATH, identified(quota)),
            Route(identity.SERVE_PATH, identified(serve), methods=["POST"]),
            Route(identity.SERVE_PATH, identified(served)),
            Route(
                f"{identity.SERVE_PATH}/{{name}}", identified(one_served), methods=["GET", "DELETE"]
            ),
            Route("/healthz", health),
        ]
    )


def as_told(body: dict[str, Any]) -> dict[str, Any]:
    """Return a ServedModel as its user is told of it."""
    model = ServedModel.parse(body)
    status = model.status.model_dump(by_alias=True)
    return {**model.spec.model_dump(by_alias=True), "status": status}


def _going(body: dict[str, Any]) -> bool:
    """Return whether a resource is being removed."""
    return bool(body["metadata"].get("deletionTimestamp"))


def _no_model(name: str) -> Response:
    return JSONResponse({"error": f"no model {name!r} is served"}, status_code=404)


def _first(error: Exception) -> str:
    """Return the first problem of a request's body, by its field."""
    if isinstance(error, ValidationError):
        problem = error.errors()[0]
        return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
    return f"the body is no JSON object ({error})"


def main() -> None:
    """Serve the API until the pod ends."""
    parser = argparse.ArgumentParser(description="The API of a Coffea Shoppe facility.")
    parser.add_argument("--settings", type=Path, default=Path("/etc/coffea-shoppe/operator.yaml"))
    parser.add_argument("--port", type=int, default=8080)
    options = parser.parse_args()
    served = application(Settings.load(options.settings), Storage())
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    # The access log would be the probes' and the services' polling: who asked is logged above.
    uvicorn.run(
        served,
        host="0.0.0.0",  # noqa: S104
        port=options.port,
        proxy_headers=False,
        access_log=False,
    )


if __name__ == "__main__":
    main()
