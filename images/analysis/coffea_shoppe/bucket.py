"""A bucket as a file system whose keys change while it is used."""

import configparser
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from coffea_shoppe_contract import identity
from fsspec.implementations.arrow import ArrowFSWrapper
from pyarrow.fs import FileSystem, S3FileSystem, SubTreeFileSystem

from coffea_shoppe.connections import FacilityError, connections, folder


@dataclass(frozen=True)
class _Place:
    """Where a bucket is, and the keys to it."""

    url: str
    region: str
    bucket: str
    account: str
    secret: str

    @classmethod
    def read(cls) -> "_Place":
        """Read the user's files; raises `FacilityError`."""
        names = (identity.S3_CONFIG_FILE, identity.S3_KEYS_FILE, identity.S3_BUCKET_FILE)
        try:
            config, keys, bucket = ((folder() / name).read_text() for name in names)
        except FileNotFoundError as error:
            raise FacilityError(
                f"{error.filename} is not there: this facility has no object store, or your "
                "server is older than it; start your server anew, or ask the facility's operators"
            ) from error
        parser = configparser.ConfigParser()
        parser.read_string(config)
        told, key = parser["default"], json.loads(keys)
        return cls(
            connections().get("s3", "") or told["endpoint_url"],
            told["region"],
            bucket.strip(),
            key["AccessKeyId"],
            key["SecretAccessKey"],
        )

    def open(self) -> FileSystem:
        """Return the bucket as a file system of Arrow's."""
        parts = urlsplit(self.url)
        store = S3FileSystem(
            access_key=self.account,
            secret_key=self.secret,
            endpoint_override=parts.netloc,
            scheme=parts.scheme,
            region=self.region,
        )
        return SubTreeFileSystem(self.bucket, store)


class Bucket(ArrowFSWrapper):
    """My bucket, by the keys that are in their file at the time."""

    cachable = False

    def __init__(self, **options: Any) -> None:
        self._place = _Place.read()
        super().__init__(self._place.open(), **options)

    @property
    def fs(self) -> FileSystem:
        """The file system of Arrow's that is good at present."""
        if (place := _Place.read()) != self._place:
            self._place, self._fs = place, place.open()
        return self._fs

    @fs.setter
    def fs(self, given: FileSystem) -> None:
        self._fs = given
