"""The implementation of the command `ci/shoppe`."""
