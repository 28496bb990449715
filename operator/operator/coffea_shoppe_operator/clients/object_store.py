"""Accounts and buckets of the object store (versitygw's admin API, and S3)."""

import threading
from collections.abc import Iterator, Mapping
from xml.sax.saxutils import escape

import botocore.session
import requests
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.client import BaseClient
from botocore.config import Config
from botocore.credentials import Credentials, ReadOnlyCredentials
from botocore.exceptions import BotoCoreError, ClientError

from coffea_shoppe_operator.adapters.object_store import ObjectStoreSettings
from coffea_shoppe_operator.errors import StorageError, translate_errors

TIMEOUT_S = 10
PAGE = 1000


_translated = translate_errors(
    "the object store", requests.RequestException, BotoCoreError, ClientError, OSError
)


def _set_ownership(client: BaseClient, bucket: str, ownership: str) -> None:
    """Set S3's ownership of objects: ObjectWriter enables ACLs, BucketOwnerEnforced disables."""
    controls = {"Rules": [{"ObjectOwnership": ownership}]}
    client.put_bucket_ownership_controls(Bucket=bucket, OwnershipControls=controls)


class ObjectStore:
    """The facility's object store, with its administrator's keys."""

    def __init__(self, settings: ObjectStoreSettings) -> None:
        self.settings = settings
        self._lock = threading.Lock()
        self._cached: tuple[ReadOnlyCredentials, BaseClient] | None = None

    def _root(self) -> Credentials:
        """Return the administrator's keys; they are read each time, as they may have changed."""
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
        """Send a request to the admin API; return whether it succeeded, else its error code."""
        url = f"{self.settings.admin_endpoint.rstrip('/')}{path}"
        response = self._send("PATCH", url, self._root(), body=body, owner=owner)
        if response.ok:
            return True, ""
        code = response.text.partition("<Code>")[2].partition("</Code>")[0]
        if not code:
            response.raise_for_status()
        return False, code

    def _create(self, account: str, key: str) -> tuple[bool, str]:
        """Create an account; return whether that succeeded, else the error code."""
        credentials = f"<Access>{escape(account)}</Access><Secret>{escape(key)}</Secret>"
        body = f"<Account>{credentials}<Role>user</Role></Account>"
        return self._admin("/create-user", body=body)

    @_translated
    def has_access(self, account: str, key: str, bucket: str) -> bool:
        """Return whether an account with this key may access a bucket."""
        url = f"{self.settings.endpoint.rstrip('/')}/{bucket}"
        response = self._send("HEAD", url, Credentials(account, key))
        if response.status_code >= 500:
            response.raise_for_status()
        return response.ok

    @_translated
    def ensure(self, account: str, key: str, bucket: str) -> None:
        """Create an account and its bucket; set the key of an existing account."""
        done, code = self._create(account, key)
        if code == "XAdminUserExists":
            change = f"<MutableProps><Secret>{escape(key)}</Secret></MutableProps>"
            done, code = self._admin(f"/update-user?access={account}", body=change)
        if not done:
            raise StorageError(f"the object store refused the account {account!r}: {code}")
        done, code = self._admin(f"/{bucket}/create", owner=account)
        if not done and code not in ("BucketAlreadyExists", "BucketAlreadyOwnedByYou"):
            raise StorageError(f"the object store refused the bucket {bucket!r}: {code}")

    @_translated
    def create_account_if_absent(self, account: str, key: str) -> None:
        """Create an account with this key; an existing account keeps its own."""
        done, code = self._create(account, key)
        if not done and code != "XAdminUserExists":
            raise StorageError(f"the object store refused the account {account!r}: {code}")

    @_translated
    def put_bucket_policy(self, bucket: str, policy: str) -> None:
        """Set the policy of a bucket, and remove what its ACL grants to others than the owner.

        An ACL that the owner has set grants access beside any policy.
        """
        client = self._client()
        client.put_bucket_policy(Bucket=bucket, Policy=policy)
        acl = client.get_bucket_acl(Bucket=bucket)
        if all(grant["Grantee"].get("ID") == acl["Owner"]["ID"] for grant in acl["Grants"]):
            return
        # versitygw grants what an ACL says also where ACLs are disabled, but changes none there.
        _set_ownership(client, bucket, "ObjectWriter")
        client.put_bucket_acl(Bucket=bucket, ACL="private")
        _set_ownership(client, bucket, "BucketOwnerEnforced")

    @_translated
    def size(self, bucket: str, folder: str) -> tuple[int, int]:
        """Return the bytes in a bucket, and in one of its folders; 0 without a bucket."""
        total = in_folder = 0
        for key, size in self._sizes(bucket, ""):
            total += size
            in_folder += size if key.startswith(f"{folder}/") else 0
        return total, in_folder

    @_translated
    def folder_size(self, bucket: str, folder: str) -> int:
        """Return the bytes of all objects whose keys begin with `folder/`; 0 without a bucket."""
        return sum(size for _, size in self._sizes(bucket, f"{folder}/"))

    def _sizes(self, bucket: str, prefix: str) -> Iterator[tuple[str, int]]:
        """Yield the keys and sizes of objects."""
        client = self._client()
        continuation: dict[str, str] = {}
        try:
            while True:
                page = client.list_objects_v2(
                    Bucket=bucket, Prefix=prefix, MaxKeys=PAGE, **continuation
                )
                for entry in page.get("Contents", ()):
                    yield entry["Key"], entry["Size"]
                if not page.get("IsTruncated"):
                    return
                continuation = {"ContinuationToken": page["NextContinuationToken"]}
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchBucket":
                raise

    @_translated
    def remove_account(self, account: str) -> None:
        """Remove an account, not its buckets; a missing one is not an error."""
        done, code = self._admin(f"/delete-user?access={account}")
        if not done and code != "XAdminUserNotFound":
            raise StorageError(f"the object store did not remove the account {account!r}: {code}")

    @_translated
    def remove_bucket(self, bucket: str) -> None:
        """Remove a bucket and its content; a missing one is not an error."""
        self._empty(bucket, "")
        try:
            self._client().delete_bucket(Bucket=bucket)
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchBucket":
                raise

    @_translated
    def put(self, bucket: str, files: Mapping[str, bytes]) -> None:
        """Store objects in the order given."""
        client = self._client()
        for key, content in files.items():
            client.put_object(Bucket=bucket, Key=key, Body=content)

    @_translated
    def remove_folder(self, bucket: str, folder: str) -> None:
        """Remove all objects whose keys begin with `folder/`."""
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

        It is cached: creating one takes a tenth of a second, and megabytes.
        """
        root = self._root()
        with self._lock:
            keys = root.get_frozen_credentials()
            if not self._cached or self._cached[0] != keys:
                self._cached = keys, self._create_client(root)
            return self._cached[1]

    def _create_client(self, root: Credentials) -> BaseClient:
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
