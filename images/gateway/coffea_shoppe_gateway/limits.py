"""How many workers a user's clusters may have together: pure arithmetic."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

GIB = 2**30


@dataclass(frozen=True)
class Limits:
    """What a user may use at once, in all Dask clusters together; zero means no limit."""

    clusters: int
    cores: float
    memory: float
    """Bytes."""


def limits_in(status: Mapping[str, Any], default: Limits) -> Limits:
    """Return the limits in a FacilityUser's status; the default's where it has none."""
    quota = (status.get("quota") or {}).get("dask") or {}
    memory = quota.get("memoryGiB")
    return Limits(
        clusters=quota.get("clusters", default.clusters),
        cores=quota.get("cores", default.cores),
        memory=default.memory if memory is None else memory * GIB,
    )


@dataclass(frozen=True)
class Use:
    """What a Dask cluster uses: its workers, and the limits of each worker."""

    workers: int
    worker_cores: float
    worker_memory: float
    """Bytes."""


def refusal(limits: Limits, clusters: int, request: Use) -> str:
    """Return why a user with so many clusters may not start one more, or ''."""
    if limits.clusters and clusters >= limits.clusters:
        return (
            f"you have {clusters} of at most {limits.clusters} Dask clusters; "
            "shut one down first (Gateway().list_clusters(), then .stop_cluster(name))"
        )
    if limits.cores and request.worker_cores > limits.cores:
        return (
            f"one worker of {request.worker_cores:g} cores is above your limit of {limits.cores:g}"
        )
    if limits.memory and request.worker_memory > limits.memory:
        size, most = request.worker_memory / GIB, limits.memory / GIB
        return f"one worker of {size:.1f} GiB is above your limit of {most:.1f} GiB"
    return ""


def granted(limits: Limits, others: Iterable[Use], request: Use) -> int:
    """Return how many of the requested workers fit beside the user's other clusters."""
    others = list(others)
    most = request.workers
    if limits.cores and request.worker_cores:
        left = limits.cores - sum(use.workers * use.worker_cores for use in others)
        most = min(most, int(left / request.worker_cores + 1e-9))
    if limits.memory and request.worker_memory:
        left = limits.memory - sum(use.workers * use.worker_memory for use in others)
        most = min(most, int(left / request.worker_memory + 1e-9))
    return max(most, 0)
