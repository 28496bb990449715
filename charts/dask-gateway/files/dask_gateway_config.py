"""The configuration of dask-gateway's server and controller, made from the values."""

import re
import sys
from pathlib import Path

import yaml
from coffea_shoppe_contract import identity
from dask_gateway_server.options import Float, Options, String

HERE = Path(__file__).parent if "__file__" in globals() else Path("/etc/dask-gateway")
SECRETS = Path("/run/secrets/dask-gateway")
sys.path.insert(0, str(HERE))
from limits import GIB, Limits  # noqa: E402  (a neighbour of this file)

c = get_config()  # noqa: F821  (given by traitlets)
settings = yaml.safe_load((HERE / "settings.yaml").read_text())
gateway, controller, backend = (
    settings["gateway"],
    settings["controller"],
    settings["gateway"]["backend"],
)

# --- the API server
c.DaskGateway.log_level = gateway["loglevel"]
c.DaskGateway.address = ":8000"
c.DaskGateway.backend_class = "shoppe_backend.LimitedKubeBackend"
if gateway["auth"]["type"] == "simple":
    c.DaskGateway.authenticator_class = "dask_gateway_server.auth.SimpleAuthenticator"
    if (SECRETS / "password").exists():
        c.SimpleAuthenticator.password = (SECRETS / "password").read_text().strip()
else:
    c.DaskGateway.authenticator_class = "dask_gateway_server.auth.JupyterHubAuthenticator"
    hub = gateway["auth"]["jupyterhub"]
    c.JupyterHubAuthenticator.jupyterhub_api_url = hub["apiUrl"]
    c.JupyterHubAuthenticator.jupyterhub_service_name = hub["serviceName"]
    token = SECRETS / "api-token"
    # The controller reads this file too, and holds no token.
    if token.exists():
        c.JupyterHubAuthenticator.jupyterhub_api_token = token.read_text().strip()
c.Authenticator.cache_max_age = gateway["auth"]["cacheMaxAge"]
limits = gateway["limits"]
c.LimitedKubeBackend.facility_users = settings["facilityUsers"]
c.LimitedKubeBackend.limits = Limits(limits["clusters"], limits["cores"], limits["memoryGiB"] * GIB)

# --- both
for part in (c.KubeBackend, c.KubeController):
    part.gateway_instance = settings["instance"]
    part.common_labels = settings["labels"]

# --- the controller
c.KubeController.log_level = controller["loglevel"]
c.KubeController.address = ":8000"
c.KubeController.api_url = settings["apiUrl"]
c.KubeController.completed_cluster_max_age = controller["completedClusterMaxAge"]
c.KubeController.completed_cluster_cleanup_period = controller["completedClusterCleanupPeriod"]
c.KubeController.k8s_api_rate_limit = controller["k8sApiRateLimit"]
c.KubeController.k8s_api_rate_limit_burst = controller["k8sApiRateLimitBurst"]
c.KubeController.proxy_prefix = gateway["prefix"]
c.KubeController.proxy_web_entrypoint = "web"
c.KubeController.proxy_tcp_entrypoint = "web"
# They stand in Traefik's file of routes.
c.KubeController.proxy_web_middlewares = [
    {"name": f"{name}@file"}
    for name in ("authorize-dashboard", "drop-authorization", "strip-cluster-prefix")
]

# --- the pods of a cluster: what the restricted Pod Security level asks for
scheduler, worker = backend["scheduler"], backend["worker"]
home = "/tmp"  # noqa: S108  (the pod's own)
container = {
    "securityContext": settings["containerSecurityContext"],
    "workingDir": home,
    "volumeMounts": [{"name": "tmp", "mountPath": home}],
}
pod = {
    "securityContext": settings["podSecurityContext"],
    "volumes": [{"name": "tmp", "emptyDir": {}}],
    "enableServiceLinks": False,
}


def merged(ours: dict, extra: dict) -> dict:
    """Return both, lists joined; the facility's own values win over ours."""
    both = {**ours, **extra}
    for key in set(ours) & set(extra):
        if isinstance(ours[key], list):
            both[key] = ours[key] + extra[key]
        elif isinstance(ours[key], dict):
            both[key] = merged(ours[key], extra[key])
    return both


config = c.KubeClusterConfig
config.namespace = settings["namespace"]
config.image = settings["image"]
config.image_pull_policy = backend["image"]["pullPolicy"]
config.image_pull_secrets = settings["imagePullSecrets"]
# The commands dask-scheduler and dask-worker are gone from distributed.
config.scheduler_cmd = ["dask", "scheduler"]
config.worker_cmd = ["dask", "worker"]
config.environment = {"HOME": home, "USER": "jovyan"} | backend["environment"]
config.scheduler_cores = scheduler["cores"]["request"]
config.scheduler_cores_limit = scheduler["cores"]["limit"]
config.scheduler_memory = scheduler["memory"]["request"]
config.scheduler_memory_limit = scheduler["memory"]["limit"]
config.worker_cores = worker["cores"]["request"]
config.worker_cores_limit = worker["cores"]["limit"]
config.worker_memory = worker["memory"]["request"]
config.worker_memory_limit = worker["memory"]["limit"]
config.worker_threads = worker["threads"]
config.scheduler_extra_pod_config = pod
config.scheduler_extra_container_config = container
config.worker_extra_pod_config = merged(pod, worker["extraPodConfig"])
config.worker_extra_container_config = merged(container, worker["extraContainerConfig"])
config.idle_timeout = gateway["clusterIdleTimeout"]

# --- what a user may choose
options = gateway["options"]
patterns = [re.compile(text) for text in options["imagePatterns"]]


def user_pods(user: str) -> dict:
    """Return the configuration that gives a cluster's pods their user's tokens."""
    # Optional: a user who came without the hub has none.
    volume, mount = identity.mounted(identity.secret_name(user), optional=True)
    label = {identity.USER_LABEL: identity.resource_name(user)}
    found = {}
    for kind in ("scheduler", "worker"):
        pod_config, container_config = f"{kind}_extra_pod_config", f"{kind}_extra_container_config"
        found[pod_config] = merged(config[pod_config], {"volumes": [volume]})
        found[container_config] = merged(config[container_config], {"volumeMounts": [mount]})
        found[f"{kind}_extra_pod_labels"] = label
    return found


def choose(choice, user) -> dict:
    """Turn a user's choice into cluster configuration, refusing what is not offered."""
    image = choice.image or settings["image"]
    if image != settings["image"] and not any(p.fullmatch(image) for p in patterns):
        raise ValueError(f"the image {image!r} is not offered here; leave it empty for the default")
    chosen = {"image": image}
    if backend["userSecrets"]:
        chosen |= user_pods(user.name)
    if choice.worker_cores:
        request = min(worker["cores"]["request"], choice.worker_cores)
        chosen |= {"worker_cores": request, "worker_cores_limit": choice.worker_cores}
        chosen["worker_threads"] = max(1, int(choice.worker_cores))
    if choice.worker_memory:
        size = int(choice.worker_memory * GIB)
        chosen |= {"worker_memory": size, "worker_memory_limit": size}
    return chosen


c.Backend.cluster_options = Options(
    Float("worker_cores", default=0, min=0, max=options["maxWorkerCores"], label="Cores a worker"),
    Float(
        "worker_memory",
        default=0,
        min=0,
        max=options["maxWorkerMemoryGiB"],
        label="Memory a worker (GiB)",
    ),
    String("image", default="", label="Image"),
    handler=choose,
)
for _, snippet in sorted(gateway["extraConfig"].items()):
    exec(snippet)  # noqa: S102  (the operator's own code, as in the upstream chart)
