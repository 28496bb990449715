"""The object store: each user has a bucket, and two accounts whose keys are rotated."""

import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from coffea_shoppe_contract.names import account_names, bucket_name
from pydantic import Field

from coffea_shoppe_operator.adapters.base import GB, Adapter, Context, Owner, Usage
from coffea_shoppe_operator.conditions import Condition, condition, service_condition
from coffea_shoppe_operator.errors import StorageError
from coffea_shoppe_operator.s3_files import S3Key, bucket_policy, user_s3_files, user_s3_key
from coffea_shoppe_operator.schema import Model

S3_KEY_BYTES = 24


class ObjectStoreSettings(Model):
    """The store of the users' buckets."""

    endpoint: str
    """Address for users' pods."""
    admin_endpoint: str
    """Address of the admin API, which creates accounts and buckets."""
    region: str
    keys: Path = Path("/run/secrets/objectstore")
    """Folder of the files root-access-key and root-secret-key."""
    services: dict[str, str] = Field(default={})
    """Services with a bucket of their own → the Secret for the keys to it."""
    key_lifetime: int = Field(default=24 * 3600, ge=600)
    """Lifetime of a user's keys in seconds; the next key is created at half of it."""
    writers: list[str] = Field(default=[])
    """Those of the services that write to a folder of their name in users' buckets."""


class ObjectStoreQuota(Model):
    """Limit of a user's bucket."""

    gigabytes: float | None = Field(default=None, ge=0)
    """GB with MLflow artifacts above which objects can only be read or deleted; 0: no limit.

    MLflow refuses uploads that would exceed it.
    """


class Client(Protocol):
    """What the adapter needs of the store, implemented by `clients.object_store.ObjectStore`."""

    def has_access(self, account: str, key: str, bucket: str) -> bool: ...  # noqa: D102
    def ensure(self, account: str, key: str, bucket: str) -> None: ...  # noqa: D102
    def create_account_if_absent(self, account: str, key: str) -> None: ...  # noqa: D102
    def put_bucket_policy(self, bucket: str, policy: str) -> None: ...  # noqa: D102
    def remove_account(self, account: str) -> None: ...  # noqa: D102
    def remove_bucket(self, bucket: str) -> None: ...  # noqa: D102


def new_secret_key() -> str:
    """Return a random secret key."""
    return secrets.token_hex(S3_KEY_BYTES)


def is_full(owner: Owner) -> bool:
    """Return whether an owner has stored more than the quota."""
    limit = owner.quota(ObjectStoreQuota).gigabytes
    return bool(limit) and owner.used.object_store > (limit or 0) * GB


class ObjectStoreAdapter(Adapter):
    """Buckets, accounts and keys of users."""

    def __init__(self, settings: ObjectStoreSettings, client: Client) -> None:
        self.settings, self.client = settings, client

    def files(self, owner: Owner, previous: Mapping[str, bytes], now: float) -> dict[str, bytes]:
        """Return the configuration of S3 clients with the owner's current key."""
        key = self._current_key(owner, previous, now)
        return user_s3_files(bucket_name(owner.name), key, self.settings)

    def _current_key(self, owner: Owner, previous: Mapping[str, bytes], now: float) -> S3Key:
        """Return the key in the owner's files, or the next one where that is due.

        The next key is of the other account, and valid before the files have it; the
        replaced key stays valid until its account's next turn, when it has expired.
        """
        accounts = account_names(owner.name)
        current, secret = user_s3_key(previous), new_secret_key()
        expires = now + self.settings.key_lifetime
        if not current or current.account not in accounts:
            return S3Key(accounts[0], secret, expires)
        due = current.expires - self.settings.key_lifetime / 2
        if now < max(due, current.previous_valid_until):
            return current
        other = accounts[1 - accounts.index(current.account)]
        try:
            self.client.ensure(other, secret, bucket_name(owner.name))
        except StorageError:
            return current  # the next reconciliation tries again
        return S3Key(other, secret, expires, previous_valid_until=max(current.expires, now))

    def provision(self, owner: Owner, context: Context) -> Condition:
        """Make the owner's accounts and bucket, and set the bucket's policy.

        The policy is set again with each fresh token: the owner may have changed it.
        """
        bucket, accounts = bucket_name(owner.name), account_names(owner.name)
        key, writers, full = user_s3_key(context.files), self.settings.writers, is_full(owner)
        assert key, "`files` has put one there"  # noqa: S101
        message = f"the bucket is {bucket}"
        if writers:
            message += f"; {', '.join(writers)} may write to it"
        if full:
            message += "; it exceeds its quota: objects can only be read and deleted"
            if artifacts := owner.used.mlflow:
                message += f" ({artifacts / GB:.1f} GB of it are MLflow's artifacts)"
        expected = condition("ObjectStore", not full, "Full" if full else "Ready", message)
        try:
            new = not self.client.has_access(key.account, key.secret, bucket)
            if new:
                self.client.ensure(key.account, key.secret, bucket)
            if new or context.fresh or expected not in owner.conditions:
                for account in accounts:
                    # A policy may name existing accounts only; the key of a new one is discarded.
                    self.client.create_account_if_absent(account, new_secret_key())
                policy = bucket_policy(bucket, accounts, writers, full=full)
                self.client.put_bucket_policy(bucket, policy)
        except StorageError as error:
            return service_condition("ObjectStore", message=message, problem=str(error))
        return expected

    def revoke(self, owner: Owner) -> None:
        """Remove the owner's accounts."""
        for account in account_names(owner.name):
            self.client.remove_account(account)

    def remove(self, owner: Owner, context: Context) -> None:
        """Remove the owner's bucket."""
        self.client.remove_bucket(bucket_name(owner.name))

    def usage(self, owner: Owner) -> Iterator[Usage]:
        """Yield what is stored where it is limited: only then is it measured."""
        if limit := owner.quota(ObjectStoreQuota).gigabytes:
            yield Usage("s3", "stored", "GB", owner.used.object_store / GB, limit)
