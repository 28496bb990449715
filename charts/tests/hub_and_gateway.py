"""The configuration that the charts render, executed by the real JupyterHub and dask-gateway."""

from pathlib import Path
from typing import Any

import generate_secrets
import pytest
from coffea_shoppe_gateway.backend import LimitedKubeBackend
from coffea_shoppe_gateway.controller import ReportingKubeController
from coffea_shoppe_hub.spawner import ShoppeSpawner
from dask_gateway_server.app import DaskGateway
from jupyterhub.app import JupyterHub
from rendering import ALONE, Manifest, files, generated_secrets, merged, template
from traitlets.config import Config
from traitlets.config.loader import PyFileConfigLoader

SECRETS = {
    "hub.config.JupyterHub.cookie_secret": "ab" * 32,
    "hub.config.CryptKeeper.keys": "cd" * 32,
    "hub.config.ConfigurableHTTPProxy.auth_token": "for the proxy",
    "hub.config.SharedPasswordAuthenticator.user_password": "for all users",
    "hub.config.SharedPasswordAuthenticator.admin_password": "for administrators" * 2,
    "password": "for the gateway's users",
}


def write_configuration(folder: Path, chart: str, manifests: list[Manifest]) -> Path:
    """Lay a chart's files and Secrets out in a folder; return the configuration file."""
    for key, value in SECRETS.items():
        (folder / key).write_text(value)
    for keys in generated_secrets(manifests).values():
        for name, text in generate_secrets.entries(keys, {}).items():
            if name.startswith("hub.services."):
                (folder / name).write_text(text)
    for manifest in manifests:
        for name, text in files(manifest).items():
            if name == "settings.yaml" or name.endswith("_config.py"):
                for secret in ("hub", "dask-gateway"):
                    text = text.replace(f"/run/secrets/{secret}", str(folder))
                (folder / name).write_text(text)
    (file,) = folder.glob("*_config.py")
    return file


def hub_config(folder: Path, values: Manifest) -> Config:
    """Return the hub's configuration with these values of the chart, once JupyterHub took it."""
    folder.mkdir(exist_ok=True)
    manifests = template("jupyterhub", merged(ALONE["jupyterhub"], values))
    file = write_configuration(folder, "jupyterhub", manifests)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("POD_NAMESPACE", "facility")
        hub = JupyterHub()
        hub.load_config_file(str(file))
    # What the classes do not accept is an error here, as at the hub's start.
    JupyterHub(config=hub.config)
    assert issubclass(hub.spawner_class, ShoppeSpawner)
    config: Config = hub.config
    return config


def gateway_config(folder: Path, values: Manifest) -> Config:
    """Return the gateway's configuration with these values, once server and controller took it."""
    folder.mkdir(exist_ok=True)
    manifests = template("dask-gateway", merged(ALONE["dask-gateway"], values))
    file = write_configuration(folder, "dask-gateway", manifests)
    config: Config = PyFileConfigLoader(file.name, path=str(folder)).load_config()
    DaskGateway(config=config)
    ReportingKubeController(config=config)
    backend: Any = LimitedKubeBackend(config=config)
    backend.cluster_config_class(parent=backend)
    return config
