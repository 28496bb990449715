"""JupyterHub's API for one of its services: logins, and the users of tokens."""

import threading
import time
from collections.abc import Callable
from typing import Any

import requests

from coffea_shoppe_operator.errors import StorageError, translate_errors
from coffea_shoppe_operator.models import HubSettings

TIMEOUT_S = 10
CACHE_S = 20
"""Lifetime of a cached user: after a logout or deletion, access ends within it."""
CACHE_SIZE = 1000

_translated = translate_errors("the hub", requests.RequestException, OSError)


class Hub:
    """The hub of the facility."""

    def __init__(self, settings: HubSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings, self.clock = settings, clock
        self._lock = threading.Lock()
        self._cache: dict[str, tuple[float, str | None]] = {}

    @property
    def client(self) -> str:
        """Return the OAuth client id of this service."""
        return f"service-{self.settings.service_name}"

    @_translated
    def key(self) -> str:
        """Return the API token of this service; the file is read each time."""
        return self.settings.token.read_text().strip()

    @_translated
    def user(self, token: str) -> str | None:
        """Return the user of a token, or None.

        Only tokens for this service's pages are accepted: other services see those of a
        user's server, too.
        """
        with self._lock:
            cached_at, name = self._cache.get(token, (float("-inf"), None))
        if self.clock() - cached_at < CACHE_S:
            return name
        model = self._user_model(token)
        name = None
        if model is not None:
            scope = f"access:services!service={self.settings.service_name}"
            name = str(model["name"]) if scope in model.get("scopes", ()) else None
        with self._lock:
            if len(self._cache) >= CACHE_SIZE:
                self._cache.clear()
            self._cache[token] = self.clock(), name
        return name

    def _user_model(self, token: str) -> dict[str, Any] | None:
        """Return the hub's model of a token's user, or None if the hub refuses the token."""
        url = f"{self.settings.url.rstrip('/')}/user"
        headers = {"Authorization": f"token {token}"}
        response = requests.get(url, headers=headers, timeout=TIMEOUT_S)
        if response.status_code in (401, 403):
            return None
        if not response.ok:
            reason = f"{response.status_code} {response.text[:200]}"
            raise StorageError(f"the hub did not return the token's user: {reason}")
        model: dict[str, Any] = response.json()
        return model

    @_translated
    def exchange(self, code: str, redirect: str) -> str:
        """Exchange the code of a finished login for a token."""
        body = {
            "client_id": self.client,
            "client_secret": self.key(),
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect,
        }
        url = f"{self.settings.url.rstrip('/')}/oauth2/token"
        response = requests.post(url, data=body, timeout=TIMEOUT_S)
        if not response.ok:
            reason = f"{response.status_code} {response.text[:200]}"
            raise StorageError(f"the hub issued no token: {reason}")
        return str(response.json()["access_token"])
