"""Toy: each user has notes, and a limit of how many."""

from urllib.parse import quote

from pydantic import Field

from coffea_shoppe_operator.adapters.base import (
    Adapter,
    Client,
    Context,
    Health,
    Owner,
    Service,
    ServiceSettings,
)
from coffea_shoppe_operator.conditions import Condition, service_condition
from coffea_shoppe_operator.errors import StorageError
from coffea_shoppe_operator.schema import Model


class ToyQuota(Model):
    """Limits of a user's notes."""

    notes: int | None = Field(default=None, ge=0)
    """Number of notes; 0: no limit."""


class ToyAdapter(Adapter):
    """Users of the toy with their limits."""

    def __init__(self, settings: ServiceSettings, client: Client, health: Health) -> None:
        self.settings, self.client, self.health = settings, client, health

    def provision(self, owner: Owner, context: Context) -> Condition:
        """Set the owner's limit after each change, and with each fresh token."""
        limit = owner.quota(ToyQuota).notes or 0
        ready = service_condition("Toy", message=f"at most {limit} notes" if limit else "no limits")
        if ready in owner.conditions and not context.fresh:
            problem = self.health.problem(f"{self.settings.endpoint}/health")
            return service_condition("Toy", message=ready.message, problem=problem)
        try:
            self.client.send(
                "PUT", _path(owner), context.admin_token(SERVICE.admin), {"notes": limit}
            )
        except StorageError as error:
            return service_condition("Toy", message=ready.message, problem=str(error))
        return ready

    def remove(self, owner: Owner, context: Context) -> None:
        """Remove the owner's notes."""
        self.client.send("DELETE", _path(owner), context.admin_token(SERVICE.admin))


def _path(owner: Owner) -> str:
    return f"/users/{quote(owner.name, safe='')}"


SERVICE = Service(name="toy", adapter=ToyAdapter, quota=ToyQuota)
