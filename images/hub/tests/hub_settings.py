"""The hub's settings and Secret, as the chart renders them from its defaults."""

from pathlib import Path
from typing import Any

import yaml
from coffea_shoppe_hub.composition import Facility
from coffea_shoppe_hub.configuration import configure
from shoppe_ci.paths import CHARTS
from traitlets.config import Config

Values = dict[str, Any]
KEYS = {
    "hub.config.JupyterHub.cookie_secret": "ab" * 32,
    "hub.config.CryptKeeper.keys": "cd" * 32,
    "hub.config.ConfigurableHTTPProxy.auth_token": "for the proxy",
    "hub.config.SharedPasswordAuthenticator.user_password": "for all users",
    "hub.config.SharedPasswordAuthenticator.admin_password": "for administrators" * 2,
}


def settings_of_defaults() -> Values:
    """Return the chart's values, with what its template adds."""
    values: Values = yaml.safe_load((CHARTS / "jupyterhub" / "values.yaml").read_text())
    return {
        "names": {"hub": "hub", "proxyApi": "proxy-api", "proxyPublic": "proxy-public"},
        "files": "singleuser",
        "baseUrl": "/",
        "servicesLabel": "all--services",
        "userLabels": {"app.kubernetes.io/part-of": "coffea-shoppe"},
        "userImage": "notebook:1",
        "imagePullSecrets": [{"name": "registry"}],
        "podSecurityContext": {"runAsNonRoot": True, "runAsUser": 1000},
        "containerSecurityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "priorityClass": "",
        "schedulerName": "",
        "storageClass": "",
        "environment": {},
        "facilityUsers": {"enabled": False, "timeout": 90},
        "values": values,
    }


def write_secrets(folder: Path) -> Path:
    """Write the hub's Secret into a folder, and return it."""
    for key, value in KEYS.items():
        (folder / key).write_text(f"{value}\n")
    return folder


def configured_with(settings: Values, secrets: Path) -> tuple[Config, Facility]:
    """Return the configuration before the facility's own Python, and what completes it."""
    config = Config()
    return config, configure(config, settings, secrets=secrets, namespace="facility")


def configured(settings: Values, secrets: Path) -> Config:
    """Return the configuration of a hub without Python of its own."""
    config, facility = configured_with(settings, secrets)
    facility.complete(config)
    return config
