"""The facility API: keys and revocations for services, and a user's own status."""

import argparse
import asyncio
import logging
import os
from pathlib import Path
from urllib.parse import urlsplit

import uvicorn
from coffea_shoppe_contract import identity
from coffea_shoppe_identity import News, RefusedError, Verifier
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from coffea_shoppe_operator import services
from coffea_shoppe_operator.errors import StorageError
from coffea_shoppe_operator.models import FacilityUser, Settings
from coffea_shoppe_operator.storage import Storage

LOG = logging.getLogger(__name__)
PROBE_S = 3
PORTS = {"root": 1094, "http": 80, "https": 443}


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

    async def status(request: Request) -> Response:
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        try:
            if kind.lower() != "bearer" or not token:
                raise RefusedError("send the token for 'api' as Authorization: Bearer")
            who = verifier.verify(token)
        except RefusedError as error:
            LOG.warning("%s refused: %s", request.url.path, error)
            headers = {"WWW-Authenticate": "Bearer"}
            return JSONResponse({"error": str(error)}, status_code=401, headers=headers)
        LOG.info("%s for %s", request.url.path, who.user)
        name = identity.resource_name(who.user)
        try:
            body = await run_in_threadpool(cluster.read_user, settings.namespace, name)
        except StorageError as error:
            return JSONResponse({"error": str(error)}, status_code=503)
        if body is None:
            return JSONResponse({"error": f"there is no user {who.user!r}"}, status_code=404)
        user = FacilityUser.parse(body)
        problems = await asyncio.gather(*map(answers, settings.connections.values()))
        return JSONResponse(
            {
                "user": who.user,
                "groups": user.spec.groups,
                "validUntil": user.status.valid_until,
                "conditions": [c.model_dump(by_alias=True) for c in user.status.conditions],
                "services": {
                    service: {"address": address, "healthy": not problem, "problem": problem}
                    for (service, address), problem in zip(
                        settings.connections.items(), problems, strict=True
                    )
                },
            }
        )

    async def health(_: Request) -> Response:
        ready = await run_in_threadpool(verifier.refresh)
        return PlainTextResponse("ok" if ready else "no keys yet", 200 if ready else 503)

    return Starlette(
        routes=[
            Route(identity.KEYS_PATH, keys),
            Route(identity.REVOCATIONS_PATH, revocations),
            Route(identity.STATUS_PATH, status),
            Route("/healthz", health),
        ]
    )


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
