"""The hub's configuration, from the chart's values and from its Secret."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import z2jh
from jupyterhub.utils import subdomain_hook_idna
from traitlets.config import Config

from coffea_shoppe_hub.composition import Facility
from coffea_shoppe_hub.facility_users import FacilityUsers
from coffea_shoppe_hub.servers import describe_servers
from coffea_shoppe_hub.spawner import FacilitySpawner, ShoppeSpawner

Settings = dict[str, Any]
"""`settings.yaml`: the chart's values, what follows from them, and names of objects."""

PREFIX = "hub.config."
"""Keys of the Secret with this prefix are traits: hub.config.CLASS.TRAIT."""
PASSWORDS = ("user_password", "admin_password")
READ_BY_NAME = {
    f"{PREFIX}ConfigurableHTTPProxy.auth_token",
    f"{PREFIX}CryptKeeper.keys",
    f"{PREFIX}JupyterHub.cookie_secret",
    *(f"{PREFIX}SharedPasswordAuthenticator.{password}" for password in PASSWORDS),
}
"""Keys of the Secret that have a meaning of their own here; the chart writes those of the values
into it."""
HUB_TRAITS = {
    "concurrent_spawn_limit": "concurrentSpawnLimit",
    "active_server_limit": "activeServerLimit",
    "allow_named_servers": "allowNamedServers",
    "named_server_limit_per_user": "namedServerLimitPerUser",
    "authenticate_prometheus": "authenticatePrometheus",
    "redirect_to_server": "redirectToServer",
    "shutdown_on_logout": "shutdownOnLogout",
    "template_paths": "templatePaths",
    "template_vars": "templateVars",
}
"""Trait of JupyterHub → key below `hub`."""
DATABASE_PASSWORDS = {"mysql": "MYSQL_PWD", "postgres": "PGPASSWORD"}
"""Type of database → variable from which its client reads the password."""
MONITORING = "monitoring"
"""Name of the service, and of the role, that may read the hub's metrics."""
ALLOWED = ("allow_all", "allow_existing_users", "allowed_users", "allowed_groups")
"""Traits of an authenticator that say whom it lets in."""


@dataclass(frozen=True)
class Secrets:
    """The hub's Secret, mounted as files: no secret is in an environment or a ConfigMap."""

    folder: Path

    def get(self, key: str) -> str:
        """Return one entry; "" where there is none."""
        path = self.folder / key
        return path.read_text().strip() if path.exists() else ""

    def __getitem__(self, key: str) -> str:
        """Return one entry, or exit with a message that names the missing key."""
        if not (self.folder / key).exists():
            raise SystemExit(
                f"the hub's Secret lacks the key {key!r}: add it to hub.existingSecret"
            )
        return self.get(key)

    def traits(self) -> Iterator[tuple[str, str, str]]:
        """Yield (class, trait, value) of all other keys hub.config.CLASS.TRAIT."""
        for path in sorted(self.folder.glob(f"{PREFIX}*")):
            if path.name not in READ_BY_NAME:
                kind, _, trait = path.name.removeprefix(PREFIX).partition(".")
                yield kind, trait, self[path.name]


