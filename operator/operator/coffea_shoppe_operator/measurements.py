"""Measure periodically how much users with a storage limit have stored."""

from typing import Protocol

from coffea_shoppe_contract.names import (
    SERVICEX_FOLDER,
    artifact_folder,
    bucket_name,
    workspace_name,
)

from coffea_shoppe_operator.adapters.base import Used
from coffea_shoppe_operator.models import FacilityUser, Quota


class Store(Protocol):
    """The client that measures buckets, implemented by `clients.object_store.ObjectStore`."""

    def size(self, bucket: str, folder: str) -> tuple[int, int]:
        """Return the bytes in the bucket and in the folder."""

    def folder_size(self, bucket: str, folder: str) -> int:
        """Return the bytes in the folder."""


class Measurements:
    """The sizes of users' buckets, and of their artifacts in MLflow's."""

    def __init__(self, store: Store, *, artifact_bucket: str = "") -> None:
        self.store = store
        self.artifact_bucket = artifact_bucket
        """Bucket of MLflow's artifacts; empty if they are not in the object store."""
        self._used: dict[str, Used | None] = {}

    def measure(self) -> None:
        """Measure what each user with a storage limit has stored."""
        for name in list(self._used):
            bucket_bytes, result_bytes = self.store.size(bucket_name(name), SERVICEX_FOLDER)
            artifact_bytes = self._artifact_bytes(name)
            # `forget` may have removed the user meanwhile.
            if name in self._used:
                self._used[name] = Used(
                    object_store=bucket_bytes + artifact_bytes,
                    servicex=result_bytes,
                    mlflow=artifact_bytes,
                )

    def _artifact_bytes(self, name: str) -> int:
        if not self.artifact_bucket:
            return 0
        return self.store.folder_size(self.artifact_bucket, artifact_folder(workspace_name(name)))

    def used(self, user: FacilityUser, quota: Quota) -> Used:
        """Return what a user has stored, as measured last."""
        name = user.spec.username
        if not (quota.object_store.gigabytes or quota.service_x.gigabytes):
            self.forget(name)
            return Used()
        # Also registers the user for the next measurement.
        return self._used.setdefault(name, None) or user.status.used

    def forget(self, name: str) -> None:
        """Stop measuring a user."""
        self._used.pop(name, None)
