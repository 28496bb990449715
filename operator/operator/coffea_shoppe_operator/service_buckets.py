"""Buckets of services, with the Secrets that contain the keys to them."""

from typing import Any, Protocol

from coffea_shoppe_contract.names import service_name

from coffea_shoppe_operator.adapters.object_store import ObjectStoreSettings, new_secret_key
from coffea_shoppe_operator.builders import secret
from coffea_shoppe_operator.models import Settings
from coffea_shoppe_operator.s3_files import s3_files, s3_key


class Cluster(Protocol):
    """What keeps Secrets; `storage.Storage` is the real one."""

    def read_secret(self, namespace: str, name: str) -> dict[str, bytes] | None: ...  # noqa: D102
    def write_secret(self, secret: dict[str, Any]) -> None: ...  # noqa: D102


class Store(Protocol):
    """A client that creates buckets, implemented by `clients.object_store.ObjectStore`."""

    def has_access(self, account: str, key: str, bucket: str) -> bool: ...  # noqa: D102
    def ensure(self, account: str, key: str, bucket: str) -> None: ...  # noqa: D102


class ServiceBuckets:
    """An account, a bucket and a Secret with the keys for each service that stores objects."""

    def __init__(
        self,
        settings: Settings,
        object_store: ObjectStoreSettings,
        cluster: Cluster,
        store: Store,
    ) -> None:
        self.settings, self.object_store = settings, object_store
        self.cluster, self.store = cluster, store

    def reconcile(self) -> None:
        """Make what is missing; existing keys stay as they are."""
        namespace, labels = self.settings.namespace, self.settings.labels
        for service, name in self.object_store.services.items():
            bucket = service_name(service)
            present = self.cluster.read_secret(namespace, name)
            key = s3_key(present or {}) or new_secret_key()
            files = s3_files(bucket, key, self.object_store)
            if present != files:
                self.cluster.write_secret(secret(name, namespace, files, labels))
            if not self.store.has_access(bucket, key, bucket):
                self.store.ensure(bucket, key, bucket)
