"""Why Kubernetes does not run a Dask pod, in words: pure functions over its answers."""

import json

# Answers that asking again does not change: malformed, forbidden (Pod Security, a
# quota), refused by admission.
REFUSED = (400, 403, 422)
# A container in one of these states waits for a human.
STUCK = (
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImageNeverPull",
    "ImagePullBackOff",
    "InvalidImageName",
)


def answer(body: str | None) -> str:
    """Return the message of an API server's answer, in one line."""
    try:
        text = json.loads(body or "")["message"]
    except (ValueError, KeyError, TypeError):
        text = body or "no reason given"
    return " ".join(text.split())


def stuck(pod: dict) -> str:
    """Return why a pod's container cannot start without help, or ''."""
    for container in pod.get("status", {}).get("containerStatuses") or ():
        waiting = container.get("state", {}).get("waiting") or {}
        if waiting.get("reason") in STUCK:
            detail = " ".join(waiting.get("message", "").split())
            return f"{waiting['reason']}: {detail}" if detail else waiting["reason"]
    return ""
