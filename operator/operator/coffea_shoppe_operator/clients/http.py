"""The operator's requests to a service's HTTP interface."""

import requests

from coffea_shoppe_operator.errors import StorageError

TIMEOUT_S = 20


class Client:
    """A service at an address; each `token` is one for that service."""

    def __init__(self, name: str, endpoint: str) -> None:
        self.name, self.endpoint = name, endpoint.rstrip("/")

    def send(self, method: str, path: str, token: str, body: object = None) -> None:
        """Send a request, with a JSON body if there is one; raises `StorageError`."""
        headers = {"Authorization": f"Bearer {token}"}
        url = f"{self.endpoint}{path}"
        try:
            response = requests.request(method, url, headers=headers, json=body, timeout=TIMEOUT_S)
        except requests.RequestException as error:
            raise StorageError(f"{self.name}: {path}: {error}") from error
        if not response.ok:
            raise StorageError(f"{self.name}: {path}: {response.status_code} {response.text[:200]}")
