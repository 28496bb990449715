"""Users of ServiceX: what they may have, and that they are gone."""

from urllib.parse import quote

import requests

from coffea_shoppe_operator.errors import StorageError, telling
from coffea_shoppe_operator.models import ServiceXQuota, ServiceXSettings

TIMEOUT_S = 20

_telling = telling("ServiceX", requests.RequestException)


class ServiceX:
    """The facility's ServiceX; each `token` is the operator's own."""

    def __init__(self, settings: ServiceXSettings) -> None:
        self.url = settings.endpoint.rstrip("/")

    def _send(self, method: str, user: str, token: str, body: object = None) -> None:
        url = f"{self.url}/servicex/internal/users/{quote(user, safe='')}"
        headers = {"Authorization": f"Bearer {token}"}
        answer = requests.request(method, url, headers=headers, json=body, timeout=TIMEOUT_S)
        if not answer.ok:
            raise StorageError(f"ServiceX: {user}: {answer.status_code} {answer.text[:200]}")

    @_telling
    def welcome(self, user: str, quota: ServiceXQuota, token: str) -> None:
        """Make a user known, with what the user may have."""
        self._send("PUT", user, token, quota.model_dump(exclude_none=True))

    @_telling
    def remove(self, user: str, token: str) -> None:
        """Forget a user, with all requests and results; none is no error."""
        self._send("DELETE", user, token)
