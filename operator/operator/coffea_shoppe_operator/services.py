"""What is done for keys and users; each call converges and then writes nothing."""

import json
import secrets
import threading
from collections.abc import Mapping
from typing import Any, Protocol

import jwt
from coffea_shoppe_contract import identity
from pydantic import BaseModel

from coffea_shoppe_operator import builders, quotas
from coffea_shoppe_operator.builders import S3Key
from coffea_shoppe_operator.errors import StorageError
from coffea_shoppe_operator.keys import KeyRing
from coffea_shoppe_operator.models import (
    Condition,
    DaskPods,
    FacilityUser,
    FacilityUserStatus,
    ObjectStoreSettings,
    Quota,
    ServiceXQuota,
    Settings,
    Used,
)

KEYS_DOCUMENT = "keys.json"
REVOCATIONS_DOCUMENT = "revocations.json"
KEYS_LOOK_S = 10
S3_KEY_BYTES = 24
WANTED_S = 300
"""Tokens are kept fresh for so long after somebody asked, pods or no pods."""


class Cluster(Protocol):
    """What the services need of the cluster; `storage.Storage` is the real one."""

    def read_secret(self, namespace: str, name: str) -> dict[str, bytes] | None: ...  # noqa: D102
    def write_secret(self, wanted: dict[str, Any]) -> None: ...  # noqa: D102
    def delete_secret(self, namespace: str, name: str) -> None: ...  # noqa: D102
    def read_policy(self, namespace: str, name: str) -> dict[str, Any] | None: ...  # noqa: D102
    def write_policy(self, wanted: dict[str, Any]) -> None: ...  # noqa: D102
    def delete_policy(self, namespace: str, name: str) -> None: ...  # noqa: D102
    def read_published(self, namespace: str, name: str) -> dict[str, Any]: ...  # noqa: D102
    def write_published(  # noqa: D102
        self, namespace: str, name: str, documents: Mapping[str, Any], labels: Mapping[str, str]
    ) -> None: ...
    def has_pods(self, namespace: str, labels: Mapping[str, str]) -> bool: ...  # noqa: D102
    def delete_pods(self, namespace: str, labels: Mapping[str, str]) -> None: ...  # noqa: D102


class Objects(Protocol):
    """What the services need of the object store; `objectstore.ObjectStore` is the real one."""

    def holds(self, account: str, key: str, bucket: str) -> bool: ...  # noqa: D102
    def ensure(self, account: str, key: str, bucket: str) -> None: ...  # noqa: D102
    def reserve(self, account: str, key: str) -> None: ...  # noqa: D102
    def govern(self, bucket: str, policy: str) -> None: ...  # noqa: D102
    def size(self, bucket: str, folder: str) -> tuple[int, int]: ...  # noqa: D102
    def remove_account(self, account: str) -> None: ...  # noqa: D102
    def remove_bucket(self, bucket: str) -> None: ...  # noqa: D102
    def remove_folder(self, bucket: str, folder: str) -> None: ...  # noqa: D102


class Workspaces(Protocol):
    """What the services need of MLflow; `mlflow.Mlflow` is the real one."""

    def welcome(self, token: str) -> None: ...  # noqa: D102
    def remove(self, user: str, workspace: str, token: str) -> None: ...  # noqa: D102


class Deliveries(Protocol):
    """What the services need of ServiceX; `deliveries.ServiceX` is the real one."""

    def welcome(self, user: str, quota: ServiceXQuota, token: str) -> None: ...  # noqa: D102
    def remove(self, user: str, token: str) -> None: ...  # noqa: D102


class Health(Protocol):
    """Whether a service answers; `health.Health` is the real one."""

    def problem(self, url: str) -> str: ...  # noqa: D102


