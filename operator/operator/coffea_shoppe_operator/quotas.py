"""What a user may use: pure functions of the resource, the groups and the facility's rules."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from coffea_shoppe_operator.models import FacilityUserSpec, Quota, QuotaSettings, Used

GB, GIB = 10**9, 2**30


def _most(values: Iterable[float]) -> float | None:
    """Return the most that is granted; zero is no limit, and so the most of all."""
    granted = list(values)
    return 0 if 0 in granted else max(granted, default=None)


def _said(quotas: Iterable[Quota], service: str, limit: str) -> list[float]:
    """Return what those of the quotas say of a limit that say anything."""
    values = (getattr(getattr(quota, service), limit) for quota in quotas)
    return [value for value in values if value is not None]


def effective(spec: FacilityUserSpec, rules: QuotaSettings) -> Quota:
    """Return what a user may use: the resource's word, else the groups' most, else the default."""
    groups = [rules.groups[name] for name in spec.groups if name in rules.groups]
    ranks = [spec.quota], groups, [rules.default]
    return Quota.model_validate(
        {
            service: {
                limit: _most(next(filter(None, (_said(r, service, limit) for r in ranks)), []))
                for limit in type(part).model_fields
            }
            for service, part in Quota()
        }
    )


def overfull(quota: Quota, used: Used) -> bool:
    """Return whether a user's bucket holds more than it may."""
    limit = quota.object_store.gigabytes
    return bool(limit) and used.object_store > (limit or 0) * GB


@dataclass(frozen=True)
class Pods:
    """What a user's Dask clusters hold at present."""

    clusters: int
    cores: float
    """Of the workers: limits."""
    memory: float
    """Bytes, of the workers."""


@dataclass(frozen=True)
class Row:
    """One limit, and how much of it is used."""

    service: str
    what: str
    unit: str
    used: float
    limit: float
    """0: none."""


def rows(quota: Quota, used: Used, pods: Pods | None, models: int | None) -> Iterator[Row]:
    """Yield a user's limits, and what is used; None where the facility has no such service."""
    if pods:
        dask = quota.dask
        yield Row("dask-gateway", "clusters", "", pods.clusters, dask.clusters or 0)
        yield Row("dask-gateway", "cores", "", pods.cores, dask.cores or 0)
        yield Row("dask-gateway", "memory", "GiB", pods.memory / GIB, dask.memory_gi_b or 0)
    for service, stored, limit in (
        ("s3", used.object_store, quota.object_store.gigabytes),
        ("servicex", used.service_x, quota.service_x.gigabytes),
    ):
        if limit:  # nobody measures what has none
            yield Row(service, "stored", "GB", stored / GB, limit)
    if models is not None:
        yield Row("triton", "models", "", models, quota.triton.models or 0)
