"""The REST API: calls of the stock client, of the operator and of transformers."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

from coffea_shoppe_identity import RefusedError
from coffea_shoppe_identity.bodies import SENDER, BodyLimits
from coffea_shoppe_identity.capacity import BusyError, Capacity
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from coffea_shoppe_servicex import isolation, pages, transformer_api
from coffea_shoppe_servicex.access import TransformerAuthenticator, UserAuthenticator
from coffea_shoppe_servicex.backend import Backend
from coffea_shoppe_servicex.errors import BusyServiceError, QueryError
from coffea_shoppe_servicex.estimate import PRELOADED, estimate_submission
from coffea_shoppe_servicex.models import Owner, Quota, Submission
from coffea_shoppe_servicex.request_bodies import parse_model
from coffea_shoppe_servicex.responses import (
    DATABASE_UNAVAILABLE,
    EXPECTED_ERRORS,
    VERSION,
    dataset_record,
    error_response,
    file_result,
    request_status,
)

LOG = logging.getLogger(__name__)
CAPABILITIES = ["poll_local_transformation_results", "long_sample_titles_1024"]
EXTERNAL = "coffea_shoppe.external"
"""Key in a request's ASGI scope: it came from outside of the cluster, through a proxy."""
INTERNAL_PATHS = ("/metrics", "/servicex/internal/")
"""Prefixes of paths that are not served to requests from outside of the cluster."""
LARGEST_BODY = 4 * 2**20
"""Size of a submission of the maximum number of files with long URLs, bytes."""
TOTAL_BODY_BYTES, USER_BODY_BYTES = 24 * 2**20, 8 * 2**20
"""Bytes of bodies in memory at once: of all users, and of each.  Parsed, they take up to
twenty times as much memory."""
TOTAL_ESTIMATES, USER_ESTIMATES = 2, 1
"""Number of estimates at once: of all users, and of each.  Others wait, and no thread with them."""
LOOKUP_INTERVALS_S = (0.1, 0.2, 0.4, 0.8)
"""Intervals at which a submission waits for the look-up of its files.

The stock client fetches the status at once, and then after five seconds: most look-ups have
ended by the first time.
"""
SUBMIT_RETRY_TIMEOUT_S = 120
"""Submissions wait this long for the database: the stock client does not retry them."""

Handler = Callable[[Owner, Request], Awaitable[Response]]


class ProxyPrefix:
    """Middleware: removes the proxy's path prefix, and marks the request as external."""

    def __init__(self, application: ASGIApp, prefix: str) -> None:
        self.application, self.prefix = application, prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] == "http" and scope["path"].startswith(f"{self.prefix}/"):
            path = scope["path"].removeprefix(self.prefix)
            # No route has the prefix: an internal path that keeps it is not found.
            if not path.startswith(INTERNAL_PATHS):
                scope = {**scope, "path": path, "raw_path": path.encode(), EXTERNAL: True}
        await self.application(scope, receive, send)


