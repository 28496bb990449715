"""Why Kubernetes does not run a Dask pod, in words: pure functions over its responses."""

import json
from collections.abc import Mapping
from typing import Any

REFUSED = (400, 403, 422)
"""Statuses that a retry does not change: malformed, forbidden (Pod Security, a quota),
refused by admission."""
STUCK = (
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImageNeverPull",
    "ImagePullBackOff",
    "InvalidImageName",
)
"""A container in one of these states waits for a human."""


def message_of(body: str | bytes | None) -> str:
    """Return the message of an API server's response, in one line."""
    try:
        text = str(json.loads(body or "")["message"])
    except (ValueError, KeyError, TypeError):
        text = body.decode(errors="replace") if isinstance(body, bytes) else body or ""
    return " ".join(text.split()) or "no reason given"


def stuck(pod: Mapping[str, Any]) -> str:
    """Return why a pod's container cannot start without help, or ''."""
    for container in pod.get("status", {}).get("containerStatuses") or ():
        waiting = container.get("state", {}).get("waiting") or {}
        reason = str(waiting.get("reason", ""))
        if reason in STUCK:
            detail = " ".join(waiting.get("message", "").split())
            return f"{reason}: {detail}" if detail else reason
    return ""
