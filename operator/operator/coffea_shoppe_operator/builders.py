"""The objects that the operator makes: pure functions, no cluster."""

import json
from collections.abc import Mapping
from typing import Any

from coffea_shoppe_contract import identity

from coffea_shoppe_operator.keys import Key
from coffea_shoppe_operator.models import Condition, FacilityUser, Settings


def user_files(user: FacilityUser, key: Key, settings: Settings, *, now: float) -> dict[str, bytes]:
    """Return the files of a user's Secret: a token for each service, and the connections."""
    files = {
        identity.token_file(audience): key.sign(
            identity.claims(
                issuer=settings.issuer,
                audience=audience,
                user=user.spec.username,
                uid=user.uid,
                groups=tuple(user.spec.groups),
                now=now,
            )
        )
        for audience in identity.AUDIENCES
    }
    files[identity.CONNECTIONS_FILE] = json.dumps(settings.connections, indent=1, sort_keys=True)
    return {name: text.encode() for name, text in files.items()}


def secret(
    name: str, namespace: str, data: Mapping[str, bytes], labels: Mapping[str, str]
) -> dict[str, Any]:
    """Return a Secret; its values are still bytes."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(labels)},
        "type": "Opaque",
        "data": dict(data),
    }


def ready(holds: bool, reason: str, message: str) -> Condition:
    """Return the condition `Ready`."""
    return Condition(
        type="Ready", status="True" if holds else "False", reason=reason, message=message
    )


def revocations(before: Mapping[str, float], uid: str | None, *, now: float) -> dict[str, float]:
    """Return the revocations, one more where a uid is given, without those that are over.

    One is over when all tokens that it voids have expired.
    """
    kept = {
        one: until
        for one, until in before.items()
        if now <= until + identity.LIFETIME_S + 2 * identity.LEEWAY_S
    }
    return kept | ({uid: float(int(now))} if uid else {})
