"""The hub's configuration, made from the chart's values.

`settings.yaml` beside this file holds the values with their templates expanded;
the secrets are files, so that none stands in an environment or a ConfigMap.
"""

import os
import sys
from pathlib import Path

import yaml

c = get_config()  # noqa: F821  (given by traitlets)

HERE = Path("/etc/jupyterhub")
SECRETS = Path("/run/secrets/hub")
sys.path.insert(0, str(HERE))
from profiles import profiles_of  # noqa: E402  (a neighbour of this file)

settings = yaml.safe_load((HERE / "settings.yaml").read_text())
names, hub, singleuser, cull = (settings[k] for k in ("names", "hub", "singleuser", "cull"))


# Keys of the Secret that this file gives a meaning of its own.
READ_ABOVE = {
    "hub.config.ConfigurableHTTPProxy.auth_token",
    "hub.config.CryptKeeper.keys",
    "hub.config.JupyterHub.cookie_secret",
    "hub.config.SharedPasswordAuthenticator.admin_password",
    "hub.config.SharedPasswordAuthenticator.user_password",
}


def secret(key: str) -> str:
    """Return one entry of the hub's Secret, or stop naming what is missing."""
    path = SECRETS / key
    if not path.exists():
        raise SystemExit(f"the hub's Secret lacks the key {key!r}: add it to hub.existingSecret")
    return path.read_text().strip()


# --- the hub and its proxy
c.JupyterHub.hub_bind_url = "http://0.0.0.0:8081"
c.JupyterHub.hub_connect_url = f"http://{names['hub']}:8081"
c.JupyterHub.cookie_secret = bytes.fromhex(secret("hub.config.JupyterHub.cookie_secret"))
c.CryptKeeper.keys = [bytes.fromhex(secret("hub.config.CryptKeeper.keys"))]
c.JupyterHub.proxy_class = "jupyterhub.proxy.ConfigurableHTTPProxy"
c.ConfigurableHTTPProxy.should_start = False
c.ConfigurableHTTPProxy.api_url = f"http://{names['proxyApi']}:8001"
c.ConfigurableHTTPProxy.auth_token = secret("hub.config.ConfigurableHTTPProxy.auth_token")
# Users' servers outlive the hub: a restart finds them again.
c.JupyterHub.cleanup_servers = False
c.JupyterHub.cleanup_proxy = False
# The same round gives a proxy that was restarted its routes back, which it does not
# keep: until then nobody reaches a server.
c.JupyterHub.last_activity_interval = 15
# A server found dead at the hub's start may just be slow: check it for longer.
c.JupyterHub.init_spawners_timeout = 10
c.JupyterHub.concurrent_spawn_limit = hub["concurrentSpawnLimit"]
c.JupyterHub.active_server_limit = hub["activeServerLimit"]
c.JupyterHub.allow_named_servers = hub["allowNamedServers"]
c.JupyterHub.tornado_settings = {"slow_spawn_timeout": 0}
database = hub["db"]
c.JupyterHub.db_url = (
    database["url"]
    if database["type"] == "other"
    else "sqlite:////srv/jupyterhub/jupyterhub.sqlite"
)

