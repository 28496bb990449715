"""The auth front: a browser's login at the hub becomes a user's token for a service.

A proxy asks it about each request (Traefik's ForwardAuth) and passes on what it answers.
Who has not logged in yet is sent to the hub (OAuth 2.0, RFC 6749), and comes back with a
cookie that is good for the pages of all services.
"""

import hmac
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from html import escape
from typing import Any
from urllib.parse import urlencode, urlsplit

import jwt
from coffea_shoppe_contract import identity
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from coffea_shoppe_operator import builders
from coffea_shoppe_operator.errors import StorageError
from coffea_shoppe_operator.hub import Hub
from coffea_shoppe_operator.keys import KeyRing
from coffea_shoppe_operator.models import FacilityUser, Settings
from coffea_shoppe_operator.storage import Storage

LOG = logging.getLogger(__name__)
SESSION, STATE = "shoppe-session", "shoppe-login"
"""Cookies: the hub's token for this front, and what a login that is under way came with."""
LOGIN_S = 600
"""A login takes no longer."""
SESSION_S = 14 * 86400
"""A cookie lives as long as the hub's own; the hub is asked whether its token still does."""
DASHBOARDS = "dask-gateway"
"""Not a service that takes tokens of the facility's: Dask's gateway decides by the user's name."""
USER_HEADER = "X-Forwarded-User"
"""Tells it that name; what a browser says there never gets past the proxy."""
PAGES = "/services/"
"""Below which are the services' pages, and the cookie is sent."""

Rows = Callable[[FacilityUser], list[dict[str, Any]]]


class NobodyError(Exception):
    """Nobody has logged in, or not any more."""


class StrangerError(Exception):
    """Somebody has logged in who may not see this; the text says why."""


class Front:
    """The logins of one facility's browsers."""

    def __init__(self, settings: Settings, hub: Hub, cluster: Storage) -> None:
        self.settings, self.hub, self.cluster = settings, hub, cluster

    @property
    def prefix(self) -> str:
        """Return the path at which browsers find this front."""
        return f"{PAGES}{self.hub.settings.service_name}"

    def _user(self, request: Request) -> FacilityUser:
        """Return the user whose browser asks; raises `NobodyError`, `StrangerError`."""
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        token = token if kind.lower() == "token" else request.cookies.get(SESSION, "")
        name = self.hub.user(token) if token else None
        if name is None:
            raise NobodyError
        found = self.cluster.read_user(self.settings.namespace, identity.resource_name(name))
        if found is None:
            raise StrangerError(f"{name} has nothing here yet: log in at the hub anew")
        user = FacilityUser.parse(found)
        if user.spec.disabled or found["metadata"].get("deletionTimestamp"):
            raise StrangerError(f"{name} is disabled in this facility; ask its operators")
        return user

    def _login(self, request: Request, uri: str) -> Response:
        """Send a browser to the hub, and remember where it wanted to go."""
        state = secrets.token_urlsafe(24)
        said = {"next": uri, "state": state, "exp": int(time.time()) + LOGIN_S}
        asked = {
            "client_id": self.hub.client,
            "redirect_uri": f"{self.prefix}/callback",
            "response_type": "code",
            "state": state,
        }
        to = escape(f"/hub/api/oauth2/authorize?{urlencode(asked)}")
        # No redirect: a proxy would make its address one of its own view of scheme and host.
        body = f'<meta http-equiv="refresh" content="0; url={to}"><a href="{to}">Log in</a>'
        answer = HTMLResponse(f"<!doctype html><title>Log in</title>{body}", 401)
        begun = jwt.encode(said, self.hub.key(), algorithm="HS256")
        self._set(answer, request, STATE, begun, LOGIN_S)
        return answer

    @staticmethod
    def _set(answer: Response, request: Request, name: str, value: str, lifetime: int) -> None:
        secure = request.headers.get("X-Forwarded-Proto", "").startswith("https")
        answer.set_cookie(
            name,
            value,
            max_age=lifetime,
            path=PAGES,
            secure=secure,
            httponly=True,
            samesite="lax",
        )

    def _token(self, user: FacilityUser, service: str) -> str:
        """Return a fresh token of a user's for a service."""
        settings, now = self.settings, time.time()
        stored = self.cluster.read_secret(settings.namespace, settings.keys_secret)
        key = KeyRing.load(stored or {}).signing(now)
        return builders.user_token(user, service, key, settings, now=now)

    def _authorized(self, request: Request, uri: str, service: str) -> Response:
        """Answer whether a request may pass, and with which headers."""
        if service not in (*identity.AUDIENCES, DASHBOARDS):
            return JSONResponse({"error": f"there are no tokens for {service!r}"}, 404)
        headers = request.headers
        origin, host = headers.get("Origin", ""), headers.get("X-Forwarded-Host", "")
        if origin and urlsplit(origin).netloc != host:
            # The browser would be the user's, the page somebody else's.
            return JSONResponse({"error": f"{service} is not for pages of {origin}"}, 403)
        if told := _brought(headers, service):
            return Response(headers=told)
        try:
            user = self._user(request)
        except NobodyError:
            page = "text/html" in headers.get("Accept", "")
            if page and headers.get("X-Forwarded-Method", "GET") == "GET":
                return self._login(request, uri)
            return JSONResponse({"error": "log in at the hub first"}, 401)
        LOG.info("%s for %s at %s", uri.partition("?")[0], user.spec.username, service)
        if service == DASHBOARDS:
            return Response(headers={USER_HEADER: user.spec.username})
        told = {"Authorization": f"Bearer {self._token(user, service)}"}
        if service == "mlflow" and self.settings.mlflow:
            own = identity.workspace_name(user.spec.username)
            told[identity.WORKSPACE_HEADER] = headers.get(identity.WORKSPACE_HEADER, own)
        return Response(headers=told)

    async def authorize(self, request: Request) -> Response:
        """Answer a proxy's question (ForwardAuth) about a request for a service's page."""
        uri = request.headers.get("X-Forwarded-Uri", "")
        service = request.query_params.get("service", "")
        return await self._answer(lambda: self._authorized(request, uri, service))

    @staticmethod
    async def _answer(do: Callable[[], Response]) -> Response:
        try:
            return await run_in_threadpool(do)
        except StrangerError as error:
            return JSONResponse({"error": str(error)}, 403)
        except StorageError as error:
            return JSONResponse({"error": str(error)}, 503)

    async def callback(self, request: Request) -> Response:
        """Finish a login: the hub has sent the browser back with a code."""
        return await self._answer(lambda: self._back(request))

    def _back(self, request: Request) -> Response:
        asked = request.query_params
        try:
            said = jwt.decode(request.cookies.get(STATE, ""), self.hub.key(), algorithms=["HS256"])
            mine = hmac.compare_digest(said["state"], asked.get("state", ""))
        except (jwt.PyJWTError, KeyError):
            mine = False
        if not mine:
            return JSONResponse({"error": "this login was not begun here; try again"}, 400)
        if "code" not in asked:
            told = asked.get("error_description") or asked.get("error") or "it gave no code"
            return JSONResponse({"error": f"the hub refused: {told}"}, 403)
        token = self.hub.exchange(asked["code"], f"{self.prefix}/callback")
        answer = RedirectResponse(said["next"], 302)
        self._set(answer, request, SESSION, token, SESSION_S)
        answer.delete_cookie(STATE, path=PAGES)
        return answer

    async def home(self, request: Request, rows: Rows) -> Response:
        """Show a user's status as a page."""

        def show() -> Response:
            try:
                user = self._user(request)
            except NobodyError:
                return self._login(request, f"{self.prefix}/")
            return HTMLResponse(page(user, rows(user)))

        return await self._answer(show)

    def routes(self, rows: Rows) -> list[Route]:
        """Return the front's routes; `rows` gives a user's limits."""

        async def home(request: Request) -> Response:
            return await self.home(request, rows)

        return [
            Route(identity.AUTHORIZE_PATH, self.authorize),
            Route(f"{self.prefix}/callback", self.callback),
            Route(f"{self.prefix}/", home),
        ]


