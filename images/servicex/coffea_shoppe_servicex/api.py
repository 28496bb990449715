"""The REST API: the stock client's contract, and what transformers ask for."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from coffea_shoppe_identity import RefusedError
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from pydantic import BaseModel, ValidationError
from sqlalchemy import text
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from coffea_shoppe_servicex import pages
from coffea_shoppe_servicex.access import Transformers, Users
from coffea_shoppe_servicex.database import Dataset, File
from coffea_shoppe_servicex.database import Request as Asked
from coffea_shoppe_servicex.delivery import Delivery, Owner, Quota, Result, Submission
from coffea_shoppe_servicex.errors import (
    ForbiddenError,
    LeaseLostError,
    NotFoundError,
    QueryError,
)

LOG = logging.getLogger(__name__)
VERSION = "1.8.0+shoppe"
CAPABILITIES = ["poll_local_transformation_results", "long_sample_titles_1024"]
OUTSIDE = "coffea_shoppe.outside"
"""Key of a request's scope: whether it came through a proxy."""
INSIDE = ("/metrics", "/servicex/internal/")
"""What is not for requests from outside; prefixes of paths."""
AWAY = (OperationalError, InterfaceError, PoolTimeoutError)
"""What a database raises that is away, or restarts."""
SUBMIT_S = 120
"""So long waits a submission for the database: the stock client does not submit again."""
TITLE = 3000
"""A failed request's title carries the reason: the only words that the client shows."""

Body = TypeVar("Body", bound=BaseModel)
Call = Callable[[Owner, Request], Awaitable[Response]]


def iso(seconds: float | None) -> str | None:
    """Return a time (Unix) as the client reads it."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()


class FromOutside:
    """Takes off the prefix of requests that a proxy passes on, and remembers that it did."""

    def __init__(self, application: ASGIApp, prefix: str) -> None:
        self.application, self.prefix = application, prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "http" and scope["path"].startswith(f"{self.prefix}/"):
            path = scope["path"].removeprefix(self.prefix)
            # With the prefix none is found.
            if not path.startswith(INSIDE):
                scope = {**scope, "path": path, "raw_path": path.encode(), OUTSIDE: True}
        await self.application(scope, receive, send)


def told(asked: Asked, delivery: Delivery, request: Request) -> dict[str, Any]:
    """Return a request's status as the client wants it; all keys are needed."""
    settings = delivery.settings
    front = settings.front
    public = bool(request.scope.get(OUTSIDE) and front.public_endpoint)
    title = asked.title
    if asked.reason and asked.status in ("Fatal", "Bad Dataset"):
        title = f"{title}: {asked.reason}"[:TITLE]
    base = settings.pages.format(user=asked.owner)
    return {
        "request_id": asked.id,
        "did": asked.did or f"file list of {asked.files}",
        "did_id": asked.dataset_id,
        "title": title,
        "selection": asked.selection,
        "tree-name": None,
        "image": settings.image,
        "result-destination": "object-store",
        "result-format": asked.result_format,
        "generated-code-cm": "",
        "status": asked.status,
        "reason": asked.reason,
        "app-version": VERSION,
        "files": asked.files,
        "files-completed": asked.completed,
        "files-failed": asked.failed,
        "files-remaining": asked.files - asked.completed - asked.failed,
        "submit-time": iso(asked.created),
        "finish-time": iso(asked.finished),
        "minio-endpoint": front.public_endpoint if public else front.endpoint,
        "minio-secured": front.public_secure if public else front.secure,
        "minio-access-key": asked.access_key,
        "minio-secret-key": asked.secret_key,
        "log-url": f"{base}/{asked.id}/log",
    }


def _file(file: File) -> dict[str, Any]:
    success = file.state == "done"
    return {
        "transform_status": "success" if success else "failure",
        "s3-object-name": file.object,
        "created_at": datetime.fromtimestamp(file.result_at / 1e6, UTC)
        .replace(tzinfo=None)
        .isoformat(timespec="microseconds"),
        "total-bytes": file.bytes,
        "total-events": file.events,
        "file-path": file.places[0],
        "file-id": file.id,
        "reason": file.reason,
        "message": file.message,
        "attempts": file.attempt,
        "seconds": file.seconds,
        "read-bytes": file.read,
    }


def _dataset(one: Dataset, *, whole: bool) -> dict[str, Any]:
    files = [
        {
            "id": number,
            "adler32": file.get("adler32", ""),
            "file_size": file.get("size", 0),
            "file_events": file.get("events", 0),
            "paths": ",".join(file["paths"]),
        }
        for number, file in enumerate(one.files, 1)
    ]
    return {
        "id": one.id,
        "name": one.name,
        "did_finder": one.finder,
        "n_files": len(files),
        "size": sum(file["file_size"] for file in files),
        "events": sum(file["file_events"] for file in files),
        "last_used": iso(one.used),
        "last_updated": iso(one.updated),
        "lookup_status": one.status,
        "message": one.message,
        "is_stale": one.stale,
        "files": files if whole else [],
    }


