"""The pages of a user's requests: rendered here, nothing to run in the browser.

All links are relative, so that the pages work wherever a proxy puts them.
"""

import math
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from coffea_shoppe_servicex.delivery import OPEN, Delivery, Owner

PAGE = 200
ROOT = "/transformation-request"
STATES = {"success": ("done",), "failure": ("failed",), "open": ("waiting", "leased")}

Call = Callable[[Owner, Request], Awaitable[Response]]
Wrap = Callable[[Call], Callable[[Request], Awaitable[Response]]]


def _size(value: float) -> str:
    """Return bytes as a reader takes them in."""
    if value < 1000:
        return f"{value:.0f} B"
    power = min(int(math.log10(value) // 3), 5)
    return f"{value / 1000**power:.1f} {'kMGTP'[power - 1]}B"


def _moment(value: float | None) -> str:
    return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M:%S") if value else ""


def routes(delivery: Delivery, called: Wrap) -> list[Route]:
    """Return the pages' routes; `called` finds out who asks."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True
    )
    environment.filters |= {"size": _size, "moment": _moment}

    def page(name: str, **told: object) -> Response:
        return HTMLResponse(environment.get_template(name).render(open=OPEN, **told))

    async def every(owner: Owner, _: Request) -> Response:
        found = await run_in_threadpool(delivery.mine, owner)
        busy = any(one.status in OPEN for one in found)
        return page(
            "requests.html", owner=owner, requests=found[:PAGE], total=len(found), busy=busy
        )

    async def one(owner: Owner, request: Request) -> Response:
        identifier = request.path_params["id"]
        shown = request.query_params.get("status", "")
        first = max(int(request.query_params.get("first", "0") or 0), 0)
        found = await run_in_threadpool(delivery.get, owner, identifier)
        files = await run_in_threadpool(
            lambda: delivery.files(owner, identifier, states=STATES.get(shown, ()))
        )
        return page(
            "request.html",
            owner=owner,
            request=found,
            files=files[first : first + PAGE],
            total=len(files),
            first=first,
            page=PAGE,
            shown=shown,
            # From REQUEST/results one level up is the page of the request itself.
            up="../" if request.url.path.rstrip("/").endswith("/results") else "",
            busy=found.status in OPEN,
        )

    async def log(owner: Owner, request: Request) -> Response:
        identifier = request.path_params["id"]
        found = await run_in_threadpool(delivery.get, owner, identifier)
        files = await run_in_threadpool(delivery.files, owner, identifier)
        lines = [f"request {found.id} ({found.title}): {found.status}"]
        if found.reason:
            lines.append(f"reason: {found.reason}")
        for file in files:
            lines += ["", f"=== file {file.number}: {file.places[0]}"]
            lines.append(f"{file.state}, {file.attempt} attempt(s), by {file.worker or 'nobody'}")
            if file.message:
                lines.append(f"{file.reason}: {file.message}")
            if file.log:
                lines.append(file.log.rstrip())
        return PlainTextResponse("\n".join(lines) + "\n")

    async def cancel(owner: Owner, request: Request) -> Response:
        await run_in_threadpool(delivery.cancel, owner, request.path_params["id"])
        return RedirectResponse(f"../{request.path_params['id']}", 303)

    async def home(_: Request) -> Response:
        return RedirectResponse(ROOT.removeprefix("/"))

    return [
        Route("/", home),
        Route(ROOT, called(every)),
        Route(f"{ROOT}/{{id}}", called(one)),
        Route(f"{ROOT}/{{id}}/results", called(one)),
        # The stock client writes two slashes.
        Route(f"{ROOT}//{{id}}/results", called(one)),
        Route(f"{ROOT}/{{id}}/log", called(log)),
        Route(f"{ROOT}/{{id}}/cancel", called(cancel), methods=["POST"]),
    ]
