"""Storage of results: files below a folder, or objects in an S3 store.

Each request has its own prefix, in its owner's bucket or in the owner's folder of one
common bucket.
"""

import configparser
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import botocore.session
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from coffea_shoppe_contract.names import SERVICEX_FOLDER, bucket_name, resource_name

from coffea_shoppe_servicex.settings import Objects, S3Gateway

UPLOAD_URL_S = 900
"""Lifetime of the presigned URLs to which transformers upload results."""
TIMEOUT_S = 20
DELETED_PER_CALL = 1000
"""Limit of S3's DeleteObjects."""


@dataclass(frozen=True)
class Key:
    """An S3 access key with its secret."""

    access: str
    secret: str


@dataclass(frozen=True)
class ObjectPrefix:
    """The common prefix of a request's objects."""

    owner: str
    folder: str


def _presigned(method: str, url: str, key: Key, region: str, lifetime_s: int) -> str:
    request = AWSRequest(method=method, url=url)
    credentials = Credentials(key.access, key.secret)
    S3SigV4QueryAuth(credentials, "s3", region, expires=lifetime_s).add_auth(request)
    return str(request.prepare().url)


class FolderStore:
    """Results as files below a folder; the S3 gateway receives the uploads."""

    def __init__(self, folder: Path, gateway: S3Gateway) -> None:
        self.folder, self.gateway = folder, gateway

    def path(self, prefix: ObjectPrefix, name: str = "") -> Path:
        """Return the path of an object, or of the prefix' folder."""
        owner = resource_name(prefix.owner)
        return self.folder / owner / prefix.folder / name

    def upload_url(self, prefix: ObjectPrefix, name: str, request_id: str, key: Key) -> str:
        """Return a presigned URL at the S3 gateway, signed with the request's key."""
        scheme = "https" if self.gateway.secure else "http"
        url = f"{scheme}://{self.gateway.endpoint}/{request_id}/{name}"
        return _presigned("PUT", url, key, "us-east-1", UPLOAD_URL_S)

    def size(self, prefix: ObjectPrefix, name: str) -> int | None:
        """Return the size of an object in bytes; None if there is no such object."""
        path = self.path(prefix, name)
        return path.stat().st_size if path.is_file() else None

    def sizes(self, prefix: ObjectPrefix) -> dict[str, int]:
        """Return the sizes of the objects below a prefix in bytes, by name."""
        folder = self.path(prefix)
        paths = sorted(folder.iterdir()) if folder.is_dir() else []
        return {path.name: path.stat().st_size for path in paths}

    def remove(self, prefix: ObjectPrefix, name: str) -> None:
        """Remove an object; idempotent."""
        self.path(prefix, name).unlink(missing_ok=True)

    def remove_all(self, prefix: ObjectPrefix) -> None:
        """Remove all objects below a prefix; idempotent."""
        shutil.rmtree(self.path(prefix), ignore_errors=True)


class S3Store:
    """Results as objects in an S3 store, which the service accesses with its own key."""

    def __init__(self, settings: Objects) -> None:
        self.settings = settings
        self._client: Any = None
        self._key: Key | None = None

    def key(self) -> Key:
        """Read the service's key; each time, since the file changes when keys are rotated."""
        parser = configparser.ConfigParser()
        parser.read_string(self.settings.credentials.read_text())
        profile = parser["default"]
        return Key(profile["aws_access_key_id"], profile["aws_secret_access_key"])

    def client(self) -> Any:
        """Return a client for the current key."""
        key = self.key()
        if self._client is None or key != self._key:
            self._key = key
            self._client = botocore.session.get_session().create_client(
                "s3",
                endpoint_url=self.settings.endpoint,
                region_name=self.settings.region,
                aws_access_key_id=key.access,
                aws_secret_access_key=key.secret,
                config=Config(
                    s3={"addressing_style": "path"},
                    connect_timeout=TIMEOUT_S,
                    read_timeout=TIMEOUT_S,
                    retries={"total_max_attempts": 2},
                ),
            )
        return self._client

    def location(self, prefix: ObjectPrefix, name: str = "") -> tuple[str, str]:
        """Return bucket and key of an object, or bucket and key prefix."""
        if self.settings.bucket:
            owner = resource_name(prefix.owner)
            return self.settings.bucket, f"{owner}/{prefix.folder}/{name}"
        bucket = bucket_name(prefix.owner)
        return bucket, f"{SERVICEX_FOLDER}/{prefix.folder}/{name}"

    def presigned_url(self, method: str, prefix: ObjectPrefix, name: str, lifetime_s: int) -> str:
        """Return a presigned URL of an object, signed with the service's key."""
        bucket, key = self.location(prefix, name)
        url = f"{self.settings.endpoint.rstrip('/')}/{bucket}/{key}"
        return _presigned(method, url, self.key(), self.settings.region, lifetime_s)

    def upload_url(self, prefix: ObjectPrefix, name: str, request_id: str, key: Key) -> str:
        """Return a presigned URL at the store; the request's id and key are not needed."""
        return self.presigned_url("PUT", prefix, name, UPLOAD_URL_S)

    def size(self, prefix: ObjectPrefix, name: str) -> int | None:
        """Return the size of an object in bytes; None if there is no such object."""
        bucket, key = self.location(prefix, name)
        try:
            return int(self.client().head_object(Bucket=bucket, Key=key)["ContentLength"])
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == HTTPStatus.NOT_FOUND:
                return None
            raise

    def sizes(self, prefix: ObjectPrefix) -> dict[str, int]:
        """Return the sizes of the objects below a prefix in bytes, by name."""
        return {key.rpartition("/")[2]: size for key, size in self._sizes_by_key(prefix)}

    def _sizes_by_key(self, prefix: ObjectPrefix) -> Iterator[tuple[str, int]]:
        bucket, key_prefix = self.location(prefix)
        paginator = self.client().get_paginator("list_objects_v2")
        try:
            for page in paginator.paginate(Bucket=bucket, Prefix=key_prefix):
                for entry in page.get("Contents", ()):
                    if not entry["Key"].endswith("/"):
                        yield entry["Key"], int(entry["Size"])
        except self.client().exceptions.NoSuchBucket:
            return

    def remove(self, prefix: ObjectPrefix, name: str) -> None:
        """Remove an object; idempotent."""
        bucket, key = self.location(prefix, name)
        self.client().delete_object(Bucket=bucket, Key=key)

    def remove_all(self, prefix: ObjectPrefix) -> None:
        """Remove all objects below a prefix; idempotent."""
        bucket, _ = self.location(prefix)
        keys = [{"Key": key} for key, _ in self._sizes_by_key(prefix)]
        for start in range(0, len(keys), DELETED_PER_CALL):
            batch = {"Objects": keys[start : start + DELETED_PER_CALL], "Quiet": True}
            self.client().delete_objects(Bucket=bucket, Delete=batch)


def store(settings: Objects, gateway: S3Gateway) -> FolderStore | S3Store:
    """Return the store that the settings name."""
    if settings.folder is not None:
        return FolderStore(settings.folder, gateway)
    return S3Store(settings)
