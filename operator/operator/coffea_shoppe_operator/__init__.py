"""The facility's operator and its API.

Each service has an adapter (`adapters`), which states what it needs of the service's client
(`clients`); `composition` connects the two.  The layers are import contracts of the
workspace's pyproject.toml.
"""
