"""Health of services at which nothing is provisioned."""

import threading
import time
from collections.abc import Callable

import requests

CACHE_S = 15
"""Lifetime of a cached result, which all users share."""
TIMEOUT_S = 3


class Health:
    """Checks addresses, each once per `CACHE_S`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._lock = threading.Lock()
        self._cache: dict[str, tuple[float, str]] = {}

    def problem(self, url: str) -> str:
        """Return why the service at an address is not healthy, or ''."""
        with self._lock:
            checked, problem = self._cache.get(url, (float("-inf"), ""))
            if self.clock() - checked > CACHE_S:
                problem = self._check(url)
                self._cache[url] = self.clock(), problem
            return problem

    @staticmethod
    def _check(url: str) -> str:
        try:
            response = requests.get(url, timeout=TIMEOUT_S)
        except requests.RequestException as error:
            return f"{url} does not respond ({type(error).__name__})"
        return "" if response.ok else f"{url}: {response.status_code} {response.reason}"
