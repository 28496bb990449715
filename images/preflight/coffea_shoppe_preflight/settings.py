"""What the preflight of a release looks at; its chart writes the file."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Model(BaseModel):
    """Keys in camelCase, as in Kubernetes; unknown ones are errors."""

    model_config = ConfigDict(
        alias_generator=to_camel, extra="forbid", frozen=True, populate_by_name=True
    )


class Account(Model):
    """A ServiceAccount of the release, and the rights that its component needs."""

    component: str
    name: str
    rules: dict[str, list[dict[str, Any]]]
    """Namespace → rules, as a Role has them."""


class Settings(Model):
    """A release and what it uses."""

    release: str
    namespace: str
    namespaces: list[str]
    """All namespaces with pods of the release; the first is the release's."""
    components: list[str]
    """The services of the release: values of `app.kubernetes.io/name`."""
    cluster_wide: bool = True
    """Whether the preflight may list objects that belong to no namespace."""
    definitions: list[str] = []
    """Custom resources that must be defined: names of this release's definitions."""
    addresses: dict[str, list[str]] = {}
    """Component → addresses, SCHEME://HOST:PORT/…, to which clients connect."""
    databases: dict[str, Path] = {}
    """Database → its service.conf."""
    buckets: dict[str, Path] = {}
    """Bucket → folder with aws-config and aws-credentials."""
    origins: list[str] = []
    """HOST:PORT of XRootD servers from which the caches read."""
    identity_providers: list[str] = []
    """Addresses that the hub uses for logins."""
    external_urls: list[str] = []
    """Where browsers find the hub, without a path."""
    accounts: list[Account] = []
