"""Clients of services' HTTP interfaces; their errors become `StorageError`."""
