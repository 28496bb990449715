"""The server of Traefik's ForwardAuth: exchanges a login at the hub for a user's token.

A reverse proxy consults it for each request (Traefik's ForwardAuth) and adds the headers of
its response.  A browser without a login is sent to the hub (OAuth 2.0, RFC 6749), and
returns with a cookie for the pages of all services.
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
from coffea_shoppe_contract.api import AUTHORIZE_PATH, WORKSPACE_HEADER
from coffea_shoppe_contract.names import resource_name, workspace_name
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from coffea_shoppe_operator import signing
from coffea_shoppe_operator.clients.hub import Hub
from coffea_shoppe_operator.errors import StorageError
from coffea_shoppe_operator.keys import KeyRing
from coffea_shoppe_operator.models import FacilityUser, Settings
from coffea_shoppe_operator.storage import Storage

LOG = logging.getLogger(__name__)
SESSION, STATE = "shoppe-session", "shoppe-login"
"""Cookies: the token of the hub for this server, and the state of a login in progress."""
LOGIN_S = 600
"""Time limit of a login."""
SESSION_S = 14 * 86400
"""Lifetime of the cookie, as of the hub's own; the hub decides whether its token is valid."""
DASHBOARDS = "dask-gateway"
"""Dask's gateway takes no tokens of the facility: it authorizes by the user's name."""
USER_HEADER = "X-Forwarded-User"
"""Header with that name; the proxy drops one that a browser sends."""
PAGES = "/services/"
"""Path prefix of the services' pages, and of the cookie."""

Rows = Callable[[FacilityUser], list[dict[str, Any]]]


class UnauthenticatedError(Exception):
    """The request has no valid login."""


class ForbiddenError(Exception):
    """The user has logged in, but may not see this; the text says why."""


class ForwardAuth:
    """Logins of browsers at one facility."""

    def __init__(self, settings: Settings, hub: Hub, cluster: Storage) -> None:
        self.settings, self.hub, self.cluster = settings, hub, cluster

    @property
    def prefix(self) -> str:
        """Return the path of this server for browsers."""
        return f"{PAGES}{self.hub.settings.service_name}"

    @property
    def callback_url(self) -> str:
        """Return where the hub sends a browser after a login; the hub's settings match it."""
        return f"{self.hub.settings.services_url}{self.prefix}/callback"

    def _user(self, request: Request) -> FacilityUser:
        """Return the user of a request; raises `UnauthenticatedError`, `ForbiddenError`."""
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        token = token if kind.lower() == "token" else request.cookies.get(SESSION, "")
        name = self.hub.user(token) if token else None
        if name is None:
            raise UnauthenticatedError
        resource = self.cluster.read_user(self.settings.namespace, resource_name(name))
        if resource is None:
            raise ForbiddenError(
                f"{name} is not a user of this facility yet: log in at the hub again"
            )
        user = FacilityUser.parse(resource)
        if user.spec.username != name:
            raise ForbiddenError(
                f"the name {name!r} is too similar to another user's; "
                "ask the administrators for another name"
            )
        if user.spec.disabled or resource["metadata"].get("deletionTimestamp"):
            raise ForbiddenError(f"{name} is disabled in this facility; ask its administrators")
        return user

    def _login(self, request: Request, uri: str) -> Response:
        """Send a browser to the hub, and remember the requested page."""
        state = secrets.token_urlsafe(24)
        login = {"next": uri, "state": state, "exp": int(time.time()) + LOGIN_S}
        parameters = {
            "client_id": self.hub.client,
            "redirect_uri": self.callback_url,
            "response_type": "code",
            "state": state,
        }
        hub = self.hub.settings.public_url
        url = escape(f"{hub}/hub/api/oauth2/authorize?{urlencode(parameters)}")
        # No redirect: a proxy would rewrite its address with its own scheme and host.
        body = f'<meta http-equiv="refresh" content="0; url={url}"><a href="{url}">Log in</a>'
        response = HTMLResponse(f"<!doctype html><title>Log in</title>{body}", 401)
        signed = jwt.encode(login, self.hub.key(), algorithm="HS256")
        self._set_cookie(response, request, STATE, signed, LOGIN_S)
        return response

    @staticmethod
    def _set_cookie(
        response: Response, request: Request, name: str, value: str, lifetime: int
    ) -> None:
        secure = request.headers.get("X-Forwarded-Proto", "").startswith("https")
        response.set_cookie(
            name,
            value,
            max_age=lifetime,
            path=PAGES,
            secure=secure,
            httponly=True,
            samesite="lax",
        )

    def _token(self, user: FacilityUser, service: str) -> str:
        """Return a fresh token of a user for a service."""
        settings, now = self.settings, time.time()
        stored = self.cluster.read_secret(settings.namespace, settings.keys_secret)
        key = KeyRing.load(stored or {}).signing(now)
        return signing.user_token(user, service, key, settings, now=now)

    def _authorized(self, request: Request, uri: str, service: str) -> Response:
        """Return the headers with which a request may pass, or a refusal."""
        if service not in (*self.settings.audiences, DASHBOARDS):
            return JSONResponse({"error": f"there are no tokens for {service!r}"}, 404)
        headers = request.headers
        origin, host = headers.get("Origin", ""), headers.get("X-Forwarded-Host", "")
        if origin and urlsplit(origin).netloc != host:
            # Cross-site request: another site's page in the user's browser.
            return JSONResponse({"error": f"{service} refuses pages of {origin}"}, 403)
        if passed := _own_credentials(headers, service):
            return Response(headers=passed)
        try:
            user = self._user(request)
        except UnauthenticatedError:
            wants_page = "text/html" in headers.get("Accept", "")
            if wants_page and headers.get("X-Forwarded-Method", "GET") == "GET":
                return self._login(request, uri)
            return JSONResponse({"error": "log in at the hub first"}, 401)
        LOG.info("%s for %s at %s", uri.partition("?")[0], user.spec.username, service)
        if service == DASHBOARDS:
            return Response(headers={USER_HEADER: user.spec.username})
        added = {"Authorization": f"Bearer {self._token(user, service)}"}
        if service == "mlflow" and self.settings.mlflow:
            own = workspace_name(user.spec.username)
            added[WORKSPACE_HEADER] = headers.get(WORKSPACE_HEADER, own)
        return Response(headers=added)

    async def authorize(self, request: Request) -> Response:
        """Decide for a proxy (ForwardAuth) whether a request for a service's page may pass."""
        uri = request.headers.get("X-Forwarded-Uri", "")
        service = request.query_params.get("service", "")
        return await self._respond(lambda: self._authorized(request, uri, service))

    @staticmethod
    async def _respond(do: Callable[[], Response]) -> Response:
        try:
            return await run_in_threadpool(do)
        except ForbiddenError as error:
            return JSONResponse({"error": str(error)}, 403)
        except StorageError as error:
            return JSONResponse({"error": str(error)}, 503)

    async def callback(self, request: Request) -> Response:
        """Finish a login: the hub has redirected the browser here with a code."""
        return await self._respond(lambda: self._finish_login(request))

    def _finish_login(self, request: Request) -> Response:
        query = request.query_params
        try:
            login = jwt.decode(request.cookies.get(STATE, ""), self.hub.key(), algorithms=["HS256"])
            valid = hmac.compare_digest(login["state"], query.get("state", ""))
        except (jwt.PyJWTError, KeyError):
            valid = False
        if not valid:
            return JSONResponse({"error": "this login did not start here; try again"}, 400)
        if "code" not in query:
            reason = query.get("error_description") or query.get("error") or "it sent no code"
            return JSONResponse({"error": f"the hub refused the login: {reason}"}, 403)
        token = self.hub.exchange(query["code"], self.callback_url)
        response = RedirectResponse(login["next"], 302)
        self._set_cookie(response, request, SESSION, token, SESSION_S)
        response.delete_cookie(STATE, path=PAGES)
        return response

    async def home(self, request: Request, rows: Rows) -> Response:
        """Show a user's status as a page."""

        def show() -> Response:
            try:
                user = self._user(request)
            except UnauthenticatedError:
                return self._login(request, f"{self.prefix}/")
            return HTMLResponse(page(user, rows(user)))

        return await self._respond(show)

    def routes(self, rows: Rows) -> list[Route]:
        """Return its routes; `rows` returns a user's limits."""

        async def home(request: Request) -> Response:
            return await self.home(request, rows)

        return [
            Route(AUTHORIZE_PATH, self.authorize),
            Route(f"{self.prefix}/callback", self.callback),
            Route(f"{self.prefix}/", home),
        ]