def _brought(headers: Headers, service: str) -> dict[str, str]:
    """Return what is passed on of a request with a token of its own, or {}.

    The service looks at that token itself: it is none of a browser's.
    """
    given = headers.get("Authorization", "")
    if not given or (service != DASHBOARDS and not given.lower().startswith("bearer ")):
        return {}
    names = ("Authorization", identity.WORKSPACE_HEADER)
    return {name: headers[name] for name in names if name in headers}


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    def row(cells: tuple[str, ...], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return f"<table>{row(head, 'th')}{''.join(row(cells, 'td') for cells in rows)}</table>"


STYLE = """body{font-family:sans-serif;margin:2em auto;padding:0 1em;max-width:50em;color:#222}
table{border-collapse:collapse;width:100%;margin-bottom:2em}
th,td{text-align:left;padding:.4em .8em;border-bottom:1px solid #ddd}"""


def page(user: FacilityUser, limits: list[dict[str, Any]]) -> str:
    """Return a user's status as HTML: what was made, and what is used of what may be."""
    conditions = [
        (one.type, "ready" if one.status == "True" else one.reason, one.message)
        for one in user.status.conditions
    ]
    used = [
        (
            one["service"],
            one["what"],
            f"{one['used']:.3g} {one['unit']}",
            f"{one['limit']:g} {one['unit']}" if one["limit"] else "no limit",
        )
        for one in limits
    ]
    name, groups = escape(user.spec.username), escape(", ".join(user.spec.groups) or "no groups")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{name}</title>'
        f"<style>{STYLE}</style></head><body><h1>{name}</h1><p>{groups}</p>"
        f"<h2>Services</h2>{_table(('Service', 'Status', ''), conditions)}"
        f"<h2>Quota</h2>{_table(('Service', '', 'Used', 'Limit'), used)}</body></html>"
    )
