"""The user's bucket as a file system; its keys may change while it is used."""

import configparser
import json
from typing import Any
from urllib.parse import urlsplit

from coffea_shoppe_contract.files import S3_BUCKET_FILE, S3_CONFIG_FILE, S3_KEYS_FILE
from fsspec.implementations.arrow import ArrowFSWrapper
from pyarrow.fs import (
    AwsStandardS3RetryStrategy,
    FileSystem,
    S3FileSystem,
    SubTreeFileSystem,
)

from coffea_shoppe.connections import FacilityError, connections, folder


def _read(name: str) -> str:
    """Return one of the user's files; raises `FacilityError`."""
    try:
        return (folder() / name).read_text()
    except FileNotFoundError as error:
        raise FacilityError(
            f"{error.filename} does not exist: this facility has no object store, or got one "
            "after your server had started; restart your server, or ask its administrators"
        ) from error


ATTEMPTS = 9
"""Of a request, over about a minute: as long as an upgrade replaces the store."""


class Bucket(ArrowFSWrapper):
    """The user's bucket, accessed with the keys that are in their file at the time."""

    cachable = False

    def __init__(self, **options: Any) -> None:
        parser = configparser.ConfigParser()
        parser.read_string(_read(S3_CONFIG_FILE))
        self._config, self._keys = parser["default"], _read(S3_KEYS_FILE)
        self._bucket = _read(S3_BUCKET_FILE).strip()
        self._url = urlsplit(connections().get("s3", "") or self._config["endpoint_url"])
        super().__init__(self._connect(), **options)

    def _connect(self) -> FileSystem:
        """Return the bucket as Arrow's file system, with the keys that were read last."""
        keys = json.loads(self._keys)
        store = S3FileSystem(
            access_key=keys["AccessKeyId"],
            secret_key=keys["SecretAccessKey"],
            endpoint_override=self._url.netloc,
            scheme=self._url.scheme,
            region=self._config["region"],
            retry_strategy=AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
        )
        return SubTreeFileSystem(self._bucket, store)

    @property
    def fs(self) -> FileSystem:
        """Arrow's file system, with the current keys."""
        if (keys := _read(S3_KEYS_FILE)) != self._keys:
            self._keys = keys
            self._fs = self._connect()
        return self._fs

    @fs.setter
    def fs(self, system: FileSystem) -> None:
        self._fs = system
