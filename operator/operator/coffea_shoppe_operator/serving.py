"""Reconcile served models.  Idempotent: writes only on difference."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from coffea_shoppe_contract.claims import TRITON_ADMIN
from coffea_shoppe_contract.names import model_prefix, resource_name, workspace_name

from coffea_shoppe_operator import boosters, builders, signing
from coffea_shoppe_operator.adapters.triton import TritonSettings
from coffea_shoppe_operator.boosters import Inspected
from coffea_shoppe_operator.clients.mlflow import Booster, Reader, Version
from coffea_shoppe_operator.conditions import ready
from coffea_shoppe_operator.errors import ModelError, StorageError
from coffea_shoppe_operator.keys import KeyRing
from coffea_shoppe_operator.models import (
    FacilityUser,
    ServedModel,
    ServedModelStatus,
    Settings,
)

UNAVAILABLE = "Unavailable"


class Users(Protocol):
    """What reads users' resources; `storage.Storage` is the real one."""

    def read_user(self, namespace: str, name: str) -> dict[str, Any] | None: ...  # noqa: D102


class Registry(Protocol):
    """Source of models; `clients.mlflow.Mlflow` is the real one."""

    def resolve(self, uri: str, reader: Reader) -> Version: ...  # noqa: D102
    def fetch(self, version: Version, reader: Reader, *, megabytes: int) -> Booster: ...  # noqa: D102


class Repository(Protocol):
    """Triton's model repository; `clients.object_store.ObjectStore` is the real one."""

    def put(self, bucket: str, files: Mapping[str, bytes]) -> None: ...  # noqa: D102
    def remove_folder(self, bucket: str, folder: str) -> None: ...  # noqa: D102


class Server(Protocol):
    """What serves models; `clients.triton.Triton` is the real one."""

    def ready(self, model: str, version: str, token: str) -> bool: ...  # noqa: D102
    def load(self, model: str, token: str) -> None: ...  # noqa: D102
    def probe(  # noqa: D102
        self, model: str, version: str, inspected: Inspected, token: str
    ) -> None: ...
    def unload(self, model: str, token: str) -> None: ...  # noqa: D102


class Inspector(Protocol):
    """Inspects a model; `boosters.inspect` is the real one."""

    def __call__(self, model: bytes, file: str, *, cut: bool) -> Inspected: ...  # noqa: D102


