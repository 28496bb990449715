"""List served models whose scores earlier code may have made wrong."""

import argparse
import sys
from collections.abc import Iterator
from typing import Any, Protocol

from coffea_shoppe_contract.resources import SERVED_MODELS

from coffea_shoppe_operator.errors import StorageError
from coffea_shoppe_operator.models import ServedModel
from coffea_shoppe_operator.storage import Storage

FAULT = (
    "served by an earlier release (served-output, triton-early-stopping): the output is one "
    "column; with early stopping, it uses all rounds"
)


class Resources(Protocol):
    """Access to custom resources in one namespace."""

    def list_resources(self, namespace: str, plural: str) -> list[dict[str, Any]]:
        """Return all resources of a kind."""


def affected(cluster: Resources, namespace: str) -> Iterator[ServedModel]:
    """Yield the served models that were inspected by no code that compares their scores."""
    for resource in cluster.list_resources(namespace, SERVED_MODELS):
        model = ServedModel.parse(resource)
        if model.status.version and not model.status.method:
            yield model


def main() -> None:
    """Print the models with their owners; `coffea_shoppe.serve` mends each."""
    parser = argparse.ArgumentParser(
        description="List served models whose scores earlier code may have made wrong.",
        epilog="Their owners call coffea_shoppe.serve for them again.",
    )
    parser.add_argument("--namespace", required=True, help="of the release")
    options = parser.parse_args()
    try:
        models = list(affected(Storage(), options.namespace))
    except StorageError as error:
        sys.exit(f"error: {error}")
    for model in models:
        served = f"{model.status.registered} version {model.status.version}"
        print(f"{model.name}  {model.spec.username}  {served}  {FAULT}")
    print(f"{len(models)} served models that may give wrong scores")


if __name__ == "__main__":
    main()
