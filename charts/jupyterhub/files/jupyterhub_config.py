"""The hub's configuration: the chart's values, and what `hub.extraConfig` adds to them."""

import os
from pathlib import Path

import yaml
from coffea_shoppe_hub.configuration import configure
from coffea_shoppe_hub.limits import limit_servers

c = get_config()  # noqa: F821  (given by traitlets)
# The values with their templates expanded; the secrets are files.
settings = yaml.safe_load(Path(__file__).with_name("settings.yaml").read_text())
configure(c, settings, secrets=Path("/run/secrets/hub"), namespace=os.environ["POD_NAMESPACE"])
limit_servers()
for _, snippet in sorted(settings["hub"]["extraConfig"].items()):
    exec(snippet)  # noqa: S102  (the facility's own code, as in z2jh)
