"""The hub's configuration, from the chart's values and from its Secret."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jupyterhub.utils import subdomain_hook_idna
from traitlets.config import Config

from coffea_shoppe_hub.facility_users import FacilityUsers
from coffea_shoppe_hub.profiles import profiles_of
from coffea_shoppe_hub.spawner import FacilitySpawner

Settings = dict[str, Any]
"""The values of the chart with their templates expanded: `settings.yaml`."""

PREFIX = "hub.config."
"""Keys of the Secret with this prefix are traits: hub.config.CLASS.TRAIT."""
PASSWORDS = ("user_password", "admin_password")
READ_BY_NAME = {
    f"{PREFIX}ConfigurableHTTPProxy.auth_token",
    f"{PREFIX}CryptKeeper.keys",
    f"{PREFIX}JupyterHub.cookie_secret",
    *(f"{PREFIX}SharedPasswordAuthenticator.{password}" for password in PASSWORDS),
}
"""Keys of the Secret that have a meaning of their own here."""


@dataclass(frozen=True)
class Secrets:
    """The hub's Secret, mounted as files: no secret is in an environment or a ConfigMap."""

    folder: Path

    def __getitem__(self, key: str) -> str:
        """Return one entry, or exit with a message that names the missing key."""
        path = self.folder / key
        if not path.exists():
            raise SystemExit(
                f"the hub's Secret lacks the key {key!r}: add it to hub.existingSecret"
            )
        return path.read_text().strip()

    def traits(self) -> Iterator[tuple[str, str, str]]:
        """Yield (class, trait, value) of all other keys hub.config.CLASS.TRAIT."""
        for path in sorted(self.folder.glob(f"{PREFIX}*")):
            if path.name not in READ_BY_NAME:
                kind, _, trait = path.name.removeprefix(PREFIX).partition(".")
                yield kind, trait, self[path.name]


def configure(c: Config, settings: Settings, *, secrets: Path, namespace: str) -> None:
    """Set all traits of the hub: the chart's, then those of `hub.config` on top.

    `secrets` is the folder of the hub's Secret, `namespace` that of the hub and its users'
    servers.  Exits with the reason where the Secret lacks a key.
    """
    secret = Secrets(secrets)
    _hub_and_proxy(c, settings, secret)
    _servers(c, settings, namespace)
    _storage(c, settings["singleuser"]["storage"])
    if settings["hub"]["facilityUsers"]["enabled"]:
        users = FacilityUsers(namespace, settings["hub"]["facilityUsers"]["timeout"])
        c.JupyterHub.spawner_class = FacilitySpawner
        c.FacilitySpawner.facility_users = users
        c.Authenticator.post_auth_hook = users.after_login
    _services(c, settings["hub"], secret)
    if settings["cull"]["enabled"]:
        _culler(c, settings["cull"])
    for name, role in settings["hub"]["loadRoles"].items():
        c.JupyterHub.load_roles.append({"name": name, **role})
    for kind, traits in _traits(settings["hub"]["config"], secret).items():
        for trait, value in traits.items():
            c[kind][trait] = value


def _hub_and_proxy(c: Config, settings: Settings, secret: Secrets) -> None:
    names, hub = settings["names"], settings["hub"]
    c.JupyterHub.subdomain_hook = _subdomain_hook(settings["servicesLabel"])
    c.JupyterHub.hub_bind_url = "http://0.0.0.0:8081"
    c.JupyterHub.hub_connect_url = f"http://{names['hub']}:8081"
    c.JupyterHub.cookie_secret = bytes.fromhex(secret[f"{PREFIX}JupyterHub.cookie_secret"])
    c.CryptKeeper.keys = [bytes.fromhex(secret[f"{PREFIX}CryptKeeper.keys"])]
    c.JupyterHub.proxy_class = "jupyterhub.proxy.ConfigurableHTTPProxy"
    c.ConfigurableHTTPProxy.should_start = False
    c.ConfigurableHTTPProxy.api_url = f"http://{names['proxyApi']}:8001"
    c.ConfigurableHTTPProxy.auth_token = secret[f"{PREFIX}ConfigurableHTTPProxy.auth_token"]
    # Users' servers outlive the hub: a restart finds them again.
    c.JupyterHub.cleanup_servers = False
    c.JupyterHub.cleanup_proxy = False
    # The same round gives a restarted proxy, which keeps no routes, its routes back: until
    # then nobody reaches a server.
    c.JupyterHub.last_activity_interval = 15
    # A server that does not respond at the hub's start may just be slow: check it for longer.
    c.JupyterHub.init_spawners_timeout = 10
    c.JupyterHub.concurrent_spawn_limit = hub["concurrentSpawnLimit"]
    c.JupyterHub.active_server_limit = hub["activeServerLimit"]
    c.JupyterHub.allow_named_servers = hub["allowNamedServers"]
    c.JupyterHub.tornado_settings = {"slow_spawn_timeout": 0}
    c.JupyterHub.db_url = (
        hub["db"]["url"]
        if hub["db"]["type"] == "other"
        else "sqlite:////srv/jupyterhub/jupyterhub.sqlite"
    )


def _subdomain_hook(services_label: str) -> Callable[[str, str, str], str]:
    """Return what makes host names of users and services, where the hub has a subdomain_host.

    Each user has a host; all services share one, as they share a login.
    """

    def host(name: str, domain: str, kind: str) -> str:
        if kind == "service":
            return f"{services_label}.{domain}"
        return str(subdomain_hook_idna(name, domain, kind))

    return host


