"""Conditions in the status of a resource."""

from typing import Literal

from coffea_shoppe_operator.schema import Model


class Condition(Model):
    """A condition of a resource, in Kubernetes' own form."""

    type: str
    status: Literal["True", "False"]
    reason: str
    """One word in CamelCase."""
    message: str
    """Text for humans."""


def condition(kind: str, holds: bool, reason: str, message: str) -> Condition:
    """Return a condition: `Ready` for tokens and connections, or one service's."""
    return Condition(type=kind, status="True" if holds else "False", reason=reason, message=message)


def ready(holds: bool, reason: str, message: str) -> Condition:
    """Return the condition `Ready`."""
    return condition("Ready", holds, reason, message)


def service_condition(kind: str, *, message: str, problem: str = "") -> Condition:
    """Return a service's condition: `Unavailable` with the problem, or `Ready`."""
    reason = "Unavailable" if problem else "Ready"
    return condition(kind, not problem, reason, problem or message)
