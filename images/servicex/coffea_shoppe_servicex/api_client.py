"""The API as transformers call it, with retries while it is not available."""

import logging
import threading
import time
from pathlib import Path
from typing import Any

import requests

from coffea_shoppe_servicex import liveness
from coffea_shoppe_servicex.errors import LeaseLostError

LOG = logging.getLogger(__name__)
TIMEOUT_S = 30
RETRY_INTERVAL_S = 1
RETRY_TIMEOUT_S = 600
"""A call is given up after the API has not responded for this long."""
LOG_INTERVAL_S = 30
"""An API that does not respond is logged this often."""


class ApiError(Exception):
    """The API refused a call, or did not respond in time."""


class ApiClient:
    """Calls the API with a transformer's key."""

    def __init__(self, url: str, key_file: Path) -> None:
        self.url, self.key_file = url.rstrip("/"), key_file
        self.session = requests.Session()
        self.stopping = threading.Event()
        """Set when the transformer shall end: calls are not retried any more."""

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Call the API, with retries while it is not available; return its JSON response.

        Raises `LeaseLostError`, or `ApiError` if the call is refused or the retries time out.
        """
        deadline = time.monotonic() + RETRY_TIMEOUT_S
        last_logged = 0.0
        while True:
            try:
                response = self.session.post(
                    f"{self.url}/servicex/internal/{path}",
                    json=body,
                    headers={"Authorization": f"Bearer {self.key_file.read_text().strip()}"},
                    timeout=TIMEOUT_S,
                )
            except requests.RequestException as error:
                problem = type(error).__name__
            else:
                if response.status_code == 204:
                    return None
                if response.ok:
                    return response.json()
                problem = f"{response.status_code} {response.text[:300]}"
                if response.status_code == 409:
                    raise LeaseLostError(problem)
                if response.status_code < 500:
                    raise ApiError(problem)
            if time.monotonic() > deadline or self.stopping.is_set():
                raise ApiError(f"the API at {self.url} does not respond: {problem}")
            if time.monotonic() - last_logged > LOG_INTERVAL_S:
                LOG.warning("the API at %s does not respond yet: %s", self.url, problem)
                last_logged = time.monotonic()
            liveness.report()
            self.stopping.wait(RETRY_INTERVAL_S)
