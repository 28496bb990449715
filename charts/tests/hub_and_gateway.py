"""The configuration that the charts render, executed by the real JupyterHub and dask-gateway."""

import asyncio
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import generate_secrets
import pytest
from coffea_shoppe_gateway.controller import ReportingKubeController
from coffea_shoppe_hub.configuration import DATABASE_PASSWORDS
from coffea_shoppe_hub.spawner import ShoppeSpawner
from dask_gateway_server.app import DaskGateway
from dask_gateway_server.models import User
from jupyterhub import orm
from jupyterhub.app import JupyterHub
from kube_api import kube_api
from kubespawner.clients import load_config
from rendering import ALONE, Manifest, check, files, generated_secrets, merged, template
from sqlalchemy.engine import make_url
from traitlets.config import Config

LOG = logging.getLogger(__name__)
LOG.addFilter(lambda record: record.levelno >= logging.ERROR)
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
        present = {name: f"already-in-{name}" for name in keys}
        for name, text in generate_secrets.entries(keys, present).items():
            if name.startswith("hub.services.") or keys[name].get("value"):
                (folder / name).write_text(text)
    for manifest in manifests:
        for name, text in files(manifest).items():
            if name == "settings.yaml" or name.endswith("_config.py"):
                for secret in ("hub", "dask-gateway"):
                    text = text.replace(f"/run/secrets/{secret}", str(folder))
                (folder / name).write_text(text)
    (file,) = folder.glob("*_config.py")
    return file


def render(chart: str, folder: Path, values: Manifest) -> Path:
    """Render a chart with these values; return the configuration file in the folder."""
    folder.mkdir(exist_ok=True)
    return write_configuration(folder, chart, template(chart, merged(ALONE[chart], values)))


def hub_config(folder: Path, values: Manifest) -> Config:
    """Return the hub's configuration with these values of the chart, once JupyterHub took it."""
    file = render("jupyterhub", folder, values)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("POD_NAMESPACE", "facility")
        hub = JupyterHub()
        hub.load_config_file(str(file))
    # What the classes do not accept is an error here, as at the hub's start.
    JupyterHub(config=hub.config)
    assert issubclass(hub.spawner_class, ShoppeSpawner)
    config: Config = hub.config
    return config


@dataclass(frozen=True)
class Started:
    """A hub, or a gateway with its controller, that would serve now."""

    config: Config
    objects: list[Manifest]
    """Of users: a server's pod and claim, or the pods of a scheduler and of a worker."""
    passwords: dict[str, str] = field(default_factory=dict)
    """Environment variables from which a hub's database client reads its password."""


class HubInMemory(JupyterHub):
    """A hub whose database, at any address, is in memory."""

    db_url: Any

    def init_db(self) -> None:
        """Read the address as SQLAlchemy does, and create tables."""
        make_url(self.db_url)
        self.db_url = "sqlite:///:memory:"
        super().init_db()


def start_hub(folder: Path, values: Manifest) -> Started:
    """Start a hub with these values of the chart, up to where it would serve.

    A user's server has the first profile.  Kubernetes would accept its objects.
    """
    file = render("jupyterhub", folder, values)

    async def start() -> Started:
        # Formats of JupyterHub's and dask-gateway's loggers exclude each other.
        hub = HubInMemory(config_file=str(file), log=LOG)
        await hub.initialize([])
        person = orm.User(name="ann")
        hub.db.add(person)
        hub.db.commit()
        spawner = hub.users[person].spawners[""]
        await spawner.load_user_options()
        written = [await spawner.get_pod_manifest()]
        if spawner.storage_pvc_ensure:
            written.append(spawner.get_pvc_manifest())
        objects = [spawner.api.api_client.sanitize_for_serialization(entry) for entry in written]
        hub.db.close()
        # The hub cancels what it left running; here that are KubeSpawner's shared clients.
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        passwords = {name: os.environ[name] for name in DATABASE_PASSWORDS.values()}
        return Started(hub.config, objects, passwords)

    async def with_api() -> Started:
        load_config.cache_clear()
        async with kube_api(folder, environment):
            return await start()

    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("POD_NAMESPACE", "facility")
        for name in DATABASE_PASSWORDS.values():
            environment.setenv(name, "")
        started = asyncio.run(with_api())
    check(started.objects)
    return started


def gateway_config(folder: Path, values: Manifest) -> Config:
    """Return the gateway's configuration with these values, once server and controller took it."""
    file = render("dask-gateway", folder, values)
    app = DaskGateway(config_file=str(file), log=LOG)
    app.initialize([])
    config: Config = app.config
    ReportingKubeController(config=config)
    app.backend.cluster_config_class(parent=app.backend)
    return config


def start_gateway(folder: Path, values: Manifest) -> Started:
    """Start server and controller with these values, up to where they would serve.

    Kubernetes would accept the pods of a user's cluster.
    """
    file = render("dask-gateway", folder, values)
    server = DaskGateway(config_file=str(file), log=LOG)
    server.initialize([])
    # There is no API of which users' resources could be read.
    server.backend.facility_users = ""
    controller = ReportingKubeController(config_file=str(file), log=LOG)
    controller.initialize([])

    async def cluster() -> Any:
        user = User("ann")
        requested, config = await server.backend.process_cluster_options(user, {})
        return server.backend.make_cluster_object(user.name, requested, config)

    spec = asyncio.run(cluster())["spec"]
    config = server.backend.cluster_config_class(**spec["config"])
    pods = [
        controller.make_pod(config.namespace, "c0ffee", config, is_worker=is_worker)
        for is_worker in (False, True)
    ]
    check(pods)
    return Started(server.config, pods)
