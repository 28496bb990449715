"""A user's quota, from the resource, the groups and the facility's defaults."""

from collections.abc import Iterable

from coffea_shoppe_operator.models import FacilityUserSpec, Quota, QuotaSettings


def _highest(values: Iterable[float]) -> float | None:
    """Return the highest limit; zero is no limit, and so the highest of all."""
    limits = list(values)
    return 0 if 0 in limits else max(limits, default=None)


def _set_limits(quotas: Iterable[Quota], service: str, limit: str) -> list[float]:
    """Return one limit of those quotas that set it."""
    values = (getattr(getattr(quota, service), limit) for quota in quotas)
    return [value for value in values if value is not None]


def effective(spec: FacilityUserSpec, rules: QuotaSettings) -> Quota:
    """Return a user's quota.

    Each limit is the resource's, else the highest of the groups', else the default.
    """
    groups = [rules.groups[name] for name in spec.groups if name in rules.groups]
    by_precedence = [spec.quota], groups, [rules.default]
    quota: Quota = Quota.model_validate(
        {
            service: {
                limit: _highest(
                    next(filter(None, (_set_limits(q, service, limit) for q in by_precedence)), [])
                )
                for limit in type(part).model_fields
            }
            for service, part in Quota()
        }
    )
    return quota
