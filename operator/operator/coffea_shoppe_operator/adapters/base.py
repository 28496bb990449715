"""The interface of all adapters: an owner, the context of one reconciliation, and usage."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from pydantic import Field

from coffea_shoppe_operator.conditions import Condition
from coffea_shoppe_operator.schema import Model

GB = 10**9
Quota = TypeVar("Quota", bound=Model)


class Used(Model):
    """How much a user has stored; measured where it is limited."""

    object_store: int = 0
    """Bytes in the bucket and of MLflow's artifacts."""
    service_x: int = Field(default=0, alias="servicex")
    """Bytes of ServiceX results, which are part of the bucket."""
    mlflow: int = 0
    """Bytes of MLflow's artifacts, where they are in the object store."""


@dataclass(frozen=True)
class Owner:
    """The user for whom services are provisioned."""

    name: str
    """The hub's name."""
    resource: str
    """Name of the resource, and value of the label on all objects of the owner."""
    quotas: tuple[Model, ...]
    """One of each service that has limits."""
    used: Used = field(default_factory=Used)
    """As measured last."""
    conditions: tuple[Condition, ...] = ()
    """As reported last."""

    def quota(self, kind: type[Quota]) -> Quota:
        """Return the owner's quota of one service."""
        return next(quota for quota in self.quotas if isinstance(quota, kind))


@dataclass(frozen=True)
class Context:
    """One reconciliation of one owner."""

    labels: Mapping[str, str]
    """Labels of all objects of the owner."""
    user_token: Callable[[str], str]
    """Mints a token of the owner for an audience."""
    admin_token: Callable[[str], str]
    """Mints a token of the operator for an audience."""
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Content of the owner's Secret."""
    fresh: bool = False
    """Whether that content has just changed.

    Services are configured again then, even if their last condition was good.
    """


@dataclass(frozen=True)
class Usage:
    """One limit of an owner, and how much of it is used."""

    service: str
    what: str
    """The limited quantity, such as memory."""
    unit: str
    used: float
    limit: float
    """0: no limit."""


class Adapter:
    """One service; each method is idempotent.  The defaults do nothing."""

    def files(self, owner: Owner, previous: Mapping[str, bytes], now: float) -> dict[str, bytes]:
        """Return the service's files in the owner's Secret, given its previous content."""
        return {}

    def provision(self, owner: Owner, context: Context) -> Condition | None:
        """Give the owner access to the service; return its condition, if it has one.

        A service that is unavailable is a condition, not an error.
        """
        return None

    def revoke(self, owner: Owner) -> None:
        """Revoke the owner's access and keep the data; raises `StorageError`."""

    def remove(self, owner: Owner, context: Context) -> None:
        """Remove the owner's data; raises `StorageError`."""

    def usage(self, owner: Owner) -> Iterable[Usage]:
        """Return the owner's limits and what is used of them; raises `StorageError`."""
        return ()


class ServiceSettings(Model):
    """Settings of a service in `Settings.services`; its adapter may add fields."""

    endpoint: str = Field(min_length=1)
    """Address of the service's HTTP interface."""


class Client(Protocol):
    """The HTTP interface of a service, implemented by `clients.http.Client`."""

    def send(self, method: str, path: str, token: str, body: object = None) -> None:
        """Send a request; raises `StorageError` where it fails or is refused."""


class Health(Protocol):
    """Whether a service is healthy, implemented by `clients.health.Health`."""

    def problem(self, url: str) -> str: ...  # noqa: D102


@dataclass(frozen=True)
class Service:
    """A service that the operator finds by its adapter's module.

    Each user has a token for the audience `name`; the operator's own are for `admin`.
    """

    name: str
    """Of the service in the catalogue, and of its settings, quota and tokens."""
    adapter: Callable[[Any, Client, Health], Adapter]
    """Makes the adapter from settings of the type `settings`."""
    settings: type[ServiceSettings] = ServiceSettings
    quota: type[Model] | None = None
    """Limits of a user, all of them optional; None: there are none."""

    @property
    def admin(self) -> str:
        """Audience of the operator's own tokens for the service."""
        return f"{self.name}-admin"
