"""The configuration of dask-gateway's server and controller: the chart's values, and what
`gateway.extraConfig` adds to them."""

from pathlib import Path

import yaml
from coffea_shoppe_gateway.configuration import configure

c = get_config()  # noqa: F821  (given by traitlets)
# The values with their templates expanded; the secrets are files.
settings = yaml.safe_load(Path(__file__).with_name("settings.yaml").read_text())
configure(c, settings, secrets=Path("/run/secrets/dask-gateway"))
for _, snippet in sorted(settings["gateway"]["extraConfig"].items()):
    exec(snippet)  # noqa: S102  (the facility's own code, as in the upstream chart)
