"""Where results are kept: files below a folder, or objects of an S3 store.

Each request's objects lie below a prefix of its own, in a bucket of the user's or, where
there is one for all, in the user's folder of it.
"""

import configparser
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import botocore.session
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from coffea_shoppe_contract import identity

from coffea_shoppe_servicex.settings import Front, Objects

UPLOAD_S = 900
"""So long is the address good to which a transformer sends its file."""
TIMEOUT_S = 20
FOLDER = identity.SERVICEX_FOLDER


@dataclass(frozen=True)
class Key:
    """What a request's clients sign with."""

    access: str
    secret: str


@dataclass(frozen=True)
class Place:
    """Where the objects of a request are."""

    owner: str
    folder: str


def _signed(method: str, url: str, key: Key, region: str, lifetime: int) -> str:
    request = AWSRequest(method=method, url=url)
    credentials = Credentials(key.access, key.secret)
    S3SigV4QueryAuth(credentials, "s3", region, expires=lifetime).add_auth(request)
    return str(request.prepare().url)


class FolderStore:
    """Files below a folder; the S3 front takes uploads for it."""

    def __init__(self, folder: Path, front: Front) -> None:
        self.folder, self.front = folder, front

    def path(self, place: Place, name: str = "") -> Path:
        """Return where an object lies, or the folder of all."""
        owner = identity.resource_name(place.owner)
        return self.folder / owner / place.folder / name

    def upload_url(self, place: Place, name: str, request: str, key: Key) -> str:
        """Return an address at the front."""
        scheme = "https" if self.front.secure else "http"
        url = f"{scheme}://{self.front.endpoint}/{request}/{name}"
        return _signed("PUT", url, key, "us-east-1", UPLOAD_S)

    def names(self, place: Place) -> list[str]:
        """Return the names of the files."""
        folder = self.path(place)
        return sorted(one.name for one in folder.iterdir()) if folder.is_dir() else []

    def remove(self, place: Place, name: str) -> None:
        """Remove a file."""
        self.path(place, name).unlink(missing_ok=True)

    def remove_all(self, place: Place) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path(place), ignore_errors=True)


class S3Store:
    """Objects of a store, by the service's own keys."""

    def __init__(self, settings: Objects) -> None:
        self.settings = settings
        self._client: Any = None
        self._key: Key | None = None

    def key(self) -> Key:
        """Return the service's keys, read anew: they may have been changed."""
        parser = configparser.ConfigParser()
        parser.read_string(self.settings.credentials.read_text())
        held = parser["default"]
        return Key(held["aws_access_key_id"], held["aws_secret_access_key"])

    def client(self) -> Any:
        """Return a client, made anew where the keys were changed."""
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

    def where(self, place: Place, name: str = "") -> tuple[str, str]:
        """Return bucket and key of an object, or the prefix of all."""
        if self.settings.bucket:
            owner = identity.resource_name(place.owner)
            return self.settings.bucket, f"{owner}/{place.folder}/{name}"
        return identity.bucket_name(place.owner), f"{FOLDER}/{place.folder}/{name}"

    def url(self, method: str, place: Place, name: str, lifetime: int) -> str:
        """Return the signed address of an object in the store itself."""
        bucket, key = self.where(place, name)
        plain = f"{self.settings.endpoint.rstrip('/')}/{bucket}/{key}"
        return _signed(method, plain, self.key(), self.settings.region, lifetime)

    def upload_url(self, place: Place, name: str, request: str, key: Key) -> str:
        """Return an address at the store."""
        return self.url("PUT", place, name, UPLOAD_S)

    def names(self, place: Place) -> list[str]:
        """Return the names of the objects."""
        return [name.rpartition("/")[2] for name in self._keys(place)]

    def _keys(self, place: Place) -> Iterator[str]:
        bucket, prefix = self.where(place)
        pages = self.client().get_paginator("list_objects_v2")
        try:
            for page in pages.paginate(Bucket=bucket, Prefix=prefix):
                for entry in page.get("Contents", ()):
                    if not entry["Key"].endswith("/"):
                        yield entry["Key"]
        except self.client().exceptions.NoSuchBucket:
            return

    def remove(self, place: Place, name: str) -> None:
        """Remove an object."""
        bucket, key = self.where(place, name)
        self.client().delete_object(Bucket=bucket, Key=key)

    def remove_all(self, place: Place) -> None:
        """Remove all objects below the request's prefix."""
        bucket, _ = self.where(place)
        keys = [{"Key": key} for key in self._keys(place)]
        for first in range(0, len(keys), 1000):
            part = {"Objects": keys[first : first + 1000], "Quiet": True}
            self.client().delete_objects(Bucket=bucket, Delete=part)


def store(settings: Objects, front: Front) -> FolderStore | S3Store:
    """Return the store that the settings name."""
    if settings.folder is not None:
        return FolderStore(settings.folder, front)
    return S3Store(settings)
