"""The hub's configuration: the chart's values, and what `hub.extraConfig` adds to them."""

import os
from pathlib import Path

import yaml
from coffea_shoppe_hub.configuration import configure
from coffea_shoppe_hub.limits import limit_servers

c = get_config()  # noqa: F821  (given by traitlets)
# The values; other secrets are files.
settings = yaml.safe_load(Path(__file__).with_name("settings.yaml").read_text())
facility = configure(
    c, settings, secrets=Path("/run/secrets/hub"), namespace=os.environ["POD_NAMESPACE"]
)
limit_servers()
# Files of hub.extraFiles at the path that z2jh has for them.
for _file in sorted(Path("/usr/local/etc/jupyterhub/jupyterhub_config.d").glob("*.py")):
    exec(compile(_file.read_text(), _file, "exec"))  # noqa: S102  (the facility's own code)
for _name, _snippet in sorted((settings["values"]["hub"].get("extraConfig") or {}).items()):
    exec(compile(_snippet or "", f"hub.extraConfig.{_name}", "exec"))  # noqa: S102  (the same)
facility.complete(c)
