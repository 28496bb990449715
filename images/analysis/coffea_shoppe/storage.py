"""The user's own bucket in the facility's object store."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


def storage() -> "AbstractFileSystem":
    """Return my bucket as a file system of fsspec; its paths begin within the bucket.

    It may be kept: keys are read anew whenever they have changed.  Raises `FacilityError`
    where the facility has no object store.
    """
    # Arrow takes a second to load, and most of this package does without.
    from coffea_shoppe.bucket import Bucket

    return Bucket()
