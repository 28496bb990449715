"""JupyterHub, as one of its services sees it: who a browser's token belongs to."""

import threading
import time
from collections.abc import Callable
from typing import Any

import requests

from coffea_shoppe_operator.errors import StorageError, telling
from coffea_shoppe_operator.models import HubSettings

TIMEOUT_S = 10
KNOWN_S = 20
"""An answer is good for so long: who logs out, or is deleted, is refused after it."""
KNOWN_MOST = 1000

_telling = telling("the hub", requests.RequestException, OSError)


class Hub:
    """The hub of the facility."""

    def __init__(self, settings: HubSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings, self.clock = settings, clock
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, str | None]] = {}

    @property
    def client(self) -> str:
        """Return this service's name as a client of the hub's logins."""
        return f"service-{self.settings.service_name}"

    @_telling
    def key(self) -> str:
        """Return the token that the hub knows this service by, read anew."""
        return self.settings.token.read_text().strip()

    @_telling
    def user(self, token: str) -> str | None:
        """Return whose token this is; None where it is nobody's, or for something else.

        Only a token that was given for this service's pages counts: one of a user's
        server, say, is seen by other services, too.
        """
        with self._lock:
            asked, name = self._known.get(token, (float("-inf"), None))
        if self.clock() - asked < KNOWN_S:
            return name
        found = self._ask(token)
        name = None
        if found is not None:
            wanted = f"access:services!service={self.settings.service_name}"
            name = str(found["name"]) if wanted in found.get("scopes", ()) else None
        with self._lock:
            if len(self._known) >= KNOWN_MOST:
                self._known.clear()
            self._known[token] = self.clock(), name
        return name

    def _ask(self, token: str) -> dict[str, Any] | None:
        """Return the hub's model of a token's user, or None where the hub refuses it."""
        url = f"{self.settings.url.rstrip('/')}/user"
        headers = {"Authorization": f"token {token}"}
        answer = requests.get(url, headers=headers, timeout=TIMEOUT_S)
        if answer.status_code in (401, 403):
            return None
        if not answer.ok:
            raise StorageError(f"the hub: user: {answer.status_code} {answer.text[:200]}")
        found: dict[str, Any] = answer.json()
        return found

    @_telling
    def exchange(self, code: str, redirect: str) -> str:
        """Return the token for the code that a browser came back with from the hub."""
        body = {
            "client_id": self.client,
            "client_secret": self.key(),
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect,
        }
        url = f"{self.settings.url.rstrip('/')}/oauth2/token"
        answer = requests.post(url, data=body, timeout=TIMEOUT_S)
        if not answer.ok:
            raise StorageError(f"the hub: no token: {answer.status_code} {answer.text[:200]}")
        return str(answer.json()["access_token"])
