"""Triton: the names of a user's models have a prefix from the user's name."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, Protocol

from coffea_shoppe_contract.names import model_prefix
from coffea_shoppe_contract.resources import USER_LABEL
from pydantic import Field

from coffea_shoppe_operator.adapters.base import Adapter, Context, Health, Owner, Usage
from coffea_shoppe_operator.conditions import Condition, service_condition
from coffea_shoppe_operator.schema import Model


class TritonSettings(Model):
    """The Triton that serves the users' models."""

    endpoint: str
    """HTTP address of Triton's reverse proxy."""
    bucket: str
    """Triton's model repository."""
    megabytes: int = 256
    """Maximum size of a model."""
    backend: Literal["python", "fil"] = "python"
    """Triton backend: Python, in the facility's own image, or FIL."""
    require_landlock: bool = True
    """Whether no model is read on a node that cannot confine the process that reads it."""
    deployment: str = ""
    """Deployment of the replicas; empty: they are not scaled."""


class TritonQuota(Model):
    """Limits of a user's models."""

    models: int | None = Field(default=None, ge=0)
    """Number of served models; 0: no limit."""


class Cluster(Protocol):
    """What the adapter needs of Kubernetes, implemented by `storage.Storage`."""

    def list_models(  # noqa: D102
        self, namespace: str, labels: Mapping[str, str]
    ) -> list[dict[str, Any]]: ...


class TritonAdapter(Adapter):
    """Users of Triton; `serving` handles their models, which are separate resources."""

    def __init__(
        self, settings: TritonSettings, cluster: Cluster, namespace: str, health: Health
    ) -> None:
        self.settings, self.cluster, self.namespace = settings, cluster, namespace
        self.health = health

    def provision(self, owner: Owner, context: Context) -> Condition:
        """Return whether Triton is ready; a user needs nothing else there."""
        return service_condition(
            "Triton",
            message=f"models are named {model_prefix(owner.name)}*",
            problem=self.health.problem(f"{self.settings.endpoint.rstrip('/')}/v2/health/ready"),
        )

    def usage(self, owner: Owner) -> Iterator[Usage]:
        """Yield the number of the owner's models."""
        models = self.cluster.list_models(self.namespace, {USER_LABEL: owner.resource})
        limit = owner.quota(TritonQuota).models or 0
        yield Usage("triton", "models", "", len(models), limit)