def configure(c: Config, settings: Settings, *, secrets: Path, namespace: str) -> Facility:
    """Set all traits of the hub: the chart's, then those of `hub.config` on top.

    `secrets` is the folder of the hub's Secret, `namespace` that of the hub and its users'
    servers.  Returns what the facility needs, to be completed after `hub.extraConfig`.  Exits
    with the reason where the Secret lacks a key.
    """
    secret, values = Secrets(secrets), settings["values"]
    names = settings["names"]
    objects = {"hub": names["hub"], "proxy-api": names["proxyApi"]}
    objects |= {"proxy-public": names["proxyPublic"], "singleuser": settings["files"]}
    z2jh.use(values, objects, secrets)
    _hub_and_proxy(c, settings, secret)
    _database(c, z2jh.lookup(values, "hub.db", {}), secret)
    describe_servers(c, settings, namespace)
    c.JupyterHub.spawner_class = ShoppeSpawner
    users = None
    if settings["facilityUsers"]["enabled"]:
        users = FacilityUsers(namespace, settings["facilityUsers"]["timeout"])
        c.JupyterHub.spawner_class = FacilitySpawner
        c.FacilitySpawner.facility_users = users
        c.Authenticator.post_auth_hook = users.after_login
    _services(c, z2jh.lookup(values, "hub.services") or {}, secret)
    if z2jh.lookup(values, "hub.monitoring.enabled"):
        _monitoring(c, secret)
    if z2jh.lookup(values, "cull.enabled"):
        _culler(c, values["cull"])
    facility = Facility(
        users=users,
        services=tuple(c.JupyterHub.services),
        roles=tuple(c.JupyterHub.load_roles),
    )
    for name, role in (z2jh.lookup(values, "hub.loadRoles") or {}).items():
        c.JupyterHub.load_roles.append({"name": name, **(role or {})})
    for kind, traits in _traits(z2jh.lookup(values, "hub.config") or {}, secret).items():
        for trait, value in traits.items():
            c[kind][trait] = value
    return facility


def _hub_and_proxy(c: Config, settings: Settings, secret: Secrets) -> None:
    names, values = settings["names"], settings["values"]
    c.JupyterHub.subdomain_hook = _subdomain_hook(settings["servicesLabel"])
    c.JupyterHub.base_url = settings["baseUrl"]
    c.JupyterHub.hub_bind_url = "http://:8081"
    c.JupyterHub.hub_connect_url = f"http://{names['hub']}:8081"
    c.JupyterHub.cookie_secret = _key(secret[f"{PREFIX}JupyterHub.cookie_secret"])
    # Several keys, the first of which encrypts, are one text in the Secret.
    c.CryptKeeper.keys = [_key(key) for key in secret[f"{PREFIX}CryptKeeper.keys"].split(";")]
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
    c.JupyterHub.tornado_settings = {"slow_spawn_timeout": 0}
    for trait, key in HUB_TRAITS.items():
        z2jh.set_config_if_not_none(c.JupyterHub, trait, f"hub.{key}")
    z2jh.set_config_if_not_none(
        c.Spawner, "consecutive_failure_limit", "hub.consecutiveFailureLimit"
    )
    if z2jh.lookup(values, "debug.enabled"):
        c.JupyterHub.log_level = "DEBUG"
        c.Spawner.debug = True


