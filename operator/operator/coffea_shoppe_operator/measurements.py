"""How much users have stored, measured periodically where it is limited."""

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
    """What measures buckets, implemented by `clients.object_store.ObjectStore`."""

    def size(self, bucket: str, folder: str) -> tuple[int, int]: ...  # noqa: D102
    def folder_size(self, bucket: str, folder: str) -> int: ...  # noqa: D102


class Measurements:
    """The sizes of users' buckets, and of their artifacts in MLflow's."""

    def __init__(self, store: Store, *, artifact_bucket: str = "") -> None:
        """`artifact_bucket`: of MLflow; empty: its artifacts are not in the object store."""
        self.store, self.artifact_bucket = store, artifact_bucket
        self._used: dict[str, Used | None] = {}

    def measure(self) -> None:
        """Measure what all users whose storage is limited have stored."""
        for name in list(self._used):
            in_bucket, results = self.store.size(bucket_name(name), SERVICEX_FOLDER)
            artifacts = self._artifacts(name)
            # A user may have been forgotten meanwhile.
            if name in self._used:
                self._used[name] = Used(
                    object_store=in_bucket + artifacts, servicex=results, mlflow=artifacts
                )

    def _artifacts(self, name: str) -> int:
        if not self.artifact_bucket:
            return 0
        return self.store.folder_size(self.artifact_bucket, artifact_folder(workspace_name(name)))

    def used(self, user: FacilityUser, quota: Quota) -> Used:
        """Return what a user has stored, as measured last."""
        name = user.spec.username
        if not (quota.object_store.gigabytes or quota.service_x.gigabytes):
            self.forget(name)
            return Used()
        return self._used.setdefault(name, None) or user.status.used

    def forget(self, name: str) -> None:
        """Measure a user no longer."""
        self._used.pop(name, None)
