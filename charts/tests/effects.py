"""What values of the hub's and the gateway's charts effect, beside the copy of all values."""

import json
from collections.abc import Callable
from pathlib import Path

from hub_and_gateway import Started, start_gateway, start_hub
from rendering import ALONE, Manifest, files, merged, template

START: dict[str, Callable[[Path, Manifest], Started]] = {
    "jupyterhub": start_hub,
    "dask-gateway": start_gateway,
}
"""Chart → what starts its service with values."""
COPIES = {"settings.yaml"}
"""Files with all values as they are: what nobody reads is there, too."""
ALL_VALUES = {"LimitedKubeBackend": "facility"}
"""Section and trait of the configuration that have the same copy."""


def effects(chart: str, folder: Path, values: Manifest) -> str:
    """Return all that is rendered, and what the started service has.

    Secrets are decoded.  Checksums are left out: they change with values that nobody reads.
    """
    return f"{rendered(chart, values)}\n{started(chart, folder, values)}"


def rendered(chart: str, values: Manifest) -> str:
    """Return what the chart renders with these values, without copies of them."""
    texts = []
    for manifest in template(chart, merged(ALONE[chart], values)):
        text = json.dumps({**manifest, "data": ""}, indent=0)
        texts += [line for line in text.splitlines() if '"checksum/' not in line]
        texts += [text for name, text in files(manifest).items() if name not in COPIES]
    return "\n".join(texts)


def started(chart: str, folder: Path, values: Manifest) -> str:
    """Return the configuration that the started service has, and the objects of a user."""
    service = START[chart](folder, values)
    configuration = {
        section: {key: trait for key, trait in traits.items() if ALL_VALUES.get(section) != key}
        for section, traits in service.config.items()
    }
    text = json.dumps([configuration, service.objects, service.passwords], default=_name, indent=0)
    return text.replace(str(folder), "")


def _name(configured: object) -> str:
    """Return the name of a class or a function, and the name of the class of anything else."""
    return getattr(configured, "__qualname__", type(configured).__qualname__)
