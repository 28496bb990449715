"""A bucket as a file system whose keys change while it is used."""

import configparser
import json
from typing import Any
from urllib.parse import urlsplit

from coffea_shoppe_contract import identity
from fsspec.implementations.arrow import ArrowFSWrapper
from pyarrow.fs import FileSystem, S3FileSystem, SubTreeFileSystem

from coffea_shoppe.connections import FacilityError, connections, folder


def _read(name: str) -> str:
    """Return one of the user's files; raises `FacilityError`."""
    try:
        return (folder() / name).read_text()
    except FileNotFoundError as error:
        raise FacilityError(
            f"{error.filename} is not there: this facility has no object store, or your "
            "server is older than it; start your server anew, or ask the facility's operators"
        ) from error


class Bucket(ArrowFSWrapper):
    """My bucket, by the keys that are in their file at the time."""

    cachable = False

    def __init__(self, **options: Any) -> None:
        parser = configparser.ConfigParser()
        parser.read_string(_read(identity.S3_CONFIG_FILE))
        self._config, self._keys = parser["default"], _read(identity.S3_KEYS_FILE)
        self._bucket = _read(identity.S3_BUCKET_FILE).strip()
        self._url = urlsplit(connections().get("s3", "") or self._config["endpoint_url"])
        super().__init__(self._connected(), **options)

    def _connected(self) -> FileSystem:
        """Return the bucket as a file system of Arrow's, by the keys read last."""
        keys = json.loads(self._keys)
        store = S3FileSystem(
            access_key=keys["AccessKeyId"],
            secret_key=keys["SecretAccessKey"],
            endpoint_override=self._url.netloc,
            scheme=self._url.scheme,
            region=self._config["region"],
        )
        return SubTreeFileSystem(self._bucket, store)

    @property
    def fs(self) -> FileSystem:
        """The file system of Arrow's that is good at present."""
        if (keys := _read(identity.S3_KEYS_FILE)) != self._keys:
            self._keys = keys
            self._fs = self._connected()
        return self._fs

    @fs.setter
    def fs(self, given: FileSystem) -> None:
        self._fs = given
