"""ServiceX: each user has a quota there."""

from collections.abc import Iterator
from typing import Protocol

from coffea_shoppe_contract.claims import SERVICEX_ADMIN
from pydantic import Field

from coffea_shoppe_operator.adapters.base import GB, Adapter, Context, Owner, Usage
from coffea_shoppe_operator.conditions import Condition, service_condition
from coffea_shoppe_operator.errors import StorageError
from coffea_shoppe_operator.schema import Model


class ServiceXSettings(Model):
    """The ServiceX whose users the operator manages."""

    endpoint: str


class ServiceXQuota(Model):
    """Limits of a user's ServiceX results and transforms."""

    gigabytes: float | None = Field(default=None, ge=0)
    """Size of the results beyond which the oldest are removed; 0: no limit."""
    share: float | None = Field(default=None, gt=0)
    """Weight of the user: files processed at a time, relative to a share of 1."""


class Client(Protocol):
    """What the adapter needs of ServiceX, implemented by `clients.servicex.ServiceX`."""

    def set_quota(self, user: str, quota: ServiceXQuota, token: str) -> None: ...  # noqa: D102
    def remove(self, user: str, token: str) -> None: ...  # noqa: D102


class ServiceXAdapter(Adapter):
    """Users of ServiceX with their quotas."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def provision(self, owner: Owner, context: Context) -> Condition:
        """Set the owner's quota after each change, and with each fresh token."""
        quota = owner.quota(ServiceXQuota)
        message = f"a share of {quota.share or 1:g}"
        if quota.gigabytes:
            message += f"; results up to {quota.gigabytes:g} GB are kept"
        ready = service_condition("ServiceX", message=message)
        if ready in owner.conditions and not context.fresh:
            return ready
        try:
            self.client.set_quota(owner.name, quota, context.admin_token(SERVICEX_ADMIN))
        except StorageError as error:
            return service_condition("ServiceX", message=message, problem=str(error))
        return ready

    def remove(self, owner: Owner, context: Context) -> None:
        """Remove the owner with all requests and results."""
        self.client.remove(owner.name, context.admin_token(SERVICEX_ADMIN))

    def usage(self, owner: Owner) -> Iterator[Usage]:
        """Yield the size of the results where it is limited: only then is it measured."""
        if limit := owner.quota(ServiceXQuota).gigabytes:
            yield Usage("servicex", "stored", "GB", owner.used.service_x / GB, limit)