def _servers(c: Config, settings: Settings, namespace: str) -> None:
    """Describe the pods of users' servers."""
    singleuser, spawner = settings["singleuser"], c.KubeSpawner
    c.JupyterHub.spawner_class = "kubespawner.KubeSpawner"
    spawner.namespace = namespace
    spawner.image = settings["userImage"]
    spawner.image_pull_secrets = [entry["name"] for entry in settings["imagePullSecrets"]]
    spawner.cmd = singleuser["cmd"]
    spawner.default_url = singleuser["defaultUrl"]
    spawner.start_timeout = singleuser["startTimeout"]
    spawner.http_timeout = 60
    spawner.k8s_api_request_timeout = 10
    spawner.uid = singleuser["uid"]
    spawner.gid = singleuser["uid"]
    spawner.fs_gid = singleuser["fsGid"]
    spawner.pod_security_context = settings["podSecurityContext"] | {
        "runAsUser": singleuser["uid"],
        "runAsGroup": singleuser["uid"],
        "fsGroup": singleuser["fsGid"],
    }
    spawner.container_security_context = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    spawner.automount_service_account_token = False
    spawner.enable_user_namespaces = False
    spawner.mem_guarantee = singleuser["memory"]["guarantee"]
    spawner.mem_limit = singleuser["memory"]["limit"]
    spawner.cpu_guarantee = singleuser["cpu"]["guarantee"]
    spawner.cpu_limit = singleuser["cpu"]["limit"]
    spawner.node_selector = singleuser["nodeSelector"]
    spawner.tolerations = singleuser["extraTolerations"]
    spawner.common_labels = settings["userLabels"]
    spawner.extra_labels = settings["userLabels"] | singleuser["extraLabels"]
    spawner.component_label = "singleuser-server"
    spawner.profile_list = profiles_of(singleuser["profileList"])
    spawner.extra_pod_config = {"enableServiceLinks": False}
    home = singleuser["storage"]["homeMountPath"]
    spawner.working_dir = home
    spawner.environment = {"HOME": home, "USER": "jovyan", "SHELL": "/bin/bash"} | {
        name: str(value) for name, value in singleuser["extraEnv"].items()
    }


def _storage(c: Config, storage: Settings) -> None:
    """Mount a home, which is kept where the storage is dynamic, and a /tmp."""
    home: dict[str, Any] = {"emptyDir": {}}
    if storage["type"] == "dynamic":
        c.KubeSpawner.pvc_name_template = "claim-{user_server}"
        c.KubeSpawner.storage_pvc_ensure = True
        c.KubeSpawner.storage_capacity = storage["capacity"]
        if storage["storageClass"]:
            c.KubeSpawner.storage_class = storage["storageClass"]
        c.KubeSpawner.storage_access_modes = ["ReadWriteOnce"]
        home = {"persistentVolumeClaim": {"claimName": "{pvc_name}"}}
    c.KubeSpawner.volumes = [{"name": "tmp", "emptyDir": {}}, {"name": "home", **home}]
    c.KubeSpawner.volume_mounts = [
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108  (the pod's own)
        {"name": "home", "mountPath": storage["homeMountPath"]},
    ]


def _services(c: Config, hub: Settings, secret: Secrets) -> None:
    """Register the services, each with a token of its own, and who may use them."""
    services = {name: service for name, service in hub["services"].items() if service is not None}
    for name, service in services.items():
        token = secret[f"hub.services.{name}.apiToken"]
        c.JupyterHub.services.append({"name": name, "api_token": token, **service})
    access = {name: f"access:services!service={name}" for name in services}
    # A server's token is sent to the services that it uses; it opens no page that a browser
    # has to log in for.
    used = [scope for name, scope in access.items() if not services[name].get("oauth_redirect_uri")]
    c.JupyterHub.load_roles = [
        {"name": "user", "scopes": ["self", *access.values()]},
        {"name": "server", "scopes": ["users:activity!user", "access:servers!server", *used]},
    ]


def _culler(c: Config, cull: Settings) -> None:
    """Run the service that stops idle servers, with the rights that it needs."""
    command = [
        *["python3", "-m", "jupyterhub_idle_culler", f"--timeout={cull['timeout']}"],
        *[f"--cull-every={cull['every']}", f"--max-age={cull['maxAge']}"],
    ]
    if cull["removeNamedServers"]:
        command.append("--remove-named-servers")
    scopes = ["list:users", "read:users:activity", "read:servers", "delete:servers"]
    if cull["users"]:
        command.append("--cull-users")
        scopes.append("admin:users")
    c.JupyterHub.services.append({"name": "idle-culler", "command": command})
    c.JupyterHub.load_roles.append(
        {"name": "idle-culler", "scopes": scopes, "services": ["idle-culler"]}
    )


def _traits(config: Settings, secret: Secrets) -> dict[str, dict[str, Any]]:
    """Return the facility's own traits by class: `hub.config`, and further keys of the Secret.

    An OIDC client's secret is such a key; `hub.config` comes before it.
    """
    configured: dict[str, dict[str, Any]] = {
        kind: dict(traits or {}) for kind, traits in config.items()
    }
    if configured.get("JupyterHub", {}).get("authenticator_class") == "dummy":
        # Any name, but not without the facility's password.
        configured["JupyterHub"]["authenticator_class"] = "shared-password"
        shared = configured.setdefault("SharedPasswordAuthenticator", {})
        for password in PASSWORDS:
            if password not in shared:
                shared[password] = secret[f"{PREFIX}SharedPasswordAuthenticator.{password}"]
        configured.setdefault("Authenticator", {}).setdefault("allow_all", True)
    for kind, trait, value in secret.traits():
        configured.setdefault(kind, {}).setdefault(trait, value)
    return configured