async def _body(request: Request, model: type[Body]) -> Body:
    """Return what a request's body tells; raises `QueryError`."""
    try:
        return model.model_validate(await request.json())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise QueryError(f"{where}: {first['msg']}") from error
    except ValueError as error:
        raise QueryError(f"the request is no JSON: {error}") from error


def _problem(error: Exception) -> JSONResponse:
    """Return an error as the client shows it."""
    statuses: Mapping[type[Exception], int] = {
        QueryError: 400,
        RefusedError: 401,
        ForbiddenError: 403,
        NotFoundError: 404,
        LeaseLostError: 409,
        **dict.fromkeys(AWAY, 503),
    }
    status = next(code for kind, code in statuses.items() if isinstance(error, kind))
    message = str(error)
    if status == 503:
        LOG.warning("the database: %s", error)
        message = "the service's database does not answer; try again in a minute"
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return JSONResponse({"message": message}, status, headers)


PROBLEMS = (QueryError, RefusedError, ForbiddenError, NotFoundError, LeaseLostError, *AWAY)


def application(delivery: Delivery, users: Users, transformers: Transformers) -> Starlette:
    """Return the API as an application."""

    def called(handler: Call) -> Callable[[Request], Awaitable[Response]]:
        """Return a handler that is called with the user who asks."""

        async def handle(request: Request) -> Response:
            try:
                owner = users.identify(request.headers.get("Authorization", ""))
                LOG.info("%s %s for %s", request.method, request.url.path, owner.user)
                return await handler(owner, request)
            except PROBLEMS as error:
                LOG.info("%s %s: %s", request.method, request.url.path, error)
                return _problem(error)

        return handle

    async def info(_: Owner, __: Request) -> Response:
        images = dict.fromkeys(delivery.settings.codegens, delivery.settings.image or "local")
        return JSONResponse(
            {"app-version": VERSION, "code-gen-image": images, "capabilities": CAPABILITIES}
        )

    async def refresh(request: Request) -> Response:
        try:
            token = users.refresh(request.headers.get("Authorization", ""), time.time())
        except RefusedError as error:
            return _problem(error)
        return JSONResponse({"access_token": token})

    async def submit(owner: Owner, request: Request) -> Response:
        body = await _body(request, Submission)
        end = time.monotonic() + SUBMIT_S
        while True:
            try:
                made = await run_in_threadpool(delivery.submit, owner, body)
                break
            except AWAY:
                if time.monotonic() > end:
                    raise
                await asyncio.sleep(1)
        LOG.info("request %s of %s: %s files by %s", made.id, owner.user, made.files, made.codegen)
        return JSONResponse({"request_id": made.id})

    async def estimated(owner: Owner, request: Request) -> Response:
        # Its libraries take memory that no other call needs.
        from coffea_shoppe_servicex.estimate import price

        body = await _body(request, Submission)
        return JSONResponse(vars(await run_in_threadpool(price, delivery, owner, body)))

    async def status(owner: Owner, request: Request) -> Response:
        found = await run_in_threadpool(delivery.get, owner, request.path_params["id"])
        return JSONResponse(told(found, delivery, request))

    async def every(owner: Owner, request: Request) -> Response:
        found = await run_in_threadpool(delivery.mine, owner)
        return JSONResponse({"requests": [told(one, delivery, request) for one in found]})

    async def results(owner: Owner, request: Request) -> Response:
        after = 0
        if later := request.query_params.get("later_than"):
            try:
                moment = datetime.fromisoformat(later)
            except ValueError as error:
                raise QueryError(f"later_than: {later!r} is no time") from error
            after = int(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1e6 + 0.5)
        found = await run_in_threadpool(delivery.results, owner, request.path_params["id"], after)
        return JSONResponse({"results": [_file(one) for one in found]})

    async def cancel(owner: Owner, request: Request) -> Response:
        await run_in_threadpool(delivery.cancel, owner, request.path_params["id"])
        return JSONResponse({"message": "canceled"})

    async def remove(owner: Owner, request: Request) -> Response:
        await run_in_threadpool(delivery.delete, owner, request.path_params["id"])
        return JSONResponse({"message": "deleted"})

    async def datasets(owner: Owner, request: Request) -> Response:
        asked = request.query_params
        deleted = asked.get("show-deleted", "").lower() in ("true", "1")
        found = await run_in_threadpool(
            lambda: delivery.datasets(owner, finder=asked.get("did-finder", ""), deleted=deleted)
        )
        return JSONResponse({"datasets": [_dataset(one, whole=False) for one in found]})

    async def dataset(owner: Owner, request: Request) -> Response:
        number = request.path_params["id"]
        if request.method == "DELETE":
            found = await run_in_threadpool(delivery.forget_dataset, owner, number)
            return JSONResponse({"dataset-id": number, "stale": found.stale})
        found = await run_in_threadpool(delivery.dataset, owner, number)
        return JSONResponse(_dataset(found, whole=True))

    # The facility's operator.

    async def user(request: Request) -> Response:
        name = request.path_params["name"]
        try:
            users.administer(request.headers.get("Authorization", ""))
            if request.method == "DELETE":
                await run_in_threadpool(delivery.forget, name)
            else:
                await run_in_threadpool(delivery.welcome, name, await _body(request, Quota))
        except PROBLEMS as error:
            LOG.info("%s %s: %s", request.method, request.url.path, error)
            return _problem(error)
        return JSONResponse({"user": name})

    # Transformers.

    def worked(
        handler: Callable[[str, dict[str, Any], Request], Response],
    ) -> Callable[[Request], Awaitable[Response]]:
        """Return a handler that is called with the request that a transformer is for."""

        async def handle(request: Request) -> Response:
            body = await request.json()
            header = request.headers.get("Authorization", "")

            def do() -> Response:
                return handler(transformers.identify(header), body, request)

            try:
                return await run_in_threadpool(do)
            except PROBLEMS as error:
                return _problem(error)

        return handle

    def lease(own: str, body: dict[str, Any], _: Request) -> Response:
        # Where there is one user only, any transformer may run that user's functions.
        alone = not delivery.settings.auth.enabled
        found = delivery.lease(
            body["worker"],
            memory=body["memory"],
            request=own,
            everything=alone and bool(body.get("everything")),
        )
        return JSONResponse(vars(found)) if found else Response(status_code=204)

    def renew(own: str, body: dict[str, Any], request: Request) -> Response:
        delivery.renew(request.path_params["file"], body["attempt"], request=own)
        return JSONResponse({})

    def upload(own: str, body: dict[str, Any], request: Request) -> Response:
        url = delivery.upload(request.path_params["file"], body["attempt"], request=own)
        return JSONResponse({"url": url})

    def complete(own: str, body: dict[str, Any], request: Request) -> Response:
        file, attempt = request.path_params["file"], body.pop("attempt")
        delivery.complete(file, attempt, Result(**body), request=own)
        return JSONResponse({})

    def fail(own: str, body: dict[str, Any], request: Request) -> Response:
        file, attempt = request.path_params["file"], body.pop("attempt")
        delivery.fail(file, attempt, request=own, **body)
        return JSONResponse({})

    async def health(_: Request) -> Response:
        def look() -> None:
            with delivery.engine.connect() as connection:
                connection.execute(text("SELECT 1"))

        try:
            await run_in_threadpool(look)
        except SQLAlchemyError as error:
            return PlainTextResponse(f"the database does not answer: {error}", 503)
        return PlainTextResponse("ok")

    async def alive(_: Request) -> Response:
        return PlainTextResponse("ok")

    registry = CollectorRegistry()
    registry.register(_Counts(delivery))

    async def metrics(_: Request) -> Response:
        return PlainTextResponse(await run_in_threadpool(generate_latest, registry))

    internal = "/servicex/internal/files/{file:int}"
    one = "/servicex/transformation/{id}"
    return Starlette(
        middleware=[Middleware(FromOutside, prefix=delivery.settings.prefix)],
        routes=[
            Route("/servicex", called(info)),
            Route("/token/refresh", refresh, methods=["POST"]),
            Route("/servicex/transformation", called(every)),
            Route("/servicex/transformation", called(submit), methods=["POST"]),
            Route("/servicex/estimate", called(estimated), methods=["POST"]),
            Route(one, called(status)),
            Route(one, called(remove), methods=["DELETE"]),
            Route(f"{one}/results", called(results)),
            Route(f"{one}/cancel", called(cancel), methods=["GET", "POST"]),
            Route("/servicex/datasets", called(datasets)),
            Route("/servicex/datasets/{id:int}", called(dataset), methods=["GET", "DELETE"]),
            Route("/servicex/internal/users/{name:path}", user, methods=["PUT", "DELETE"]),
            Route("/servicex/internal/lease", worked(lease), methods=["POST"]),
            Route(f"{internal}/renew", worked(renew), methods=["POST"]),
            Route(f"{internal}/upload", worked(upload), methods=["POST"]),
            Route(f"{internal}/complete", worked(complete), methods=["POST"]),
            Route(f"{internal}/fail", worked(fail), methods=["POST"]),
            Route("/healthz", health),
            Route("/livez", alive),
            Route("/metrics", metrics),
            *pages.routes(delivery, called),
        ],
    )


class _Counts:
    """What Prometheus is told, counted as it asks."""

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery

    def collect(self) -> list[GaugeMetricFamily]:
        """Return the gauges."""
        found = []
        for name, counts in zip(("requests", "files"), self.delivery.counts(), strict=True):
            gauge = GaugeMetricFamily(f"servicex_{name}", f"{name} by state", labels=["state"])
            for state, number in counts.items():
                gauge.add_metric([state], number)
            found.append(gauge)
        return found
