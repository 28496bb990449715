"""Accounts and buckets of the object store (versitygw's admin API, and S3)."""

import threading
from collections.abc import Mapping
from xml.sax.saxutils import escape

import botocore.session
import requests
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.client import BaseClient
from botocore.config import Config
from botocore.credentials import Credentials, ReadOnlyCredentials
from botocore.exceptions import BotoCoreError, ClientError

from coffea_shoppe_operator.errors import StorageError, telling
from coffea_shoppe_operator.models import ObjectStoreSettings

TIMEOUT_S = 10
PAGE = 1000


_telling = telling(
    "the object store", requests.RequestException, BotoCoreError, ClientError, OSError
)


class ObjectStore:
    """The facility's object store, by its administrator's keys."""

    def __init__(self, settings: ObjectStoreSettings) -> None:
        self.settings = settings
        self._making = threading.Lock()
        self._made: tuple[ReadOnlyCredentials, BaseClient] | None = None

    def _root(self) -> Credentials:
        """Return the administrator's keys, read anew: they may have been changed."""
        folder = self.settings.keys
        parts = [(folder / f"root-{kind}-key").read_text().strip() for kind in ("access", "secret")]
        return Credentials(*parts)

    def _send(
        self, method: str, url: str, keys: Credentials, *, body: str = "", owner: str = ""
    ) -> requests.Response:
        """Send a signed request."""
        headers = {"x-vgw-owner": owner} if owner else {}
        request = AWSRequest(method=method, url=url, data=body.encode(), headers=headers)
        S3SigV4Auth(keys, "s3", self.settings.region).add_auth(request)
        return requests.request(
            method, url, data=body.encode(), headers=dict(request.headers), timeout=TIMEOUT_S
        )

    def _admin(self, path: str, *, body: str = "", owner: str = "") -> tuple[bool, str]:
        """Ask the admin API; return whether it did so, and its error code if not."""
        url = f"{self.settings.admin_endpoint.rstrip('/')}{path}"
        answer = self._send("PATCH", url, self._root(), body=body, owner=owner)
        if answer.ok:
            return True, ""
        code = answer.text.partition("<Code>")[2].partition("</Code>")[0]
        if not code:
            answer.raise_for_status()
        return False, code

    def _create(self, account: str, key: str) -> tuple[bool, str]:
        """Make an account; return whether that was done, and the error code if not."""
        told = f"<Access>{escape(account)}</Access><Secret>{escape(key)}</Secret>"
        body = f"<Account>{told}<Role>user</Role></Account>"
        return self._admin("/create-user", body=body)

    @_telling
    def holds(self, account: str, key: str, bucket: str) -> bool:
        """Return whether an account with this key has this bucket."""
        url = f"{self.settings.endpoint.rstrip('/')}/{bucket}"
        answer = self._send("HEAD", url, Credentials(account, key))
        if answer.status_code >= 500:
            answer.raise_for_status()
        return answer.ok

    @_telling
    def ensure(self, account: str, key: str, bucket: str) -> None:
        """Make the account and its bucket, or give the account this key."""
        done, code = self._create(account, key)
        if code == "XAdminUserExists":
            change = f"<MutableProps><Secret>{escape(key)}</Secret></MutableProps>"
            done, code = self._admin(f"/update-user?access={account}", body=change)
        if not done:
            raise StorageError(f"the object store refused the account {account!r}: {code}")
        done, code = self._admin(f"/{bucket}/create", owner=account)
        if not done and code not in ("BucketAlreadyExists", "BucketAlreadyOwnedByYou"):
            raise StorageError(f"the object store refused the bucket {bucket!r}: {code}")

    @_telling
    def reserve(self, account: str, key: str) -> None:
        """Make an account with this key; leave one that is there as it is."""
        done, code = self._create(account, key)
        if not done and code != "XAdminUserExists":
            raise StorageError(f"the object store refused the account {account!r}: {code}")

    @_telling
    def govern(self, bucket: str, policy: str) -> None:
        """Give a bucket a policy in the place of any other."""
        self._client().put_bucket_policy(Bucket=bucket, Policy=policy)

    @_telling
    def size(self, bucket: str, folder: str) -> tuple[int, int]:
        """Return the bytes in a bucket, and of them in a folder; 0 where there is no bucket."""
        client, whole, part = self._client(), 0, 0
        after: dict[str, str] = {}
        try:
            while True:
                page = client.list_objects_v2(Bucket=bucket, MaxKeys=PAGE, **after)
                for entry in page.get("Contents", ()):
                    whole += entry["Size"]
                    part += entry["Size"] if entry["Key"].startswith(f"{folder}/") else 0
                if not page.get("IsTruncated"):
                    return whole, part
                after = {"ContinuationToken": page["NextContinuationToken"]}
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchBucket":
                raise
            return 0, 0

    @_telling
    def remove_account(self, account: str) -> None:
        """Remove an account; one that is gone already is no error.  Its buckets stay."""
        done, code = self._admin(f"/delete-user?access={account}")
        if not done and code != "XAdminUserNotFound":
            raise StorageError(f"the object store kept the account {account!r}: {code}")

    @_telling
    def remove_bucket(self, bucket: str) -> None:
        """Remove a bucket and all that is in it; one that is gone already is no error."""
        self._empty(bucket, "")
        try:
            self._client().delete_bucket(Bucket=bucket)
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchBucket":
                raise

    @_telling
    def put(self, bucket: str, files: Mapping[str, bytes]) -> None:
        """Store objects, one after the other."""
        client = self._client()
        for key, data in files.items():
            client.put_object(Bucket=bucket, Key=key, Body=data)

    @_telling
    def remove_folder(self, bucket: str, folder: str) -> None:
        """Remove all objects whose keys begin with `folder/`; none is no error."""
        self._empty(bucket, f"{folder}/")

    def _empty(self, bucket: str, prefix: str) -> None:
        client = self._client()
        try:
            while True:
                page = client.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=PAGE)
                keys = [{"Key": entry["Key"]} for entry in page.get("Contents", ())]
                if not keys:
                    break
                client.delete_objects(Bucket=bucket, Delete={"Objects": keys, "Quiet": True})
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchBucket":
                raise

    def _client(self) -> BaseClient:
        """Return a client with the administrator's keys.

        It is made once for them: that takes a tenth of a second, and megabytes.
        """
        root = self._root()
        with self._making:
            keys = root.get_frozen_credentials()
            if not self._made or self._made[0] != keys:
                self._made = keys, self._make(root)
            return self._made[1]

    def _make(self, root: Credentials) -> BaseClient:
        return botocore.session.get_session().create_client(
            "s3",
            endpoint_url=self.settings.endpoint,
            region_name=self.settings.region,
            aws_access_key_id=root.access_key,
            aws_secret_access_key=root.secret_key,
            config=Config(
                s3={"addressing_style": "path"},
                connect_timeout=TIMEOUT_S,
                read_timeout=TIMEOUT_S,
                retries={"total_max_attempts": 1},
            ),
        )
