"""What Python in `hub.extraConfig` imports of zero-to-jupyterhub: its values, secrets and names.

`configure` of `coffea_shoppe_hub.configuration` says where they are.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PORTS = {"hub": "8081", "proxy-api": "8001", "proxy-public": "80"}
"""Of the Services; without service links, no environment variable has them."""
UNSET: Any = object()

_values: Mapping[str, Any] = {}
_names: Mapping[str, str] = {}
_secrets = Path("/run/secrets/hub")


def use(values: Mapping[str, Any], names: Mapping[str, str], secrets: Path) -> None:
    """Set what the functions below read: values, names of objects, the folder of the Secret."""
    global _values, _names, _secrets
    _values, _names, _secrets = values, names, secrets


def lookup(values: Any, key: str, default: Any = None) -> Any:
    """Return the value at a dotted key, or the default where a part of the key is missing."""
    for part in key.split("."):
        if not isinstance(values, Mapping) or part not in values:
            return default
        values = values[part]
    return values


def get_config(key: str, default: Any = None) -> Any:
    """Return a value of the chart by its dotted key, such as `custom.site`."""
    return lookup(_values, key, default)


def set_config_if_not_none(cparent: Any, name: str, key: str) -> None:
    """Set a trait of a section of the configuration to a value, unless that is null."""
    value = get_config(key)
    if value is not None:
        setattr(cparent, name, value)


def get_secret_value(key: str, default: Any = UNSET) -> Any:
    """Return an entry of the hub's Secret; raises KeyError without one, and without a default."""
    path = _secrets / key
    if path.exists():
        return path.read_text().strip()
    if default is UNSET:
        raise KeyError(f"the hub's Secret lacks the key {key!r}: add it to hub.existingSecret")
    return default


def get_name(name: str) -> str:
    """Return the name of an object, such as `hub` or `proxy-public`, in this release."""
    return _names[name]


def get_name_env(name: str, suffix: str = "") -> str:
    """Return what Kubernetes' variable of a Service has: with `_SERVICE_PORT` its port.

    Raises KeyError for a variable that neither the environment nor this release has.
    """
    variable = f"{get_name(name)}{suffix}".upper().replace("-", "_")
    known = {"_SERVICE_PORT": PORTS.get(name), "_SERVICE_HOST": get_name(name)}
    value = os.environ.get(variable) or known.get(suffix)
    if not value:
        raise KeyError(variable)
    return value