def _key(text: str) -> bytes | str:
    """Return the bytes of a key in hexadecimal digits; JupyterHub reads other forms itself."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        return text


def _database(c: Config, database: Settings, secret: Secrets) -> None:
    kind = database.get("type") or "sqlite-pvc"
    c.JupyterHub.db_url = {
        "sqlite-pvc": "sqlite:////srv/jupyterhub/jupyterhub.sqlite",
        "sqlite-memory": "sqlite://",
    }.get(kind) or database["url"]
    password = secret.get("hub.db.password") or database.get("password")
    if password and kind in DATABASE_PASSWORDS:
        os.environ[DATABASE_PASSWORDS[kind]] = password


def _subdomain_hook(services_label: str) -> Callable[[str, str, str], str]:
    """Return what makes host names of users and services, where the hub has a subdomain_host.

    Each user has a host; all services share one, as they share a login.
    """

    def host(name: str, domain: str, kind: str) -> str:
        if kind == "service":
            return f"{services_label}.{domain}"
        return str(subdomain_hook_idna(name, domain, kind))

    return host


def _token_key(service: str) -> str:
    """Return the key of a service's token in the hub's Secret."""
    return f"hub.services.{service}.apiToken"


def _services(c: Config, services: Settings, secret: Secrets) -> None:
    """Register the services, each with a token of its own, and who may use them."""
    c.JupyterHub.services = []
    for name, fields in services.items():
        service = {"name": name, **fields}
        chosen = service.pop("apiToken", None) or service.get("api_token")
        # The token of an existing Secret comes before that of the values.
        key = _token_key(name)
        service["api_token"] = secret.get(key) or chosen or secret[key]
        c.JupyterHub.services.append(service)
    access = {name: f"access:services!service={name}" for name in services}
    # A server's token is sent to the services that it uses; it opens no page that a browser
    # has to log in for.
    used = [scope for name, scope in access.items() if not services[name].get("oauth_redirect_uri")]
    c.JupyterHub.load_roles = [
        {"name": "user", "scopes": ["self", *access.values()]},
        {"name": "server", "scopes": ["users:activity!user", "access:servers!server", *used]},
    ]


def _monitoring(c: Config, secret: Secrets) -> None:
    """Let a service read the hub's metrics, and nothing else.

    It has no page, so users need no access to it.  An administrator's own service of that name
    keeps its fields and its token, and gets the right in addition.
    """
    if MONITORING not in [service["name"] for service in c.JupyterHub.services]:
        token = secret[_token_key(MONITORING)]
        c.JupyterHub.services.append({"name": MONITORING, "api_token": token, "display": False})
    role = {"name": MONITORING, "scopes": ["read:metrics"], "services": [MONITORING]}
    c.JupyterHub.load_roles.append(role)


def _culler(c: Config, cull: Settings) -> None:
    """Run the service that stops idle servers, with the rights that it needs."""
    command = ["python3", "-m", "jupyterhub_idle_culler"]
    options = {"timeout": "timeout", "every": "cull-every", "concurrency": "concurrency"}
    options["maxAge"] = "max-age"
    command += [f"--{flag}={cull[key]}" for key, flag in options.items() if cull.get(key)]
    if cull.get("removeNamedServers"):
        command.append("--remove-named-servers")
    if cull.get("adminUsers") is False:
        command.append("--cull-admin-users=false")
    scopes = ["list:users", "read:users:activity", "read:servers", "delete:servers"]
    if cull.get("users"):
        command.append("--cull-users")
        scopes.append("admin:users")
    c.JupyterHub.services.append({"name": "idle-culler", "command": command})
    c.JupyterHub.load_roles.append(
        {"name": "idle-culler", "scopes": scopes, "services": ["idle-culler"]}
    )


def _traits(config: Settings, secret: Secrets) -> dict[str, dict[str, Any]]:
    """Return the facility's own traits by class: `hub.config`, and further keys of the Secret.

    An OIDC client's secret is such a key; `hub.config` comes before it.  Keys that are in the
    Secret by name are not here, nor are services and roles, which have values of their own.
    """
    configured: dict[str, dict[str, Any]] = {
        kind: {
            trait: value
            for trait, value in (traits or {}).items()
            if f"{PREFIX}{kind}.{trait}" not in READ_BY_NAME or trait in PASSWORDS
        }
        for kind, traits in config.items()
    }
    hub = configured.setdefault("JupyterHub", {})
    for removed in ("services", "proxy_auth_token", "base_url"):
        hub.pop(removed, None)
    for kind, trait, value in secret.traits():
        configured.setdefault(kind, {}).setdefault(trait, value)
    if hub.get("authenticator_class") == "dummy":
        _dummy(configured, secret)
    return configured


def _dummy(configured: dict[str, dict[str, Any]], secret: Secrets) -> None:
    """Let any name in, or those who are allowed, but not without a password."""
    named = [configured.get(kind, {}) for kind in ("Authenticator", "DummyAuthenticator")]
    if named[1].get("password"):
        configured["JupyterHub"]["authenticator_class"] = "dummy"
        return
    configured["JupyterHub"]["authenticator_class"] = "shared-password"
    shared = configured.setdefault("SharedPasswordAuthenticator", {})
    for password in PASSWORDS:
        if password not in shared:
            shared[password] = secret[f"{PREFIX}SharedPasswordAuthenticator.{password}"]
    # Traits of the class that was configured go to the one that takes its place.
    for trait, value in named[1].items():
        shared.setdefault(trait, value)
    if not any(traits.get(trait) for traits in (*named, shared) for trait in ALLOWED):
        configured.setdefault("Authenticator", {}).setdefault("allow_all", True)