class Serving:
    """The served models of one facility."""

    def __init__(
        self,
        settings: Settings,
        triton: TritonSettings,
        *,
        keys: Callable[[float], KeyRing],
        users: Users,
        registry: Registry,
        repository: Repository,
        server: Server,
        inspect: Inspector = boosters.inspect,
    ) -> None:
        self.settings, self.triton, self.keys, self.users = settings, triton, keys, users
        self.registry, self.repository, self.server = registry, repository, server
        self.inspect = inspect

    def reconcile(self, model: ServedModel, now: float) -> ServedModelStatus:
        """Make Triton match a resource; return its status.

        The reason of its condition is `UNAVAILABLE` where a service cannot be reached.
        """
        try:
            status = self._serve(model, now)
        except ModelError as error:
            served = model.status.version
            suffix = f"; version {served} is still served" if served else ""
            status = self._failed(model, error.reason, f"{error}{suffix}")
        except StorageError as error:
            status = self._failed(model, UNAVAILABLE, f"{error}; the operator retries")
        return status.model_copy(update={"requested_at": model.spec.requested_at})

    @staticmethod
    def _failed(model: ServedModel, reason: str, text: str) -> ServedModelStatus:
        """Return the status after a failure: what was served before is still served."""
        conditions = [ready(False, reason, text)]
        return model.status.model_copy(update={"conditions": conditions})

    def _serve(self, model: ServedModel, now: float) -> ServedModelStatus:
        user = self._user(model)
        if user is None or user.spec.disabled:
            if model.status.version:
                self.remove(model, now)
            message = f"the user {model.spec.username!r} does not exist, or is disabled"
            return ServedModelStatus(conditions=[ready(False, "NoUser", message)])
        name = f"{model_prefix(model.spec.username)}{model.spec.name}"
        if name != model.name:
            raise ModelError("WrongName", f"the resource must be named {name!r}")
        ring, old = self.keys(now), model.status
        key = ring.signing(now)
        admin = signing.admin_token(TRITON_ADMIN, key, self.settings, now=now)
        reader = Reader(
            signing.user_token(user, "mlflow", key, self.settings, now=now),
            workspace_name(model.spec.username),
        )
        version = self.registry.resolve(model.spec.model, reader)
        same = version == Version(old.registered, old.version, old.run)
        # A model served by an earlier release is replaced only when its user asks for that.
        outdated = not old.method and model.spec.requested_at > old.requested_at
        if outdated or not (same and self.server.ready(name, version.number, admin)):
            return self._replace(model, name, version, reader, admin)
        return old.model_copy(update={"conditions": [self._ready(model, version)]})

    @staticmethod
    def _ready(model: ServedModel, version: Version) -> Any:
        message = f"{model.spec.model} is version {version.number} of {version.name}"
        return ready(True, "Served", message)

    def _user(self, model: ServedModel) -> FacilityUser | None:
        name = resource_name(model.spec.username)
        body = self.users.read_user(self.settings.namespace, name)
        if body is None or body["metadata"].get("deletionTimestamp"):
            return None
        return FacilityUser.parse(body)

    def _replace(
        self, model: ServedModel, name: str, version: Version, reader: Reader, admin: str
    ) -> ServedModelStatus:
        """Serve another version; where that fails, serve the previous one again."""
        old = model.status
        booster = self.registry.fetch(version, reader, megabytes=self.triton.megabytes)
        inspected = self.inspect(booster.content, booster.file, cut=self.triton.backend == "fil")
        _compare_columns(booster, inspected)
        digest = hashlib.sha256(booster.content).hexdigest()
        new = ServedModelStatus(
            model=name,
            registered=version.name,
            version=version.number,
            run=version.run,
            sha256=digest,
            file=booster.file,
            features=booster.features,
            method=inspected.method,
            outputs=inspected.outputs,
            rounds=inspected.rounds,
            objective=inspected.objective,
            url=f"{self.triton.endpoint.rstrip('/')}/v2/models/{name}",
            signature=booster.signature,
            training=booster.training,
            code=booster.code,
            conditions=[self._ready(model, version)],
        )
        triton_model = self._triton_model(name, new, model)
        files = builders.triton_files(triton_model, inspected.cut or booster.content)
        # The configuration comes last: it selects the version that is loaded.
        self.repository.put(self.triton.bucket, files)
        try:
            self.server.load(name, admin)
            self.server.probe(name, version.number, inspected, admin)
        except ModelError as error:
            if self._restore(model, name, new, admin):
                raise
            return ServedModelStatus(conditions=[ready(False, error.reason, str(error))])
        if old.version and old.version != version.number:
            self.repository.remove_folder(self.triton.bucket, f"{name}/{old.version}")
        return new

    def _restore(
        self, model: ServedModel, name: str, failed: ServedModelStatus, admin: str
    ) -> bool:
        """Serve the previous version again; return whether there was another one."""
        old = model.status
        if not old.version or old.version == failed.version:
            self.server.unload(name, admin)
            self.repository.remove_folder(self.triton.bucket, name)
            return False
        config = builders.triton_config(self._triton_model(name, old, model))
        self.repository.put(self.triton.bucket, {f"{name}/config.pbtxt": config.encode()})
        self.server.load(name, admin)
        self.repository.remove_folder(self.triton.bucket, f"{name}/{failed.version}")
        return True

    def _triton_model(
        self, name: str, status: ServedModelStatus, model: ServedModel
    ) -> builders.TritonModel:
        """Return a version for Triton's repository, with its provenance as parameters."""
        prefix = f"mlflow.v{status.version}"
        parameters = {
            f"{prefix}.model": model.spec.model,
            f"{prefix}.run_id": status.run,
            f"{prefix}.sha256": status.sha256,
            f"{prefix}.signature": status.signature,
            f"{prefix}.training": status.training,
            f"{prefix}.code": status.code,
        }
        parameters = {key: value for key, value in parameters.items() if value}
        return builders.TritonModel(
            name=name,
            version=status.version,
            file=status.file,
            features=status.features,
            backend=self.triton.backend,
            parameters=parameters,
            method=status.method,
            outputs=status.outputs,
            rounds=status.rounds,
        )

    def remove(self, model: ServedModel, now: float) -> None:
        """Stop serving a model, and remove it from the repository."""
        name = f"{model_prefix(model.spec.username)}{model.spec.name}"
        if name != model.name:
            return  # it was never served
        key = self.keys(now).signing(now)
        admin = signing.admin_token(TRITON_ADMIN, key, self.settings, now=now)
        self.server.unload(name, admin)
        self.repository.remove_folder(self.triton.bucket, name)


def _compare_columns(booster: Booster, inspected: Inspected) -> None:
    """Raise `ModelError` where a signature has other columns than its model."""
    if booster.features != inspected.features:
        counts = f"its signature has {booster.features} columns, the model {inspected.features}"
        raise ModelError(
            "WrongFeatures", f"{counts}: log it with a signature inferred from its training rows"
        )
    pairs = zip(booster.columns, inspected.names, strict=False)
    for number, (column, feature) in enumerate(pairs):
        if column != feature:
            raise ModelError(
                "WrongFeatures",
                f"column {number} is {column!r} in its signature and {feature!r} in the model: "
                "log it with a signature inferred from its training rows",
            )
