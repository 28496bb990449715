"""The services that a facility has: their clients and adapters, by the settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from coffea_shoppe_operator.adapters import (
    base,
    dask,
    discovered,
    mlflow,
    object_store,
    servicex,
    triton,
)
from coffea_shoppe_operator.clients import http
from coffea_shoppe_operator.clients.health import Health
from coffea_shoppe_operator.clients.mlflow import Mlflow
from coffea_shoppe_operator.clients.object_store import ObjectStore
from coffea_shoppe_operator.clients.servicex import ServiceX
from coffea_shoppe_operator.models import Settings


class Cluster(dask.Cluster, triton.Cluster, Protocol):
    """What the adapters need of Kubernetes, implemented by `storage.Storage`."""


@dataclass(frozen=True)
class Clients:
    """Clients of the services that the facility has; None: it has no such service."""

    object_store: ObjectStore | None = None
    mlflow: Mlflow | None = None
    servicex: ServiceX | None = None
    health: base.Health = field(default_factory=Health)
    services: Mapping[str, base.Client] = field(default_factory=dict)
    """Of the services in `Settings.services`."""

    @classmethod
    def of(cls, settings: Settings) -> "Clients":
        """Return the clients of the services in the settings."""
        return cls(
            object_store=ObjectStore(settings.object_store) if settings.object_store else None,
            mlflow=Mlflow(settings.mlflow) if settings.mlflow else None,
            servicex=ServiceX(settings.service_x) if settings.service_x else None,
            services={
                name: http.Client(name, service.endpoint)
                for name, service in settings.services.items()
            },
        )


def adapters(settings: Settings, cluster: Cluster, clients: Clients) -> list[base.Adapter]:
    """Return the adapters in the order in which a user's resource lists their conditions.

    Data are removed in the reverse order: ServiceX's requests would write to the bucket.
    """
    enabled: list[base.Adapter] = []
    if settings.object_store and clients.object_store:
        enabled.append(object_store.ObjectStoreAdapter(settings.object_store, clients.object_store))
    if settings.mlflow and clients.mlflow:
        store = clients.object_store
        enabled.append(mlflow.MlflowAdapter(settings.mlflow, clients.mlflow, store))
    if clients.servicex:
        enabled.append(servicex.ServiceXAdapter(clients.servicex))
    if settings.dask:
        enabled.append(dask.DaskAdapter(settings.dask, cluster, clients.health))
    if settings.triton:
        enabled.append(
            triton.TritonAdapter(settings.triton, cluster, settings.namespace, clients.health)
        )
    for name, service in settings.services.items():
        adapter = discovered()[name].adapter
        enabled.append(adapter(service, clients.services[name], clients.health))
    return enabled
