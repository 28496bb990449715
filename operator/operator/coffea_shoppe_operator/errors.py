"""What goes wrong outside of the operator."""


class StorageError(Exception):
    """The cluster or the object store did not do as asked; asking again may help."""