def application(
    backend: Backend, users: UserAuthenticator, transformers: TransformerAuthenticator
) -> Starlette:
    """Return the API as an ASGI application."""

    isolation.preload(PRELOADED)
    estimates = Capacity(TOTAL_ESTIMATES, USER_ESTIMATES, small=0)

    def for_user(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """Wrap a handler that needs the authenticated user."""

        async def handle(request: Request) -> Response:
            try:
                owner = users.identify(request.headers.get("Authorization", ""))
                request.scope[SENDER] = owner.uid
                LOG.info("%s %s for %s", request.method, request.url.path, owner.user)
                return await handler(owner, request)
            except EXPECTED_ERRORS as error:
                LOG.info("%s %s: %s", request.method, request.url.path, error)
                return error_response(error)

        return handle

    async def info(_: Owner, __: Request) -> Response:
        settings = backend.context.settings
        descriptions = backend.context.codegens.descriptions()
        return JSONResponse(
            {
                "app-version": VERSION,
                "code-gen-image": dict.fromkeys(descriptions, settings.image or "local"),
                "code-gen-description": descriptions,
                "capabilities": CAPABILITIES,
            }
        )

    async def refresh(request: Request) -> Response:
        try:
            token = users.refresh(request.headers.get("Authorization", ""), time.time())
        except RefusedError as error:
            return error_response(error)
        return JSONResponse({"access_token": token})

    async def submit(owner: Owner, request: Request) -> Response:
        submission = await parse_model(request, Submission)
        deadline = time.monotonic() + SUBMIT_RETRY_TIMEOUT_S
        while True:
            try:
                created = await run_in_threadpool(backend.requests.submit, owner, submission)
                break
            except DATABASE_UNAVAILABLE:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(1)
        LOG.info(
            "request %s of %s: %s files, codegen %s",
            *(created.id, owner.user, created.files, created.codegen),
        )
        if created.files:
            await wait_for_lookup(owner, created.id)
        return JSONResponse({"request_id": created.id})

    async def wait_for_lookup(owner: Owner, identifier: str) -> None:
        # The request exists: no error may end this call.
        with contextlib.suppress(*EXPECTED_ERRORS):
            for interval_s in LOOKUP_INTERVALS_S:
                await asyncio.sleep(interval_s)
                request = await run_in_threadpool(backend.requests.get, owner, identifier)
                if request.status != "Lookup":
                    return

    async def estimate_cost(owner: Owner, request: Request) -> Response:
        submission = await parse_model(request, Submission)
        async with estimates.reservation(owner.uid) as reservation:
            try:
                await reservation.add(1)
            except BusyError as error:
                message = "too many estimates are running; try again in a minute"
                raise BusyServiceError(message) from error
            estimate = await run_in_threadpool(estimate_submission, backend, owner, submission)
        return JSONResponse(vars(estimate))

    async def get_request(owner: Owner, request: Request) -> Response:
        identifier = request.path_params["id"]
        transform_request = await run_in_threadpool(backend.requests.get, owner, identifier)
        external = EXTERNAL in request.scope
        status = request_status(transform_request, backend.context.settings, external=external)
        return JSONResponse(status)

    async def list_requests(owner: Owner, request: Request) -> Response:
        owned = await run_in_threadpool(backend.requests.owned_by, owner)
        settings, external = backend.context.settings, EXTERNAL in request.scope
        return JSONResponse(
            {"requests": [request_status(each, settings, external=external) for each in owned]}
        )

    async def list_results(owner: Owner, request: Request) -> Response:
        after = 0
        if later_than := request.query_params.get("later_than"):
            try:
                moment = datetime.fromisoformat(later_than)
            except ValueError as error:
                raise QueryError(f"later_than: {later_than!r} is not an ISO 8601 time") from error
            after = int(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1e6 + 0.5)
        identifier = request.path_params["id"]
        files = await run_in_threadpool(backend.requests.results, owner, identifier, after)
        return JSONResponse({"results": [file_result(file) for file in files]})

    async def cancel(owner: Owner, request: Request) -> Response:
        await run_in_threadpool(backend.requests.cancel, owner, request.path_params["id"])
        return JSONResponse({"message": "canceled"})

    async def delete(owner: Owner, request: Request) -> Response:
        await run_in_threadpool(backend.requests.delete, owner, request.path_params["id"])
        return JSONResponse({"message": "deleted"})

    async def list_datasets(owner: Owner, request: Request) -> Response:
        deleted = request.query_params.get("show-deleted", "").lower() in ("true", "1")
        finder = request.query_params.get("did-finder", "")
        datasets = await run_in_threadpool(
            lambda: backend.datasets.owned_by(owner, finder=finder, deleted=deleted)
        )
        return JSONResponse(
            {"datasets": [dataset_record(dataset, with_files=False) for dataset in datasets]}
        )

    async def get_dataset(owner: Owner, request: Request) -> Response:
        identifier = request.path_params["id"]
        dataset = await run_in_threadpool(backend.datasets.get, owner, identifier)
        return JSONResponse(dataset_record(dataset, with_files=True))

    async def delete_dataset(owner: Owner, request: Request) -> Response:
        identifier = request.path_params["id"]
        dataset = await run_in_threadpool(backend.datasets.mark_stale, owner, identifier)
        return JSONResponse({"dataset-id": identifier, "stale": dataset.stale})

    # Calls of the operator.

    async def administer_user(request: Request) -> Response:
        name = request.path_params["name"]
        try:
            users.require_operator(request.headers.get("Authorization", ""))
            if request.method == "DELETE":
                await run_in_threadpool(backend.users.remove, name)
            else:
                quota = await parse_model(request, Quota)
                await run_in_threadpool(backend.users.set_quota, name, quota)
        except EXPECTED_ERRORS as error:
            LOG.info("%s %s: %s", request.method, request.url.path, error)
            return error_response(error)
        return JSONResponse({"user": name})

    # Probes and metrics.

    async def health(_: Request) -> Response:
        def query_database() -> None:
            with backend.context.engine.connect() as connection:
                connection.execute(text("SELECT 1"))

        try:
            await run_in_threadpool(query_database)
        except SQLAlchemyError as error:
            return PlainTextResponse(f"the database does not respond: {error}", 503)
        return PlainTextResponse("ok")

    async def alive(_: Request) -> Response:
        return PlainTextResponse("ok")

    registry = CollectorRegistry()
    registry.register(_WorkloadCollector(backend))

    async def metrics(_: Request) -> Response:
        return PlainTextResponse(await run_in_threadpool(generate_latest, registry))

    request_path = "/servicex/transformation/{id}"
    dataset_path = "/servicex/datasets/{id:int}"
    return Starlette(
        middleware=[
            Middleware(ProxyPrefix, prefix=backend.context.settings.prefix),
            Middleware(
                BodyLimits,
                largest=LARGEST_BODY,
                capacity=Capacity(TOTAL_BODY_BYTES, USER_BODY_BYTES),
            ),
        ],
        routes=[
            Route("/servicex", for_user(info)),
            Route("/token/refresh", refresh, methods=["POST"]),
            Route("/servicex/transformation", for_user(list_requests)),
            Route("/servicex/transformation", for_user(submit), methods=["POST"]),
            Route("/servicex/estimate", for_user(estimate_cost), methods=["POST"]),
            Route(request_path, for_user(get_request)),
            Route(request_path, for_user(delete), methods=["DELETE"]),
            Route(f"{request_path}/results", for_user(list_results)),
            Route(f"{request_path}/cancel", for_user(cancel), methods=["GET", "POST"]),
            Route("/servicex/datasets", for_user(list_datasets)),
            Route(dataset_path, for_user(get_dataset)),
            Route(dataset_path, for_user(delete_dataset), methods=["DELETE"]),
            Route(
                "/servicex/internal/users/{name:path}",
                administer_user,
                methods=["PUT", "DELETE"],
            ),
            Route("/healthz", health),
            Route("/livez", alive),
            Route("/metrics", metrics),
            *transformer_api.routes(backend, transformers),
            *pages.routes(backend, for_user),
        ],
    )


class _WorkloadCollector:
    """Prometheus collector: counts requests and files at each scrape, and reads the totals."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    def collect(self) -> list[Metric]:
        """Return the gauges and the counters."""
        requests, files = self.backend.workload.counts()
        totals = self.backend.workload.totals()
        delivered = CounterMetricFamily(
            "servicex_delivered_bytes",
            "bytes of results, as stored when their files were completed",
            value=totals["delivered_bytes"][""],
        )
        return [
            *(_gauge("requests", requests), _gauge("files", files)),
            *(_counter("requests", totals["requests"]), _counter("files", totals["files"])),
            delivered,
        ]


def _gauge(name: str, counts: Mapping[str, int]) -> GaugeMetricFamily:
    gauge = GaugeMetricFamily(f"servicex_{name}", f"{name} by state", labels=["state"])
    for state, count in counts.items():
        gauge.add_metric([state], count)
    return gauge


def _counter(name: str, totals: Mapping[str, int]) -> CounterMetricFamily:
    counter = CounterMetricFamily(
        f"servicex_{name}", f"{name} that have ended, by how they ended", labels=["status"]
    )
    for status, total in totals.items():
        counter.add_metric([status], total)
    return counter