# --- users' servers
c.JupyterHub.spawner_class = "kubespawner.KubeSpawner"
c.KubeSpawner.namespace = os.environ["POD_NAMESPACE"]
c.KubeSpawner.image = settings["userImage"]
c.KubeSpawner.image_pull_secrets = [entry["name"] for entry in settings["imagePullSecrets"]]
c.KubeSpawner.cmd = singleuser["cmd"]
c.KubeSpawner.default_url = singleuser["defaultUrl"]
c.KubeSpawner.start_timeout = singleuser["startTimeout"]
c.KubeSpawner.http_timeout = 60
c.KubeSpawner.k8s_api_request_timeout = 10
c.KubeSpawner.uid = singleuser["uid"]
c.KubeSpawner.gid = singleuser["uid"]
c.KubeSpawner.fs_gid = singleuser["fsGid"]
c.KubeSpawner.pod_security_context = settings["podSecurityContext"] | {
    "runAsUser": singleuser["uid"],
    "runAsGroup": singleuser["uid"],
    "fsGroup": singleuser["fsGid"],
}
c.KubeSpawner.container_security_context = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
c.KubeSpawner.automount_service_account_token = False
c.KubeSpawner.enable_user_namespaces = False
c.KubeSpawner.mem_guarantee = singleuser["memory"]["guarantee"]
c.KubeSpawner.mem_limit = singleuser["memory"]["limit"]
c.KubeSpawner.cpu_guarantee = singleuser["cpu"]["guarantee"]
c.KubeSpawner.cpu_limit = singleuser["cpu"]["limit"]
c.KubeSpawner.node_selector = singleuser["nodeSelector"]
c.KubeSpawner.tolerations = singleuser["extraTolerations"]
c.KubeSpawner.common_labels = settings["userLabels"]
c.KubeSpawner.extra_labels = settings["userLabels"] | singleuser["extraLabels"]
c.KubeSpawner.component_label = "singleuser-server"
c.KubeSpawner.profile_list = profiles_of(singleuser["profileList"])
c.KubeSpawner.extra_pod_config = {"enableServiceLinks": False}
home = singleuser["storage"]["homeMountPath"]
c.KubeSpawner.working_dir = home
c.KubeSpawner.environment = {"HOME": home, "USER": "jovyan", "SHELL": "/bin/bash"} | {
    name: str(value) for name, value in singleuser["extraEnv"].items()
}
volumes = [{"name": "tmp", "emptyDir": {}}]
mounts = [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108  (the pod's own)
if singleuser["storage"]["type"] == "dynamic":
    claim = "claim-{user_server}"
    c.KubeSpawner.pvc_name_template = claim
    c.KubeSpawner.storage_pvc_ensure = True
    c.KubeSpawner.storage_capacity = singleuser["storage"]["capacity"]
    if singleuser["storage"]["storageClass"]:
        c.KubeSpawner.storage_class = singleuser["storage"]["storageClass"]
    c.KubeSpawner.storage_access_modes = ["ReadWriteOnce"]
    volumes.append({"name": "home", "persistentVolumeClaim": {"claimName": "{pvc_name}"}})
else:
    volumes.append({"name": "home", "emptyDir": {}})
mounts.append({"name": "home", "mountPath": home})
c.KubeSpawner.volumes = volumes
c.KubeSpawner.volume_mounts = mounts

# --- users of the facility
if hub["facilityUsers"]["enabled"]:
    from facility_user import FacilitySpawner, FacilityUsers

    c.JupyterHub.spawner_class = FacilitySpawner
    users = FacilityUsers(os.environ["POD_NAMESPACE"], hub["facilityUsers"]["timeout"])
    c.Authenticator.post_auth_hook = users.greet
    c.KubeSpawner.pre_spawn_hook = users

# --- services, each with a token of its own
services = {name: told for name, told in hub["services"].items() if told is not None}
for name, service in services.items():
    token = secret(f"hub.services.{name}.apiToken")
    c.JupyterHub.services.append({"name": name, "api_token": token, **service})
access = {name: f"access:services!service={name}" for name in services}
# A server's token is sent to the services that it uses; it opens no page that a browser
# has to log in for.
used = [scope for name, scope in access.items() if not services[name].get("oauth_redirect_uri")]
c.JupyterHub.load_roles = [
    {"name": "user", "scopes": ["self", *access.values()]},
    {"name": "server", "scopes": ["users:activity!user", "access:servers!server", *used]},
]
if cull["enabled"]:
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
for name, role in hub["loadRoles"].items():
    c.JupyterHub.load_roles.append({"name": name, **role})

# --- the facility's own traitlets, and who may log in
configured = {kind: dict(traits or {}) for kind, traits in hub["config"].items()}
if configured.get("JupyterHub", {}).get("authenticator_class") == "dummy":
    # Any name, but not without the facility's password.
    configured["JupyterHub"]["authenticator_class"] = "shared-password"
    shared = configured.setdefault("SharedPasswordAuthenticator", {})
    for key in ("user_password", "admin_password"):
        shared.setdefault(key, secret(f"hub.config.SharedPasswordAuthenticator.{key}"))
    configured.setdefault("Authenticator", {}).setdefault("allow_all", True)
# Whatever else the Secret holds as hub.config.CLASS.TRAIT, an OIDC client's secret say.
for path in SECRETS.glob("hub.config.*"):
    kind, _, trait = path.name.removeprefix("hub.config.").partition(".")
    if path.name not in READ_ABOVE:
        configured.setdefault(kind, {}).setdefault(trait, path.read_text().strip())
for kind, traits in configured.items():
    for trait, value in traits.items():
        c[kind][trait] = value
for _, snippet in sorted(hub["extraConfig"].items()):
    exec(snippet)  # noqa: S102  (the operator's own code, as in z2jh)
