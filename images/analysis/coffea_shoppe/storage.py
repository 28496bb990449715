"""The user's own bucket in the facility's object store."""

import configparser
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from coffea_shoppe_contract import identity

from coffea_shoppe.connections import FacilityError, connections, folder

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


def storage() -> "AbstractFileSystem":
    """Return my bucket as a file system of fsspec; its paths begin within the bucket.

    Raises `FacilityError` where the facility has no object store.
    """
    from fsspec.implementations.arrow import ArrowFSWrapper
    from pyarrow.fs import S3FileSystem, SubTreeFileSystem

    address = connections().get("s3", "")
    names = (identity.S3_CONFIG_FILE, identity.S3_CREDENTIALS_FILE, identity.S3_BUCKET_FILE)
    try:
        config, credentials, bucket = ((folder() / name).read_text() for name in names)
    except FileNotFoundError as error:
        raise FacilityError(
            f"{error.filename} is not there: this facility has no object store, or your "
            "server is older than it; start your server anew, or ask the facility's operators"
        ) from error
    parser = configparser.ConfigParser()
    parser.read_string(config)
    region = parser["default"]["region"]
    parser.read_string(credentials)
    parts = urlsplit(address or parser["default"]["endpoint_url"])
    store = S3FileSystem(
        access_key=parser["default"]["aws_access_key_id"],
        secret_key=parser["default"]["aws_secret_access_key"],
        endpoint_override=parts.netloc,
        scheme=parts.scheme,
        region=region,
    )
    return ArrowFSWrapper(SubTreeFileSystem(bucket.strip(), store))