class Facility:
    """Keys, revocations and users of one facility."""

    def __init__(
        self,
        settings: Settings,
        cluster: Cluster,
        objects: Objects | None = None,
        workspaces: Workspaces | None = None,
        *,
        deliveries: Deliveries | None = None,
        health: Health | None = None,
    ) -> None:
        self.settings, self.cluster = settings, cluster
        self.objects, self.workspaces = objects, workspaces
        self.deliveries, self.health = deliveries, health
        self._used: dict[str, Used | None] = {}
        # Handlers run side by side; keys and revocations are one document each.
        self._publishing = threading.Lock()
        self._ring: KeyRing | None = None
        self._looked = 0.0

    def keys(self, now: float) -> KeyRing:
        """Return the keys, renewed, stored and published where that was due.

        They are looked at every few seconds, however many users there are.
        """
        settings = self.settings
        with self._publishing:
            if self._ring and 0 <= now - self._looked < KEYS_LOOK_S:
                return self._ring
            stored = self.cluster.read_secret(settings.namespace, settings.keys_secret) or {}
            ring = KeyRing.load(stored)
            renewed = ring.renewed(now)
            if renewed != ring:
                self.cluster.write_secret(
                    builders.secret(
                        settings.keys_secret, settings.namespace, renewed.dump(), settings.labels
                    )
                )
            self._publish(renewed, None, now)
            self._ring, self._looked = renewed, now
        return renewed

    def _publish(self, ring: KeyRing, revoke: str | None, now: float) -> None:
        settings = self.settings
        before = self.cluster.read_published(settings.namespace, settings.published)
        revoked = before.get(REVOCATIONS_DOCUMENT, {}).get("revoked", {})
        wanted = {
            KEYS_DOCUMENT: ring.published(),
            REVOCATIONS_DOCUMENT: {"revoked": builders.revocations(revoked, revoke, now=now)},
        }
        if wanted != before:
            self.cluster.write_published(
                settings.namespace, settings.published, wanted, settings.labels
            )

    def revoke(self, user: FacilityUser, now: float) -> None:
        """Make void whatever the user holds; remove Secrets and account, stop the pods."""
        settings = self.settings
        with self._publishing:
            stored = self.cluster.read_secret(settings.namespace, settings.keys_secret) or {}
            self._publish(KeyRing.load(stored), user.uid, now)
        self._used.pop(user.spec.username, None)
        self._remove(user)

    def _remove(self, user: FacilityUser) -> None:
        """Remove the user's Secrets and account, and stop the user's pods."""
        name = identity.secret_name(user.spec.username)
        label = {identity.USER_LABEL: user.name}
        for namespace in self.settings.user_namespaces:
            if self.cluster.read_secret(namespace, name) is not None:
                self.cluster.delete_secret(namespace, name)
            if self.cluster.has_pods(namespace, label):
                self.cluster.delete_pods(namespace, label)
        pods = self._dask_pods()
        if pods and self.cluster.read_policy(pods.namespace, name) is not None:
            self.cluster.delete_policy(pods.namespace, name)
        if self.objects:
            for account in identity.account_names(user.spec.username):
                self.objects.remove_account(account)

    def remove(self, user: FacilityUser, now: float) -> None:
        """Undo a user whose resource is deleted; the data go where the resource says so."""
        self.revoke(user, now)
        if user.spec.data == "keep":
            return
        name = user.spec.username
        if self.deliveries:
            # Before the bucket: what is under way would write to it.
            self.deliveries.remove(name, self._admin(identity.SERVICEX_ADMIN, now))
        if self.objects:
            self.objects.remove_bucket(identity.bucket_name(name))
        if self.workspaces and self.settings.mlflow:
            workspace = identity.workspace_name(name)
            self.workspaces.remove(name, workspace, self._admin(identity.MLFLOW_ADMIN, now))
            # MLflow forgets artifacts, but leaves them.
            if self.objects and self.settings.mlflow.bucket:
                folder = f"workspaces/{workspace}"
                self.objects.remove_folder(self.settings.mlflow.bucket, folder)

    def _dask_pods(self) -> DaskPods | None:
        return self.settings.dask.pods if self.settings.dask else None

    def _connect(self, user: FacilityUser, name: str, labels: Mapping[str, str]) -> None:
        """Let the user's Dask pods, and nobody else's, reach one another."""
        if not (pods := self._dask_pods()):
            return
        policy = builders.dask_policy(name, user, pods, labels)
        if self.cluster.read_policy(pods.namespace, name) != policy["spec"]:
            self.cluster.write_policy(policy)

    def _admin(self, audience: str, now: float) -> str:
        """Return a token of the operator's own."""
        return builders.admin_token(audience, self.keys(now).signing(now), self.settings, now=now)

    def measure(self) -> None:
        """Measure what users have stored that have a limit of it."""
        if not self.objects:
            return
        for name in list(self._used):
            stored, delivered = self.objects.size(
                identity.bucket_name(name), identity.SERVICEX_FOLDER
            )
            if name in self._used:
                self._used[name] = Used(object_store=stored, servicex=delivered)

    def _stored(self, user: FacilityUser, quota: Quota) -> Used:
        """Return what a user has stored, as it was measured last."""
        name = user.spec.username
        if not (quota.object_store.gigabytes or quota.service_x.gigabytes):
            self._used.pop(name, None)
            return Used()
        return self._used.setdefault(name, None) or user.status.used

    def reconcile(self, user: FacilityUser, now: float) -> FacilityUserStatus:
        """Bring about what a user's resource asks for; return its status."""
        if identity.resource_name(user.spec.username) != user.name:
            expected = identity.resource_name(user.spec.username)
            told = f"the resource of {user.spec.username!r} must be named {expected!r}"
            return FacilityUserStatus(conditions=[builders.ready(False, "WrongName", told)])
        if user.spec.disabled:
            disabled = builders.ready(False, "Disabled", "the user is disabled: spec.disabled")
            if disabled in user.status.conditions:
                self._remove(user)  # should anything have come back
            else:
                self.revoke(user, now)
            return FacilityUserStatus(conditions=[disabled])
        name = identity.secret_name(user.spec.username)
        labels = {**self.settings.labels, identity.USER_LABEL: user.name}
        held = {
            namespace: self.cluster.read_secret(namespace, name)
            for namespace in self.settings.user_namespaces
        }
        before = held[self.settings.user_namespaces[0]] or {}
        files = self._files(user, before, now)
        for namespace, present in held.items():
            if present != files:
                self.cluster.write_secret(builders.secret(name, namespace, files, labels))
        self._connect(user, name, labels)
        until = min(_expiry(files[identity.token_file(a)]) for a in identity.AUDIENCES)
        quota = quotas.effective(user.spec, self.settings.quotas)
        used, fresh = self._stored(user, quota), files != before
        conditions = [builders.ready(True, "Ready", "tokens and connections are in the Secret")]
        if self.objects:
            full = quotas.overfull(quota, used)
            found = self._account(self.objects, user, files, fresh=fresh, full=full)
            conditions.append(found)
        if self.workspaces:
            conditions.append(self._workspace(self.workspaces, user, fresh=fresh, now=now))
        if self.deliveries:
            found = self._delivered(self.deliveries, user, quota, fresh=fresh, now=now)
            conditions.append(found)
        conditions += self._healthy(user, quota)
        return FacilityUserStatus(
            secret_name=name, valid_until=until, quota=quota, used=used, conditions=conditions
        )

    def _account(
        self,
        objects: Objects,
        user: FacilityUser,
        files: Mapping[str, bytes],
        *,
        fresh: bool,
        full: bool,
    ) -> Condition:
        """Give the user accounts and a bucket; return how that went.

        A store that is down is no reason to withhold the tokens.  Which services write
        to the bucket is said anew with each fresh token: its owner may have changed it.
        """
        bucket = identity.bucket_name(user.spec.username)
        accounts, key = identity.account_names(user.spec.username), builders.user_s3_key(files)
        assert key, "the files were made with one"  # noqa: S101
        writers = self.settings.object_store.writers if self.settings.object_store else []
        told = f"the bucket is {bucket}"
        if writers:
            told += f"; written to also by {', '.join(writers)}"
        if full:
            told += "; it holds more than its quota, and can be read and deleted from only"
        wanted = builders.condition("ObjectStore", not full, "Full" if full else "Ready", told)
        try:
            new = not objects.holds(key.account, key.secret, bucket)
            if new:
                objects.ensure(key.account, key.secret, bucket)
            if new or fresh or wanted not in user.status.conditions:
                for account in accounts:
                    # A policy names none that is not there; to a new one nobody has the key.
                    objects.reserve(account, secrets.token_hex(S3_KEY_BYTES))
                objects.govern(bucket, builders.bucket_policy(bucket, accounts, writers, full=full))
        except StorageError as error:
            return builders.condition("ObjectStore", False, "Unavailable", str(error))
        return wanted

    def _delivered(
        self,
        deliveries: Deliveries,
        user: FacilityUser,
        quota: Quota,
        *,
        fresh: bool,
        now: float,
    ) -> Condition:
        """Tell ServiceX of the user; return how that went.

        It is told with each fresh token, and whatever has changed.
        """
        told = f"a share of {quota.service_x.share or 1:g}"
        if limit := quota.service_x.gigabytes:
            told += f"; results up to {limit:g} GB are kept"
        ready = builders.condition("ServiceX", True, "Ready", told)
        if ready in user.status.conditions and not fresh:
            return ready
        token = self._admin(identity.SERVICEX_ADMIN, now)
        try:
            deliveries.welcome(user.spec.username, quota.service_x, token)
        except StorageError as error:
            return builders.condition("ServiceX", False, "Unavailable", str(error))
        return ready

    def _healthy(self, user: FacilityUser, quota: Quota) -> list[Condition]:
        """Return the conditions of services that need nothing made for a user but to be there."""
        dask, triton, found = self.settings.dask, self.settings.triton, []
        if not self.health:
            return []
        parts = quota.dask.clusters, quota.dask.cores, quota.dask.memory_gi_b
        names = zip(parts, ("clusters", "cores", "GiB"), strict=True)
        limits = ", ".join(f"{limit:g} {name}" for limit, name in names if limit)
        served = f"models are named {identity.model_prefix(user.spec.username)}*"
        for kind, address, told in (
            (
                "Dask",
                dask and dask.health,
                f"at most {limits}" if limits else "no limits",
            ),
            ("Triton", triton and f"{triton.endpoint.rstrip('/')}/v2/health/ready", served),
        ):
            if address:
                problem = self.health.problem(address)
                reason = "Unavailable" if problem else "Ready"
                found.append(builders.condition(kind, not problem, reason, problem or told))
        return found

    def _workspace(
        self, workspaces: Workspaces, user: FacilityUser, *, fresh: bool, now: float
    ) -> Condition:
        """Give the user a workspace; return how that went.

        MLflow is asked with each fresh token only: many users would keep it busy.  It is
        asked by a token of the moment: the one in the Secret of who is away has expired.
        """
        workspace = identity.workspace_name(user.spec.username)
        ready = builders.condition("MLflow", True, "Ready", f"the workspace is {workspace}")
        if ready in user.status.conditions and not fresh:
            return ready
        try:
            key = self.keys(now).signing(now)
            workspaces.welcome(builders.user_token(user, "mlflow", key, self.settings, now=now))
        except StorageError as error:
            return builders.condition("MLflow", False, "Unavailable", str(error))
        return ready

    def keep_services(self) -> None:
        """Give each service that stores objects an account, a bucket, and a Secret with the keys.

        What is there already is left as it is.
        """
        where, settings = self.settings.object_store, self.settings
        if not self.objects or not where:
            return
        for service, name in where.services.items():
            bucket = identity.service_name(service)
            held = self.cluster.read_secret(settings.namespace, name)
            key = builders.s3_key(held or {}) or secrets.token_hex(S3_KEY_BYTES)
            files = builders.s3_files(bucket, key, where)
            if held != files:
                self.cluster.write_secret(
                    builders.secret(name, settings.namespace, files, settings.labels)
                )
            if not self.objects.holds(bucket, key, bucket):
                self.objects.ensure(bucket, key, bucket)

    def _files(self, user: FacilityUser, held: Mapping[str, bytes], now: float) -> dict[str, bytes]:
        """Return what the user's Secret should hold: what it holds, or fresh tokens."""
        ring = self.keys(now)
        fresh = builders.user_files(user, ring.signing(now), self.settings, now=now)
        if self.settings.object_store and self.objects:
            key = self._s3_key(user, held, self.objects, self.settings.object_store, now)
            bucket = identity.bucket_name(user.spec.username)
            fresh |= builders.user_s3_files(bucket, key, self.settings.object_store)
        if set(held) != set(fresh):
            return fresh
        known = {key.kid: key.private.public_key() for key in ring.keys}
        for audience in identity.AUDIENCES:
            left = self._left(user, held[identity.token_file(audience)], audience, known, now)
            if left is None or (
                left < self.settings.token_lifetime / 2 and self._active(user, now)
            ):
                return fresh
        names = {identity.token_file(audience) for audience in identity.AUDIENCES}
        tokens = {name: held[name] for name in names}
        refresh = tokens[identity.token_file(identity.SERVICEX_REFRESH)].decode()
        texts = builders.servicex_files(refresh, self.settings)
        return fresh | tokens | {name: text.encode() for name, text in texts.items()}

    @staticmethod
    def _s3_key(
        user: FacilityUser,
        held: Mapping[str, bytes],
        objects: Objects,
        settings: ObjectStoreSettings,
        now: float,
    ) -> S3Key:
        """Return the key that the user's files should hold: the present one, or the next.

        The next one is of the other account, and good before anybody knows it; the present
        one stays good until it is its account's turn again, when it has expired.
        """
        accounts = identity.account_names(user.spec.username)
        present, secret = builders.user_s3_key(held), secrets.token_hex(S3_KEY_BYTES)
        expires = now + settings.key_lifetime
        if not present or present.account not in accounts:
            return S3Key(accounts[0], secret, expires)
        due = present.expires - settings.key_lifetime / 2
        if now < max(due, present.before):
            return present
        other = accounts[1 - accounts.index(present.account)]
        try:
            objects.ensure(other, secret, identity.bucket_name(user.spec.username))
        except StorageError:
            return present  # the next look tries it again
        return S3Key(other, secret, expires, before=max(present.expires, now))

    def _left(
        self,
        user: FacilityUser,
        token: bytes,
        audience: str,
        known: Mapping[str, Any],
        now: float,
    ) -> float | None:
        """Return the seconds that a stored token has left; None where it is not as it should be."""
        try:
            kid = jwt.get_unverified_header(token).get("kid", "")
            if kid not in known:
                raise jwt.InvalidKeyError(kid)
            said = jwt.decode(
                token,
                known[kid],
                algorithms=[identity.ALGORITHM],
                options={"verify_exp": False, "verify_aud": False, "verify_iat": False},
            )
        except jwt.PyJWTError:
            # An expired token of a key that is gone is renewed with the next pod.
            return 0.0 if self._expired(token, now) else None
        told = {key: said.get(key) for key in ("sub", "uid", "groups", "iss", "aud")}
        wanted = {
            "sub": user.spec.username,
            "uid": user.uid,
            "groups": user.spec.groups,
            "iss": self.settings.issuer,
            "aud": audience,
        }
        return float(said["exp"]) - now if told == wanted else None

    @staticmethod
    def _expired(token: bytes, now: float) -> bool:
        try:
            return _expiry(token) < now
        except (jwt.PyJWTError, KeyError):
            return False

    def _active(self, user: FacilityUser, now: float) -> bool:
        """Return whether anybody needs the user's tokens: a pod, or one about to start."""
        if now - user.wanted < WANTED_S:
            return True
        label = {identity.USER_LABEL: user.name}
        return any(self.cluster.has_pods(n, label) for n in self.settings.user_namespaces)


def _expiry(token: bytes) -> int:
    """Return when a token expires, its signature not looked at."""
    return int(jwt.decode(token, options={"verify_signature": False})["exp"])


def news(documents: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the published keys and revocations; raises `KeyError` where there are none yet."""
    return documents[KEYS_DOCUMENT], documents[REVOCATIONS_DOCUMENT]


def as_patch(status: BaseModel) -> dict[str, Any]:
    """Return a status as the resource holds it."""
    found: dict[str, Any] = json.loads(status.model_dump_json(by_alias=True))
    return found
