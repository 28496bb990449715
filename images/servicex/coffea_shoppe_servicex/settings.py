"""What a chart, or a laptop's command line, tells the service; one YAML file."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class Model(BaseModel):
    """A part of the settings, in the charts' spelling; unknown keys are refused."""

    model_config = ConfigDict(
        extra="forbid",
        populate_by_name=True,
        alias_generator=to_camel,
        use_attribute_docstrings=True,
    )


class Auth(Model):
    """Whose tokens are good."""

    enabled: bool = True
    """False: whoever reaches the service is the same user; for a laptop."""
    api: str = ""
    """The facility API, which publishes the keys."""
    issuer: str = ""
    """The facility's name in its tokens."""
    session_key: Path = Path("/run/secrets/servicex/session-key")
    """File of the key that signs this service's own access tokens."""


class Objects(Model):
    """Where results are kept."""

    folder: Path | None = None
    """As files below a folder; else in the store below."""
    endpoint: str = ""
    region: str = "us-east-1"
    credentials: Path = Path("/run/secrets/s3/aws-credentials")
    """File with aws_access_key_id and aws_secret_access_key."""
    bucket: str = ""
    """One for all users, with a folder for each; empty: each user's own bucket."""


class Front(Model):
    """How clients reach the results."""

    endpoint: str
    """HOST:PORT of the S3 front, as clients reach it."""
    secure: bool = False
    public_endpoint: str = ""
    """The same, as clients outside of the cluster reach it."""
    public_secure: bool = False


class Limits(Model):
    """What a request may use."""

    lease_s: float = 30
    """A transformer that is not heard of for so long has lost its file."""
    deadline_s: float = 3600
    """So long may the transform of one file take."""
    request_deadline_s: float = 2 * 86400
    """So long may a request wait and run."""
    attempts: int = 4
    """A file that was given up so often has failed."""
    memory_mi_b: int = Field(default=1024, alias="memoryMiB")
    """What a transform may use."""
    memory_max_mi_b: int = Field(default=4096, alias="memoryMaxMiB")
    """What it may use after it ran out of memory."""
    files_per_request: int = 250_000
    retention_s: float = 7 * 86400
    """Results are removed so long after their request has ended."""
    bytes_per_user: int = 0
    """A user's oldest results are removed beyond that; 0: no limit."""


class Rucio(Model):
    """A Rucio server."""

    host: str = ""
    token: Path | None = None
    """File of a token."""
    rse_expression: str = ""


class Finders(Model):
    """How names of datasets are looked up."""

    cernopendata: str = "https://opendata.cern.ch"
    """The portal's address; empty: not looked up."""
    rucio: Rucio = Rucio()
    xrootd: bool = True
    timeout_s: float = 120


class Own(Model):
    """Pods for users' own functions, and for files that need more memory than the pool has."""

    namespace: str = ""
    """Where they run; empty: none are made."""
    template: Path = Path("/etc/coffea-shoppe/transformer.yaml")
    """The pod that is made of."""
    max_pods: int = 4
    """At a time, for all users together."""
    user_secrets: bool = False
    """Users' functions find their user's tokens and connections."""


class Pool(Model):
    """The shared transformers."""

    namespace: str = ""
    deployment: str = ""
    """What is scaled; empty: nothing is."""
    min_replicas: int = 1
    max_replicas: int = 4
    files_per_replica: int = 2
    """One more pod for so many waiting files."""
    idle_s: float = 60
    """A pod fewer after so long without waiting files."""


class Settings(Model):
    """The whole."""

    database: str
    """postgresql+psycopg2://?service=NAME, or sqlite:///PATH."""
    auth: Auth = Auth()
    objects: Objects
    front: Front
    prefix: str = "/services/servicex"
    """Below which a proxy passes requests on that come from outside of the cluster."""
    pages: str = "/transformation-request"
    """Where users see the pages of requests; {user} is the hub's name of the user."""
    local_files: bool = False
    """Whether transformers may read files of the machine that they run on: on a laptop."""
    cache_prefix: str = ""
    """`root://HOST:PORT` of a forwarding cache, through which root:// files are read."""
    codegens: list[str] = ["uproot-raw", "uproot", "python"]
    """What clients may ask for."""
    image: str = ""
    """Of the transformers; results of another image are not used again."""
    fail_closed: bool = True
    """A request of which a file failed ends as Fatal: its client takes no partial result."""
    result_cache: bool = True
    pool_key: Path = Path("/run/secrets/servicex/pool-key")
    """File of the key by which the shared transformers are known."""
    limits: Limits = Limits()
    finders: Finders = Finders()
    own: Own = Own()
    pool: Pool = Pool()

    @classmethod
    def load(cls, path: Path) -> "Settings":
        """Read the settings' file."""
        found: Any = yaml.safe_load(path.read_text())
        return cls.model_validate(found)
