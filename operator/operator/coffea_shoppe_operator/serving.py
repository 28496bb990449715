"""What is done for served models; each call converges and then writes nothing."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from coffea_shoppe_contract import identity

from coffea_shoppe_operator import builders
from coffea_shoppe_operator.errors import ModelError, StorageError
from coffea_shoppe_operator.keys import KeyRing
from coffea_shoppe_operator.mlflow import Booster, Reader, Version
from coffea_shoppe_operator.models import (
    FacilityUser,
    ServedModel,
    ServedModelStatus,
    Settings,
    TritonSettings,
)

UNAVAILABLE = "Unavailable"


class Users(Protocol):
    """Who the facility's users are; `storage.Storage` knows."""

    def read_user(self, namespace: str, name: str) -> dict[str, Any] | None: ...  # noqa: D102


class Registry(Protocol):
    """Where models come from; `mlflow.Mlflow` is the real one."""

    def resolve(self, uri: str, who: Reader) -> Version: ...  # noqa: D102
    def fetch(self, version: Version, who: Reader, *, megabytes: int) -> Booster: ...  # noqa: D102


class Repository(Protocol):
    """Where Triton finds models; `objectstore.ObjectStore` is the real one."""

    def put(self, bucket: str, files: Mapping[str, bytes]) -> None: ...  # noqa: D102
    def remove_folder(self, bucket: str, folder: str) -> None: ...  # noqa: D102


class Server(Protocol):
    """What serves models; `triton.Triton` is the real one."""

    def ready(self, model: str, version: str, token: str) -> bool: ...  # noqa: D102
    def load(self, model: str, token: str) -> None: ...  # noqa: D102
    def probe(self, model: str, version: str, features: int, token: str) -> None: ...  # noqa: D102
    def unload(self, model: str, token: str) -> None: ...  # noqa: D102


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
    ) -> None:
        self.settings, self.triton, self.keys, self.users = settings, triton, keys, users
        self.registry, self.repository, self.server = registry, repository, server

    def reconcile(self, model: ServedModel, now: float) -> ServedModelStatus:
        """Bring about what a resource asks for; return its status.

        The reason of its condition is `UNAVAILABLE` where something is away that is
        needed for it.
        """
        try:
            found = self._serve(model, now)
        except ModelError as error:
            served = model.status.version
            kept = f"; version {served} is still served" if served else ""
            found = self._failed(model, error.reason, f"{error}{kept}")
        except StorageError as error:
            found = self._failed(model, UNAVAILABLE, f"{error}; it is tried again")
        return found.model_copy(update={"asked": model.spec.asked})

    @staticmethod
    def _failed(model: ServedModel, reason: str, text: str) -> ServedModelStatus:
        """Return the status of a model whose wish cannot be met: it keeps what was served."""
        conditions = [builders.ready(False, reason, text)]
        return model.status.model_copy(update={"conditions": conditions})

    def _serve(self, model: ServedModel, now: float) -> ServedModelStatus:
        user = self._user(model)
        if user is None or user.spec.disabled:
            if model.status.version:
                self.remove(model, now)
            told = f"there is no user {model.spec.username!r}, or not any more"
            return ServedModelStatus(conditions=[builders.ready(False, "NoUser", told)])
        name = f"{identity.model_prefix(model.spec.username)}{model.spec.name}"
        if name != model.name:
            raise ModelError("WrongName", f"the resource must be named {name!r}")
        ring, old = self.keys(now), model.status
        key = ring.signing(now)
        admin = builders.admin_token(identity.TRITON_ADMIN, key, self.settings, now=now)
        who = Reader(
            builders.user_token(user, "mlflow", key, self.settings, now=now),
            identity.workspace_name(model.spec.username),
        )
        wanted = self.registry.resolve(model.spec.model, who)
        same = wanted == Version(old.registered, old.version, old.run)
        if not (same and self.server.ready(name, wanted.number, admin)):
            return self._replace(model, name, wanted, who, admin)
        return old.model_copy(update={"conditions": [self._ready(model, wanted)]})

    @staticmethod
    def _ready(model: ServedModel, version: Version) -> Any:
        told = f"{model.spec.model} is version {version.number} of {version.name}"
        return builders.ready(True, "Served", told)

    def _user(self, model: ServedModel) -> FacilityUser | None:
        name = identity.resource_name(model.spec.username)
        body = self.users.read_user(self.settings.namespace, name)
        if body is None or body["metadata"].get("deletionTimestamp"):
            return None
        return FacilityUser.parse(body)

    def _replace(
        self, model: ServedModel, name: str, wanted: Version, who: Reader, admin: str
    ) -> ServedModelStatus:
        """Serve a version instead of what was served; if that fails, what was served."""
        old = model.status
        booster = self.registry.fetch(wanted, who, megabytes=self.triton.megabytes)
        digest = hashlib.sha256(booster.data).hexdigest()
        new = ServedModelStatus(
            model=name,
            registered=wanted.name,
            version=wanted.number,
            run=wanted.run,
            sha256=digest,
            file=booster.file,
            features=booster.features,
            url=f"{self.triton.endpoint.rstrip('/')}/v2/models/{name}",
            signature=booster.signature,
            training=booster.training,
            code=booster.code,
            conditions=[self._ready(model, wanted)],
        )
        files = builders.triton_files(self._described(name, new, model), booster.data)
        # The configuration last: it makes the version the one that is loaded.
        self.repository.put(self.triton.bucket, files)
        try:
            self.server.load(name, admin)
            self.server.probe(name, wanted.number, booster.features, admin)
        except ModelError as error:
            if self._restore(model, name, wanted.number, admin):
                raise
            return ServedModelStatus(conditions=[builders.ready(False, error.reason, str(error))])
        if old.version and old.version != wanted.number:
            self.repository.remove_folder(self.triton.bucket, f"{name}/{old.version}")
        return new

    def _restore(self, model: ServedModel, name: str, failed: str, admin: str) -> bool:
        """Serve again what was served; return whether there was anything else."""
        old = model.status
        if not old.version or old.version == failed:
            self.server.unload(name, admin)
            self.repository.remove_folder(self.triton.bucket, name)
            return False
        config = builders.triton_config(self._described(name, old, model))
        self.repository.put(self.triton.bucket, {f"{name}/config.pbtxt": config.encode()})
        self.server.load(name, admin)
        self.repository.remove_folder(self.triton.bucket, f"{name}/{failed}")
        return True

    def _described(
        self, name: str, status: ServedModelStatus, model: ServedModel
    ) -> builders.TritonModel:
        """Return what Triton is told of a version, with where it comes from."""
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
        )

    def remove(self, model: ServedModel, now: float) -> None:
        """Stop serving a model, and forget it."""
        name = f"{identity.model_prefix(model.spec.username)}{model.spec.name}"
        if name != model.name:
            return  # it never was served
        key = self.keys(now).signing(now)
        admin = builders.admin_token(identity.TRITON_ADMIN, key, self.settings, now=now)
        self.server.unload(name, admin)
        self.repository.remove_folder(self.triton.bucket, name)
