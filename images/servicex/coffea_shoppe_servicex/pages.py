"""HTML pages of a user's transform requests, without JavaScript.

All links are relative, so that the pages work behind any path prefix of a proxy.
"""

import math
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

from coffea_shoppe_contract.addresses import shown_address
from jinja2 import Environment, FileSystemLoader
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from coffea_shoppe_servicex.backend import Backend
from coffea_shoppe_servicex.errors import QueryError
from coffea_shoppe_servicex.models import OPEN_STATUSES, Owner

PAGE_LENGTH = 200
"""Maximum number of rows on a page."""
ROOT = "/transformation-request"
STATES = {"success": ("done",), "failure": ("failed",), "open": ("waiting", "leased")}
"""States of files by the value of the query parameter `status`."""

Handler = Callable[[Owner, Request], Awaitable[Response]]
Wrapper = Callable[[Handler], Callable[[Request], Awaitable[Response]]]


def _size(size: float) -> str:
    """Return a number of bytes with three digits and a decimal prefix."""
    if size < 1000:
        return f"{size:.0f} B"
    power = min(int(math.log10(size) // 3), 5)
    return f"{size / 1000**power:.1f} {'kMGTP'[power - 1]}B"


def _moment(seconds: float | None) -> str:
    """Return a Unix time as date and time in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S") if seconds else ""


def _first_row(text: str) -> int:
    """Return the query parameter `first`; raises `QueryError`."""
    if text and not text.isdecimal():
        raise QueryError(f"first: {text!r} is not a row number; give 0 or more")
    return int(text or 0)


def routes(backend: Backend, for_user: Wrapper) -> list[Route]:
    """Return the pages' routes; `for_user` wraps a handler that needs the user."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True
    )
    environment.filters |= {"size": _size, "moment": _moment}

    def render(template: str, **variables: object) -> Response:
        return HTMLResponse(environment.get_template(template).render(**variables))

    async def list_requests(owner: Owner, _: Request) -> Response:
        requests = await run_in_threadpool(backend.requests.owned_by, owner)
        return render(
            "requests.html",
            owner=owner,
            requests=requests[:PAGE_LENGTH],
            total=len(requests),
            busy=any(request.status in OPEN_STATUSES for request in requests),
        )

    async def show_request(owner: Owner, request: Request) -> Response:
        identifier = request.path_params["id"]
        shown = request.query_params.get("status", "")
        first = _first_row(request.query_params.get("first", ""))
        transform_request = await run_in_threadpool(backend.requests.get, owner, identifier)
        files = await run_in_threadpool(
            lambda: backend.requests.files(owner, identifier, states=STATES.get(shown, ()))
        )
        return render(
            "request.html",
            owner=owner,
            request=transform_request,
            files=files[first : first + PAGE_LENGTH],
            total=len(files),
            first=first,
            page=PAGE_LENGTH,
            shown=shown,
            # Relative path from REQUEST/results to the request's own page.
            up="../" if request.url.path.rstrip("/").endswith("/results") else "",
            busy=transform_request.status in OPEN_STATUSES,
        )

    async def show_log(owner: Owner, request: Request) -> Response:
        identifier = request.path_params["id"]
        transform_request = await run_in_threadpool(backend.requests.get, owner, identifier)
        files = await run_in_threadpool(backend.requests.files, owner, identifier)
        title, status = transform_request.title, transform_request.status
        lines = [f"request {identifier} ({title}): {status}"]
        if transform_request.reason:
            lines.append(f"reason: {transform_request.reason}")
        if transform_request.remarks:
            lines.append(f"remarks: {transform_request.remarks}")
        for file in files:
            lines += ["", f"=== file {file.number}: {shown_address(file.urls[0])}"]
            transformer = file.transformer or "no transformer yet"
            lines.append(f"{file.state}, {file.attempt} attempt(s), by {transformer}")
            if file.message:
                lines.append(f"{file.reason}: {file.message}")
            if file.log:
                lines.append(file.log.rstrip())
        return PlainTextResponse("\n".join(lines) + "\n")

    async def cancel(owner: Owner, request: Request) -> Response:
        await run_in_threadpool(backend.requests.cancel, owner, request.path_params["id"])
        return RedirectResponse(f"../{request.path_params['id']}", 303)

    async def redirect_to_list(_: Request) -> Response:
        return RedirectResponse(ROOT.removeprefix("/"))

    return [
        Route("/", redirect_to_list),
        Route(ROOT, for_user(list_requests)),
        Route(f"{ROOT}/{{id}}", for_user(show_request)),
        Route(f"{ROOT}/{{id}}/results", for_user(show_request)),
        # The stock client's links have two slashes.
        Route(f"{ROOT}//{{id}}/results", for_user(show_request)),
        Route(f"{ROOT}/{{id}}/log", for_user(show_log)),
        Route(f"{ROOT}/{{id}}/cancel", for_user(cancel), methods=["POST"]),
    ]
