"""Settings of the service: one YAML file, written by the chart or by the local command."""

from pathlib import Path
from typing import Any

import yaml
from coffea_shoppe_contract import Cache, parse_caches
from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic.alias_generators import to_camel


class Model(BaseModel):
    """A section of the settings.  Keys are in camel case; unknown keys are refused."""

    model_config = ConfigDict(
        extra="forbid",
        populate_by_name=True,
        alias_generator=to_camel,
        use_attribute_docstrings=True,
    )


class Auth(Model):
    """Whose tokens the service accepts."""

    enabled: bool = True
    """False: every client acts as the same local user; for a laptop."""
    api: str = ""
    """URL of the facility API, which publishes the verification keys."""
    issuer: str = ""
    """Issuer of the facility's tokens."""
    session_key: Path = Path("/run/secrets/servicex/session-key")
    """File with the key that signs this service's own access tokens."""


class Objects(Model):
    """Where results are stored."""

    folder: Path | None = None
    """Store results as files below this folder; unset: in the object store below."""
    endpoint: str = ""
    """URL of the object store."""
    region: str = "us-east-1"
    credentials: Path = Path("/run/secrets/s3/aws-credentials")
    """File with aws_access_key_id and aws_secret_access_key."""
    bucket: str = ""
    """Bucket for all users, with a folder for each; empty: each user's own bucket."""


class S3Gateway(Model):
    """Address of the S3 gateway, from which clients download results."""

    endpoint: str
    """HOST:PORT inside the cluster."""
    secure: bool = False
    """Whether `endpoint` is served over TLS."""
    public_endpoint: str = ""
    """HOST:PORT outside of the cluster."""
    public_secure: bool = False
    """Whether `public_endpoint` is served over TLS."""


class Limits(Model):
    """Limits of requests, files and results."""

    lease_s: float = 30
    """Seconds until the lease of a file expires, unless its transformer renews it."""
    deadline_s: float = 3600
    """Maximum time for the transform of one file, in seconds."""
    request_deadline_s: float = 2 * 86400
    """Maximum time from submission to the end of a request, in seconds."""
    attempts: int = 4
    """A file fails after this many attempts."""
    memory_mib: int = Field(default=1024, validation_alias="memoryMiB")
    """Memory limit of a file's first attempt, in MiB."""
    memory_max_mib: int = Field(default=4096, validation_alias="memoryMaxMiB")
    """Memory limit of attempts after an out-of-memory failure, in MiB."""
    files_per_request: int = 250_000
    """Maximum number of files in a request's file list."""
    retention_s: float = 7 * 86400
    """Results are removed this many seconds after the end of their request."""
    bytes_per_user: int = 0
    """Default quota: a user's oldest results above it are removed; 0: no limit."""


class Rucio(Model):
    """A Rucio server."""

    host: str = ""
    """URL of the server; empty: no look-ups in Rucio."""
    token: Path | None = None
    """File with a token for the server."""
    rse_expression: str = ""
    """Restricts replicas to matching storage elements; empty: all."""


class Finders(Model):
    """Where datasets are looked up."""

    cernopendata: str = "https://opendata.cern.ch"
    """URL of the CERN Open Data portal; empty: no look-ups there."""
    rucio: Rucio = Rucio()
    xrootd: bool = True
    """Whether patterns on XRootD servers are listed."""
    timeout_s: float = 120
    """Timeout of each call, in seconds."""


class DedicatedPods(Model):
    """Pods for one request each: users' own functions, and files that need more memory."""

    namespace: str = ""
    """Namespace of the pods; empty: none are created."""
    template: Path = Path("/etc/coffea-shoppe/transformer.yaml")
    """File with the pod template."""
    max_pods: int = 4
    """Most pods at a time, for all users together."""
    user_secrets: bool = False
    """Whether users' functions get their user's tokens and connection settings."""


class SharedPool(Model):
    """The Deployment of shared transformers, and how it is scaled."""

    namespace: str = ""
    deployment: str = ""
    """Name of the Deployment; empty: it is not scaled."""
    min_replicas: int = 1
    max_replicas: int = 4
    files_per_replica: int = 2
    """One replica is added for this many pending files."""
    idle_s: float = 60
    """Seconds without pending files before the pool shrinks."""


class Settings(Model):
    """All settings."""

    database: str
    """postgresql+psycopg2://?service=NAME, or sqlite:///PATH."""
    auth: Auth = Auth()
    objects: Objects
    s3_gateway: S3Gateway
    prefix: str = "/services/servicex"
    """Path prefix that the reverse proxy adds to requests from outside of the cluster."""
    pages: str = "/transformation-request"
    """URL of the users' pages; {user} is replaced by the hub's name of the user."""
    local_files: bool = False
    """Whether requests may name local files of the transformers; for a laptop."""
    cache_prefix: str = ""
    """Caches for root:// files, as `parse_caches` reads them; empty: no cache."""
    codegens: list[str] | None = None
    """Names of the code generators that clients may use; unset: all."""
    codegens_folder: Path | None = None
    """Folder of further code generators: NAME.py has the one called NAME."""
    image: str = ""
    """Image of the transformers; results of another image are not reused."""
    fail_closed: bool = True
    """A request with a failed file ends as Fatal, so that its client takes no partial result."""
    result_cache: bool = True
    """Whether a request reuses the result of an identical earlier one of the same user."""
    require_landlock: bool = True
    """Whether look-ups and estimates are refused on nodes that cannot confine processes."""
    pool_key: Path = Path("/run/secrets/servicex/pool-key")
    """File with the key of the shared transformers."""
    limits: Limits = Limits()
    finders: Finders = Finders()
    dedicated_pods: DedicatedPods = DedicatedPods()
    shared_pool: SharedPool = SharedPool()

    @property
    def caches(self) -> list[Cache]:
        """The caches for root:// files."""
        return parse_caches(self.cache_prefix)

    @field_validator("cache_prefix")
    @classmethod
    def _caches_are_readable(cls, text: str) -> str:
        parse_caches(text)
        return text

    @classmethod
    def load(cls, path: Path) -> "Settings":
        """Read settings from a YAML file; raises `pydantic.ValidationError`."""
        content: Any = yaml.safe_load(path.read_text())
        return cls.model_validate(content)
