"""The pods of a Dask cluster, and what a user may choose of them."""

import re
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from coffea_shoppe_contract.names import resource_name, secret_name
from coffea_shoppe_contract.resources import USER_LABEL, identity_volume
from dask_gateway_server.backends.kubernetes.utils import merge_json_objects
from dask_gateway_server.models import User
from dask_gateway_server.options import Float, Options, String
from traitlets.config import Config

from coffea_shoppe_gateway.limits import GIB

Settings = dict[str, Any]
"""`settings.yaml`: the chart's values, and what follows from them."""
Fields = dict[str, Any]
"""Fields of a pod or of a container, as Kubernetes names them."""
HOME = "/tmp"  # noqa: S108  (the pod's own)
KINDS = ("scheduler", "worker")
SERVER_IMAGES: ContextVar[frozenset[str]] = ContextVar("SERVER_IMAGES", default=frozenset())
"""The images of the servers of the user whose cluster is described."""

POD_TRAITS = {
    "scheduler_cores": "scheduler.cores.request",
    "scheduler_cores_limit": "scheduler.cores.limit",
    "scheduler_memory": "scheduler.memory.request",
    "scheduler_memory_limit": "scheduler.memory.limit",
    "worker_cores": "worker.cores.request",
    "worker_cores_limit": "worker.cores.limit",
    "worker_memory": "worker.memory.request",
    "worker_memory_limit": "worker.memory.limit",
    "worker_threads": "worker.threads",
    "image_pull_policy": "image.pullPolicy",
}
"""Trait of `KubeClusterConfig` → key below `gateway.backend`; null sets nothing."""


def lookup(values: Any, key: str, default: Any = None) -> Any:
    """Return the value at a dotted key, or the default where a part of the key is missing."""
    for part in key.split("."):
        if not isinstance(values, Mapping) or part not in values:
            return default
        values = values[part]
    return values


def own_pod(settings: Settings) -> Fields:
    """Return the fields of each pod of a cluster, as the restricted Pod Security level asks."""
    return {
        "securityContext": settings["podSecurityContext"],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
        "enableServiceLinks": False,
    }


def own_container(settings: Settings) -> Fields:
    """Return the same of each container."""
    return {
        "securityContext": settings["containerSecurityContext"],
        "workingDir": HOME,
        "volumeMounts": [{"name": "tmp", "mountPath": HOME}],
    }


def own_environment(settings: Settings) -> dict[str, str]:
    """Return the environment variables of each pod."""
    return {"HOME": HOME, "USER": "jovyan", **settings["environment"]}


def describe_pods(config: Config, settings: Settings) -> None:
    """Set the traits of `KubeClusterConfig`."""
    backend = lookup(settings["values"], "gateway.backend") or {}
    pod, container = own_pod(settings), own_container(settings)
    config.namespace = settings["namespace"]
    config.image = settings["image"]
    config.image_pull_secrets = settings["imagePullSecrets"]
    # distributed no longer has the commands dask-scheduler and dask-worker.
    config.scheduler_cmd = ["dask", "scheduler"]
    config.worker_cmd = ["dask", "worker"]
    variables = (backend.get("environment") or {}).items()
    own = {name: str(value) for name, value in variables if value is not None}
    config.environment = own_environment(settings) | own
    for trait, key in POD_TRAITS.items():
        value = lookup(backend, key)
        if value not in (None, ""):
            config[trait] = value
    for kind in KINDS:
        values = backend.get(kind) or {}
        config[f"{kind}_extra_pod_config"] = merge_json_objects(
            pod, values.get("extraPodConfig") or {}
        )
        config[f"{kind}_extra_container_config"] = merge_json_objects(
            container, values.get("extraContainerConfig") or {}
        )
    idle = lookup(settings["values"], "gateway.clusterIdleTimeout")
    if idle is not None:
        config.idle_timeout = idle


def cluster_options(settings: Settings) -> Options:
    """Return what a user may choose for a cluster, and how that becomes configuration."""
    gateway = lookup(settings["values"], "gateway") or {}
    options = gateway.get("options") or {}
    patterns = [re.compile(pattern) for pattern in options.get("imagePatterns") or ()]
    default, notebook = settings["image"], settings["notebookImage"]

    # dask-gateway calls it with these two, by position.
    def configuration_of(choice: Any, user: User) -> dict[str, Any]:
        # Clients name the image of the server in which they run.
        image = default if choice.image in ("", notebook) else choice.image
        offered = {default} | SERVER_IMAGES.get()
        if image not in offered and not any(p.fullmatch(image) for p in patterns):
            raise ValueError(
                f"the image {image!r} is not offered here: use that of your server, or image=''"
                " for the default"
            )
        configuration = {"image": image}
        if choice.worker_cores:
            usual = lookup(gateway, "backend.worker.cores.request")
            configuration |= {
                "worker_cores": min(usual or choice.worker_cores, choice.worker_cores),
                "worker_cores_limit": choice.worker_cores,
                "worker_threads": max(1, int(choice.worker_cores)),
            }
        if choice.worker_memory:
            size = int(choice.worker_memory * GIB)
            configuration |= {"worker_memory": size, "worker_memory_limit": size}
        return configuration

    cores, memory = options.get("maxWorkerCores"), options.get("maxWorkerMemoryGiB")
    return Options(
        Float("worker_cores", default=0, min=0, max=cores, label="Cores a worker"),
        Float("worker_memory", default=0, min=0, max=memory, label="Memory a worker (GiB)"),
        String("image", default="", label="Image"),
        handler=configuration_of,
    )


def without_own_image(request: Any, options: Options, notebook: str) -> Any:
    """Return a request without the image of the user's server, where there is no such option.

    Servers' clients name that image in each request; the administrator's own options may lack it.
    """
    own = isinstance(request, dict) and request.get("image") in {notebook, *SERVER_IMAGES.get()}
    if not own or any(field.field == "image" for field in options.fields):
        return request
    return {name: choice for name, choice in request.items() if name != "image"}


def complete(cluster: Any, settings: Settings, user: str) -> None:
    """Add to a cluster's configuration what each pod of the facility has.

    `cluster` is a `KubeClusterConfig` of any options and handlers, which may have replaced its
    traits.  What they set of volumes, mounts, variables and contexts is kept.
    """
    pod, container, label = own_pod(settings), own_container(settings), {}
    if settings["userSecrets"]:
        # Optional: a user who came without the hub has none.
        volume, mount = identity_volume(secret_name(user), optional=True)
        pod["volumes"] = [*pod["volumes"], volume]
        container["volumeMounts"] = [*container["volumeMounts"], mount]
        label = {USER_LABEL: resource_name(user)}
    cluster.environment = own_environment(settings) | cluster.environment
    for kind in KINDS:
        for part, own in (
            (f"{kind}_extra_pod_config", pod),
            (f"{kind}_extra_container_config", container),
        ):
            setattr(cluster, part, _with_own(own, getattr(cluster, part)))
        labels = f"{kind}_extra_pod_labels"
        setattr(cluster, labels, getattr(cluster, labels) | label)


def _with_own(own: Fields, fields: Fields) -> Fields:
    """Return fields of a pod or of a container with the facility's own that they lack."""
    both = {**own, **fields}
    context = fields.get("securityContext") or {}
    both["securityContext"] = own["securityContext"] | context
    for entries, key in (("volumes", "name"), ("volumeMounts", "mountPath")):
        if entries in own:
            given = fields.get(entries) or []
            present = [entry[key] for entry in given]
            both[entries] = [
                *(entry for entry in own[entries] if entry[key] not in present),
                *given,
            ]
    return both
