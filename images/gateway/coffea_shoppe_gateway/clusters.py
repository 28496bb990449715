"""The pods of a Dask cluster, and what a user may choose of them."""

import re
from typing import Any

from coffea_shoppe_contract.names import resource_name, secret_name
from coffea_shoppe_contract.resources import USER_LABEL, identity_volume
from dask_gateway_server.backends.kubernetes.utils import merge_json_objects
from dask_gateway_server.models import User
from dask_gateway_server.options import Float, Options, String
from traitlets.config import Config

from coffea_shoppe_gateway.limits import GIB

Settings = dict[str, Any]
"""The chart's values with their templates expanded: `settings.yaml`."""
HOME = "/tmp"  # noqa: S108  (the pod's own)


def describe_pods(config: Config, settings: Settings) -> None:
    """Set the traits of `KubeClusterConfig`: pods as the restricted Pod Security level asks."""
    backend = settings["gateway"]["backend"]
    scheduler, worker = backend["scheduler"], backend["worker"]
    pod = {
        "securityContext": settings["podSecurityContext"],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
        "enableServiceLinks": False,
    }
    container = {
        "securityContext": settings["containerSecurityContext"],
        "workingDir": HOME,
        "volumeMounts": [{"name": "tmp", "mountPath": HOME}],
    }
    config.namespace = settings["namespace"]
    config.image = settings["image"]
    config.image_pull_policy = backend["image"]["pullPolicy"]
    config.image_pull_secrets = settings["imagePullSecrets"]
    # distributed no longer has the commands dask-scheduler and dask-worker.
    config.scheduler_cmd = ["dask", "scheduler"]
    config.worker_cmd = ["dask", "worker"]
    config.environment = {"HOME": HOME, "USER": "jovyan"} | backend["environment"]
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
    config.worker_extra_pod_config = merge_json_objects(pod, worker["extraPodConfig"])
    config.worker_extra_container_config = merge_json_objects(
        container, worker["extraContainerConfig"]
    )
    config.idle_timeout = settings["gateway"]["clusterIdleTimeout"]


def cluster_options(config: Config, settings: Settings) -> Options:
    """Return what a user may choose for a cluster, and how that becomes configuration.

    `config` are the traits of `KubeClusterConfig`, which the users' volumes are added to.
    """
    backend, options = settings["gateway"]["backend"], settings["gateway"]["options"]
    patterns = [re.compile(pattern) for pattern in options["imagePatterns"]]

    # dask-gateway calls it with these two, by position.
    def configuration_of(choice: Any, user: User) -> dict[str, Any]:
        image = choice.image or settings["image"]
        offered = image == settings["image"] or any(p.fullmatch(image) for p in patterns)
        if not offered:
            raise ValueError(
                f"the image {image!r} is not offered here; leave it empty for the default"
            )
        configuration = {"image": image}
        if backend["userSecrets"]:
            configuration |= _identity(config, user.name)
        if choice.worker_cores:
            request = min(backend["worker"]["cores"]["request"], choice.worker_cores)
            configuration |= {
                "worker_cores": request,
                "worker_cores_limit": choice.worker_cores,
                "worker_threads": max(1, int(choice.worker_cores)),
            }
        if choice.worker_memory:
            size = int(choice.worker_memory * GIB)
            configuration |= {"worker_memory": size, "worker_memory_limit": size}
        return configuration

    return Options(
        Float(
            "worker_cores", default=0, min=0, max=options["maxWorkerCores"], label="Cores a worker"
        ),
        Float(
            "worker_memory",
            default=0,
            min=0,
            max=options["maxWorkerMemoryGiB"],
            label="Memory a worker (GiB)",
        ),
        String("image", default="", label="Image"),
        handler=configuration_of,
    )


def _identity(config: Config, user: str) -> dict[str, Any]:
    """Return the configuration that gives a cluster's pods their user's tokens."""
    # Optional: a user who came without the hub has none.
    volume, mount = identity_volume(secret_name(user), optional=True)
    label = {USER_LABEL: resource_name(user)}
    configuration: dict[str, Any] = {}
    for kind in ("scheduler", "worker"):
        pod, container = f"{kind}_extra_pod_config", f"{kind}_extra_container_config"
        configuration[pod] = merge_json_objects(config[pod], {"volumes": [volume]})
        configuration[container] = merge_json_objects(config[container], {"volumeMounts": [mount]})
        configuration[f"{kind}_extra_pod_labels"] = label
    return configuration
