"""Delete all users before the release is uninstalled, while the operator can remove them.

Users and served models have the operator's finalizer.  If they remained after
`helm uninstall`, they would block the deletion of their namespace.
"""

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

from coffea_shoppe_contract.resources import FACILITY_USERS, SERVED_MODELS

from coffea_shoppe_operator.errors import StorageError
from coffea_shoppe_operator.storage import Storage

KINDS = (SERVED_MODELS, FACILITY_USERS)
INTERVAL_S = 2
MESSAGE_LENGTH = 200


class Resources(Protocol):
    """Access to custom resources in one namespace."""

    def list_resources(self, namespace: str, plural: str) -> list[dict[str, Any]]:
        """Return all resources of a kind."""

    def delete_resource(self, namespace: str, plural: str, name: str) -> bool:
        """Delete a resource; return whether there was one."""


def _reason(resource: dict[str, Any]) -> str:
    """Return a resource's name, and why it remains."""
    name = str(resource["metadata"]["name"])
    conditions = resource.get("status", {}).get("conditions", [])
    messages = [str(c.get("message", "")) for c in conditions if c.get("status") == "False"]
    return f"{name} ({messages[0][:MESSAGE_LENGTH]})" if messages else name


def remove_all(
    cluster: Resources,
    namespace: str,
    *,
    timeout: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Delete all served models and users, and wait for it at most `timeout` seconds.

    Raises `StorageError` with the names of those that remain, and the operator's reasons.
    """
    end = clock() + timeout
    for kind in KINDS:
        remaining = cluster.list_resources(namespace, kind)
        print(f"deleting {len(remaining)} {kind}", flush=True)
        while remaining:
            for resource in remaining:
                if not resource["metadata"].get("deletionTimestamp"):
                    cluster.delete_resource(namespace, kind, resource["metadata"]["name"])
            if clock() > end:
                names = "; ".join(_reason(resource) for resource in remaining[:10])
                raise StorageError(
                    f"{len(remaining)} {kind} remain after {timeout:.0f} s: {names}. Nothing was "
                    "uninstalled. Check that the operator runs, remove the cause and run `helm "
                    "uninstall` again; `helm uninstall --no-hooks` does not delete them."
                )
            sleep(INTERVAL_S)
            remaining = cluster.list_resources(namespace, kind)


def main() -> None:
    """Delete all users and served models of a namespace; exit 1 where some remain."""
    parser = argparse.ArgumentParser(description="Delete all users of a Coffea Shoppe facility.")
    parser.add_argument("--namespace", required=True, help="of the release")
    parser.add_argument("--timeout", type=float, default=240, help="seconds to wait in all")
    options = parser.parse_args()
    try:
        remove_all(Storage(), options.namespace, timeout=options.timeout)
    except StorageError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
