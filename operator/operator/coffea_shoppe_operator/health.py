"""Whether services answer that are asked for nothing else."""

import threading
import time
from collections.abc import Callable

import requests

LOOK_S = 15
"""An answer is good for so long, however many users it is told to."""
TIMEOUT_S = 3


class Health:
    """Looks at addresses, each every few seconds only."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._looking = threading.Lock()
        self._found: dict[str, tuple[float, str]] = {}

    def problem(self, url: str) -> str:
        """Return why the service at an address is not well, or ''."""
        with self._looking:
            looked, problem = self._found.get(url, (float("-inf"), ""))
            if self.clock() - looked > LOOK_S:
                problem = self._look(url)
                self._found[url] = self.clock(), problem
            return problem

    @staticmethod
    def _look(url: str) -> str:
        try:
            answer = requests.get(url, timeout=TIMEOUT_S)
        except requests.RequestException as error:
            return f"{url} does not answer ({type(error).__name__})"
        return "" if answer.ok else f"{url}: {answer.status_code} {answer.reason}"
