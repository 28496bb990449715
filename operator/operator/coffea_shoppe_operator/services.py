"""Reconcile users and signing keys.  Idempotent: writes only on difference."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from coffea_shoppe_contract.files import token_file
from coffea_shoppe_contract.names import resource_name, secret_name
from coffea_shoppe_contract.resources import USER_LABEL
from pydantic import BaseModel

from coffea_shoppe_operator import builders, quotas, signing
from coffea_shoppe_operator.adapters.base import Adapter, Context, Owner, Used
from coffea_shoppe_operator.conditions import Condition, ready
from coffea_shoppe_operator.keys import KeyRing
from coffea_shoppe_operator.measurements import Measurements
from coffea_shoppe_operator.models import FacilityUser, FacilityUserStatus, Settings

REQUEST_VALID_S = 300
"""Time for which tokens are renewed after a request for them, even if no pod needs them."""


class Cluster(signing.Cluster, Protocol):
    """What the services need of Kubernetes; `storage.Storage` is the real one."""

    def delete_secret(self, namespace: str, name: str) -> None: ...  # noqa: D102
    def has_pods(self, namespace: str, labels: Mapping[str, str]) -> bool: ...  # noqa: D102
    def delete_pods(self, namespace: str, labels: Mapping[str, str]) -> None: ...  # noqa: D102


class Facility:
    """Users of one facility: the Secret of each, and an adapter per service."""

    def __init__(
        self,
        settings: Settings,
        cluster: Cluster,
        adapters: Sequence[Adapter] = (),
        measurements: Measurements | None = None,
    ) -> None:
        self.settings, self.cluster, self.adapters = settings, cluster, adapters
        self.measurements = measurements
        self.signing_keys = signing.SigningKeys(settings, cluster)

    def keys(self, now: float) -> KeyRing:
        """Return the current signing keys."""
        return self.signing_keys.current(now)

    def reconcile(self, user: FacilityUser, now: float) -> FacilityUserStatus:
        """Make the cluster and the services match a user's resource; return its status."""
        expected = resource_name(user.spec.username)
        if user.name != expected:
            message = f"the resource of {user.spec.username!r} must be named {expected!r}"
            return FacilityUserStatus(conditions=[ready(False, "WrongName", message)])
        if user.spec.disabled:
            return self._disable(user, now)
        quota = quotas.effective(user.spec, self.settings.quotas)
        used = self.measurements.used(user, quota) if self.measurements else Used()
        owner = user.owner(quota, used)
        files, fresh = self._write_secrets(user, owner, now)
        context = self._context(user, now, files, fresh=fresh)
        conditions = [ready(True, "Ready", "tokens and connections are in the Secret")]
        conditions += self._provision(owner, context)
        return FacilityUserStatus(
            secret_name=secret_name(user.spec.username),
            valid_until=min(
                signing.expiry(files[token_file(name)]) for name in self.settings.audiences
            ),
            quota=quota,
            used=used,
            conditions=conditions,
        )

    def _provision(self, owner: Owner, context: Context) -> list[Condition]:
        """Provision all services; return their conditions."""
        conditions = (adapter.provision(owner, context) for adapter in self.adapters)
        return [condition for condition in conditions if condition]

    def _disable(self, user: FacilityUser, now: float) -> FacilityUserStatus:
        """Revoke a disabled user's access; afterwards remove what has reappeared of it."""
        disabled = ready(False, "Disabled", "the user is disabled: spec.disabled")
        if disabled in user.status.conditions:
            self._remove_access(user)
        else:
            self.revoke(user, now)
        return FacilityUserStatus(conditions=[disabled])

    def revoke(self, user: FacilityUser, now: float) -> None:
        """Revoke the user's tokens, remove Secrets and accounts, stop the pods."""
        self.signing_keys.revoke(user.uid, now)
        if self.measurements:
            self.measurements.forget(user.spec.username)
        self._remove_access(user)

    def _remove_access(self, user: FacilityUser) -> None:
        """Remove the user's Secrets and accounts, and stop the user's pods."""
        name, label = secret_name(user.spec.username), {USER_LABEL: user.name}
        for namespace in self.settings.user_namespaces:
            if self.cluster.read_secret(namespace, name) is not None:
                self.cluster.delete_secret(namespace, name)
            if self.cluster.has_pods(namespace, label):
                self.cluster.delete_pods(namespace, label)
        owner = self._owner(user)
        for adapter in reversed(self.adapters):
            adapter.revoke(owner)

    def remove(self, user: FacilityUser, now: float) -> None:
        """Remove a user whose resource is deleted; with spec.data `remove`, the data, too."""
        self.revoke(user, now)
        if user.spec.data == "keep":
            return
        owner, context = self._owner(user), self._context(user, now)
        for adapter in reversed(self.adapters):
            adapter.remove(owner, context)

    def _owner(self, user: FacilityUser) -> Owner:
        return user.owner(quotas.effective(user.spec, self.settings.quotas))

    def _context(
        self,
        user: FacilityUser,
        now: float,
        files: Mapping[str, bytes] | None = None,
        *,
        fresh: bool = False,
    ) -> Context:
        """Return the context of one reconciliation; it mints tokens on demand."""

        def user_token(audience: str) -> str:
            key = self.keys(now).signing(now)
            return signing.user_token(user, audience, key, self.settings, now=now)

        def admin_token(audience: str) -> str:
            key = self.keys(now).signing(now)
            return signing.admin_token(audience, key, self.settings, now=now)

        return Context(
            labels=self._labels(user),
            user_token=user_token,
            admin_token=admin_token,
            files=files or {},
            fresh=fresh,
        )

    def _labels(self, user: FacilityUser) -> dict[str, str]:
        return {**self.settings.labels, USER_LABEL: user.name}

    def _write_secrets(
        self, user: FacilityUser, owner: Owner, now: float
    ) -> tuple[dict[str, bytes], bool]:
        """Write the user's Secret in each namespace; return its content and whether it changed."""
        name, namespaces = secret_name(user.spec.username), self.settings.user_namespaces
        present = {namespace: self.cluster.read_secret(namespace, name) for namespace in namespaces}
        previous = present[namespaces[0]] or {}
        files = self._files(user, owner, previous, now)
        for namespace, content in present.items():
            if content != files:
                secret = builders.secret(name, namespace, files, self._labels(user))
                self.cluster.write_secret(secret)
        return files, files != previous

    def _files(
        self, user: FacilityUser, owner: Owner, previous: Mapping[str, bytes], now: float
    ) -> dict[str, bytes]:
        """Return the content of the user's Secret: the previous tokens, or new ones if due."""
        ring = self.keys(now)
        of_services: dict[str, bytes] = {}
        for adapter in self.adapters:
            of_services |= adapter.files(owner, previous, now)
        tokens = signing.user_tokens(user, ring.signing(now), self.settings, now=now)
        files = builders.user_files(tokens, self.settings) | of_services
        if files.keys() != previous.keys() or self._renewal_due(user, previous, ring, now):
            return files
        tokens = {name: previous[name] for name in tokens}
        return builders.user_files(tokens, self.settings) | of_services

    def _renewal_due(
        self, user: FacilityUser, files: Mapping[str, bytes], ring: KeyRing, now: float
    ) -> bool:
        """Return whether tokens are invalid, or half their life is over and a pod needs them."""
        remaining = signing.shortest_remaining_s(user, files, ring, self.settings, now=now)
        if remaining is None:
            return True
        return remaining < self.settings.token_lifetime / 2 and self._active(user, now)

    def _active(self, user: FacilityUser, now: float) -> bool:
        """Return whether anybody needs the user's tokens: a pod, or one about to start."""
        if now - user.tokens_requested_at < REQUEST_VALID_S:
            return True
        label = {USER_LABEL: user.name}
        return any(self.cluster.has_pods(n, label) for n in self.settings.user_namespaces)


def as_patch(status: BaseModel) -> dict[str, Any]:
    """Return a status in the form of the resource."""
    patch: dict[str, Any] = json.loads(status.model_dump_json(by_alias=True))
    return patch
