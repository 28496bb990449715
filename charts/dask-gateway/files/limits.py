"""How many workers a user's clusters may have together: pure arithmetic."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

GIB = 2**30


@dataclass(frozen=True)
class Limits:
    """What one user may hold at once, over all clusters; zero means no limit."""

    clusters: int
    cores: float
    memory: float
    """Bytes."""


def of_user(status: Mapping, otherwise: Limits) -> Limits:
    """Return the limits that a FacilityUser's status tells; what it does not is as otherwise."""
    told = (status.get("quota") or {}).get("dask") or {}
    memory = told.get("memoryGiB")
    return Limits(
        clusters=told.get("clusters", otherwise.clusters),
        cores=told.get("cores", otherwise.cores),
        memory=otherwise.memory if memory is None else memory * GIB,
    )


@dataclass(frozen=True)
class Use:
    """What one cluster holds: its workers, and what each worker may take."""

    workers: int
    worker_cores: float
    worker_memory: float
    """Bytes."""


def refusal(limits: Limits, clusters: int, wanted: Use) -> str:
    """Return why a user with so many clusters may not start one more, or ''."""
    if limits.clusters and clusters >= limits.clusters:
        return (
            f"you have {clusters} of at most {limits.clusters} Dask clusters; "
            "shut one down first (Gateway().list_clusters(), then .stop_cluster(name))"
        )
    if limits.cores and wanted.worker_cores > limits.cores:
        return (
            f"one worker of {wanted.worker_cores:g} cores is above your limit of {limits.cores:g}"
        )
    if limits.memory and wanted.worker_memory > limits.memory:
        size, most = wanted.worker_memory / GIB, limits.memory / GIB
        return f"one worker of {size:.1f} GiB is above your limit of {most:.1f} GiB"
    return ""


def granted(limits: Limits, others: Iterable[Use], wanted: Use) -> int:
    """Return how many of the wanted workers fit beside the user's other clusters."""
    others = list(others)
    most = wanted.workers
    if limits.cores and wanted.worker_cores:
        left = limits.cores - sum(use.workers * use.worker_cores for use in others)
        most = min(most, int(left / wanted.worker_cores + 1e-9))
    if limits.memory and wanted.worker_memory:
        left = limits.memory - sum(use.workers * use.worker_memory for use in others)
        most = min(most, int(left / wanted.worker_memory + 1e-9))
    return max(most, 0)
