"""Users of ServiceX, through its internal API."""

from urllib.parse import quote

from coffea_shoppe_operator.adapters.servicex import ServiceXQuota, ServiceXSettings
from coffea_shoppe_operator.clients.http import Client


class ServiceX:
    """The facility's ServiceX; each `token` is the operator's own."""

    def __init__(self, settings: ServiceXSettings) -> None:
        self.client = Client("ServiceX", settings.endpoint)

    def set_quota(self, user: str, quota: ServiceXQuota, token: str) -> None:
        """Set a user's quota; raises `StorageError`."""
        self.client.send("PUT", _path(user), token, quota.model_dump(exclude_none=True))

    def remove(self, user: str, token: str) -> None:
        """Remove a user with all requests and results; a user without any is not an error."""
        self.client.send("DELETE", _path(user), token)


def _path(user: str) -> str:
    return f"/servicex/internal/users/{quote(user, safe='')}"
