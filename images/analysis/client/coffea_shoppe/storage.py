"""The user's own bucket in the facility's object store."""

from typing import TYPE_CHECKING

from coffea_shoppe.extras import extra

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


def storage() -> "AbstractFileSystem":
    """Return my bucket as a file system of fsspec; its paths begin within the bucket.

    The file system may be reused: it reads new keys whenever they have changed.  Raises
    `FacilityError` where the facility has no object store, and `MissingExtraError` where
    the extra `s3` is not installed.
    """
    # Arrow takes a second to load, and most of this package does without.
    with extra("s3", user="shoppe.storage()"):
        from coffea_shoppe.bucket import Bucket

    return Bucket()
