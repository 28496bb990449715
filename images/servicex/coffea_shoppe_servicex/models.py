"""Domain types: owners and quotas, submissions, leases of files and their results."""

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from coffea_shoppe_servicex.database import Request
from coffea_shoppe_servicex.formats import Format
from coffea_shoppe_servicex.identities import Identity

OPEN_STATUSES = ("Lookup", "Running")
"""Statuses of requests that have not ended."""
END_STATUSES = {
    "Complete": "complete",
    "Fatal": "failed",
    "Bad Dataset": "bad_dataset",
    "Canceled": "canceled",
}
"""Final statuses of requests, and their names in the totals."""
REUSED = "reused"
"""In the totals: a request that was completed with an earlier one's result."""
END_STATES = ("done", "failed", "canceled")
"""Final states of files."""
MESSAGE_LENGTH = 2000
"""Maximum length of the message of a failed file or a delayed request, in characters."""
LARGEST_COUNT = 10**15
"""Maximum number of events or bytes that is accepted of one file."""
LATE_UPLOAD_S = 1800
"""Until this many seconds after a request's end, a lost transformer may still upload."""


@dataclass(frozen=True)
class Owner:
    """The authenticated user to whom requests and datasets belong."""

    user: str
    uid: str
    """Distinguishes users who had the same name at different times."""


class Quota(BaseModel):
    """Limits of one user, set by the operator."""

    model_config = ConfigDict(extra="forbid")

    gigabytes: float = Field(default=0, ge=0)
    """The oldest results above this size are removed; 0: no limit."""
    share: float = Field(default=1, gt=0)
    """Weight in the queue: a share of 2 gets twice the files of a share of 1."""


class Submission(BaseModel):
    """A transform request as submitted.  Unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)

    title: str | None = None
    did: str | None = None
    """Dataset as SCHEME://NAME, optionally with ?files=N; not used with a file list."""
    file_list: list[str] | None = Field(default=None, alias="file-list")
    selection: str
    """The query, in the language of `codegen`."""
    codegen: str
    result_format: Format = Field(default="parquet", alias="result-format")
    result_destination: str = Field(default="object-store", alias="result-destination")


@dataclass(frozen=True)
class Lease:
    """A file that one transformer may work on for a limited time.

    The API sends it as JSON under these names.
    """

    file: int
    attempt: int
    request: str
    codegen: str
    selection: str
    result_format: str
    source_urls: list[str]
    """URLs to read the file from, in order of preference."""
    identity: list[Identity]
    """What the file, and those that the query reads beside it, were when they were looked up."""
    memory: int
    """Memory limit in MiB."""
    deadline_s: float
    lease_s: float


class Result(BaseModel):
    """The result of one file, as its transformer reports it.

    A user's function may report anything in place of its transformer: nothing of this counts
    in a quota, and further fields are ignored.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    events: int = Field(ge=0, le=LARGEST_COUNT)
    read: int = Field(ge=0, le=LARGEST_COUNT)
    """Bytes read from the input."""
    seconds: float = Field(ge=0, le=LARGEST_COUNT, allow_inf_nan=False)
    log: str = ""


@dataclass(frozen=True)
class PodDemand:
    """A request that needs dedicated pods."""

    request: Request
    memory: int
    """Memory limit of its largest file, in MiB."""
    files: int
    """Open files: more pods than that would be idle."""


@dataclass(frozen=True)
class History:
    """Totals over a user's completed files of one query."""

    files: int = 0
    read: int = 0
    """Bytes read from the inputs."""
    bytes: int = 0
    """Bytes of the results."""
    seconds: float = 0.0