def _own_credentials(headers: Headers, service: str) -> dict[str, str]:
    """Return the headers of a request with a token of its own, or {}.

    The service verifies that token itself: it is not from a browser's login.
    """
    authorization = headers.get("Authorization", "")
    if not authorization or (
        service != DASHBOARDS and not authorization.lower().startswith("bearer ")
    ):
        return {}
    names = ("Authorization", WORKSPACE_HEADER)
    return {name: headers[name] for name in names if name in headers}


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    def row(cells: tuple[str, ...], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return f"<table>{row(head, 'th')}{''.join(row(cells, 'td') for cells in rows)}</table>"


STYLE = """body{font-family:sans-serif;margin:2em auto;padding:0 1em;max-width:50em;color:#222}
table{border-collapse:collapse;width:100%;margin-bottom:2em}
th,td{text-align:left;padding:.4em .8em;border-bottom:1px solid #ddd}"""


def page(user: FacilityUser, limits: list[dict[str, Any]]) -> str:
    """Return a user's status as HTML: conditions of the services, and usage of the quota."""
    conditions = [
        (entry.type, "ready" if entry.status == "True" else entry.reason, entry.message)
        for entry in user.status.conditions
    ]
    used = [
        (
            row["service"],
            row["what"],
            f"{row['used']:.3g} {row['unit']}",
            f"{row['limit']:g} {row['unit']}" if row["limit"] else "no limit",
        )
        for row in limits
    ]
    name, groups = escape(user.spec.username), escape(", ".join(user.spec.groups) or "no groups")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{name}</title>'
        f"<style>{STYLE}</style></head><body><h1>{name}</h1><p>{groups}</p>"
        f"<h2>Services</h2>{_table(('Service', 'Status', ''), conditions)}"
        f"<h2>Quota</h2>{_table(('Service', '', 'Used', 'Limit'), used)}</body></html>"
    )
