"""The configuration of dask-gateway's server and controller: the chart's values, and what
`gateway.extraConfig` adds to them."""

from pathlib import Path
from typing import Any

import yaml
from coffea_shoppe_gateway.clusters import lookup
from coffea_shoppe_gateway.configuration import complete, configure

c = get_config()  # noqa: F821  (given by traitlets)
# The values; other secrets are files.
settings = yaml.safe_load(Path(__file__).with_name("settings.yaml").read_text())


def get_property(key: str, default: Any = None) -> Any:
    """Return a value of the chart by its dotted key, as in the upstream chart."""
    return lookup(settings["values"], key, default)


configure(c, settings, secrets=Path("/run/secrets/dask-gateway"))
_own = settings["values"]["gateway"].get("extraConfig") or {}
for _name, _snippet in sorted(_own.items() if isinstance(_own, dict) else [("", _own)]):
    exec(compile(_snippet or "", f"gateway.extraConfig.{_name}", "exec"))  # noqa: S102  (the facility's own code, as in the upstream chart)
complete(c)
