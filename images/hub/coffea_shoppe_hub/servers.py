"""The pods of users' servers, from the chart's values below `singleuser` and `scheduling`."""

import json
from collections.abc import Mapping
from typing import Any

from traitlets.config import Config
from z2jh import lookup

from coffea_shoppe_hub.profiles import profiles_of

Settings = dict[str, Any]
Named = dict[str, dict[str, Any]]
"""Volumes, mounts or containers, by a key of any kind, as KubeSpawner and z2jh have them."""

SPAWNER_TRAITS = {
    "pod_name_template": "podNameTemplate",
    "start_timeout": "startTimeout",
    "image_pull_policy": "image.pullPolicy",
    "events_enabled": "events",
    "extra_annotations": "extraAnnotations",
    "uid": "uid",
    "gid": "uid",
    "fs_gid": "fsGid",
    "service_account": "serviceAccountName",
    "storage_extra_labels": "storage.extraLabels",
    "node_selector": "nodeSelector",
    "pod_affinity_required": "extraPodAffinity.required",
    "pod_affinity_preferred": "extraPodAffinity.preferred",
    "pod_anti_affinity_required": "extraPodAntiAffinity.required",
    "pod_anti_affinity_preferred": "extraPodAntiAffinity.preferred",
    "lifecycle_hooks": "lifecycleHooks",
    "mem_limit": "memory.limit",
    "mem_guarantee": "memory.guarantee",
    "extra_resource_limits": "extraResource.limits",
    "extra_resource_guarantees": "extraResource.guarantees",
}
"""Trait of KubeSpawner → key below `singleuser`; a key that is null or empty sets nothing."""


def describe_servers(c: Config, settings: Settings, namespace: str) -> None:
    """Set the traits of `KubeSpawner`: pods as the restricted Pod Security level asks."""
    values, spawner = settings["values"], c.KubeSpawner
    user = values.get("singleuser") or {}
    spawner.namespace = namespace
    spawner.image = settings["userImage"]
    spawner.image_pull_secrets = [entry["name"] for entry in settings["imagePullSecrets"]]
    spawner.http_timeout = 60
    spawner.k8s_api_request_timeout = 10
    for trait, key in SPAWNER_TRAITS.items():
        value = lookup(user, key)
        if value is not None and value not in ("", {}, []):
            spawner[trait] = value
    command = user.get("cmd")
    spawner.cmd = [command] if isinstance(command, str) else command or []
    if user.get("defaultUrl"):
        spawner.default_url = user["defaultUrl"]
    for trait, key in {"cpu_limit": "cpu.limit", "cpu_guarantee": "cpu.guarantee"}.items():
        cores = lookup(user, key)
        if cores is not None:
            spawner[trait] = cores_of(cores)
    _security(spawner, settings, user)
    spawner.enable_user_namespaces = False
    spawner.common_labels = settings["userLabels"]
    labels = {
        key: text for key, text in (user.get("extraLabels") or {}).items() if text is not None
    }
    spawner.extra_labels = settings["userLabels"] | labels
    spawner.component_label = "singleuser-server"
    spawner.profile_list = profiles_of(user.get("profileList") or [])
    spawner.extra_pod_config = {"enableServiceLinks": False} | (user.get("extraPodConfig") or {})
    home = lookup(user, "storage.homeMountPath")
    variables = {"HOME": home, "USER": "jovyan", "SHELL": "/bin/bash"}
    if home:
        spawner.working_dir = home
    else:
        del variables["HOME"]
    own = variables_of(user.get("extraEnv") or {})
    spawner.environment = variables | settings["environment"] | own
    _placement(spawner, settings, lookup(values, "scheduling.userPods") or {}, user)
    volumes, mounts = _volumes(spawner, settings, user)
    c.ShoppeSpawner.facility_volumes, c.ShoppeSpawner.facility_mounts = volumes, mounts
    # Copies, which Python of the facility may change.
    spawner.volumes, spawner.volume_mounts = dict(volumes), dict(mounts)


def _security(spawner: Config, settings: Settings, user: Settings) -> None:
    ids = {"runAsUser": "uid", "runAsGroup": "uid", "fsGroup": "fsGid"}
    context = {
        key: entry for key, entry in settings["podSecurityContext"].items() if key not in ids
    }
    context |= {key: user[of] for key, of in ids.items() if user.get(of) is not None}
    spawner.pod_security_context = context
    container = dict(settings["containerSecurityContext"])
    spawner.allow_privilege_escalation = user.get("allowPrivilegeEscalation")
    if user.get("allowPrivilegeEscalation"):
        # sudo also needs capabilities.
        container.pop("capabilities", None)
        container["allowPrivilegeEscalation"] = True
    spawner.container_security_context = container
    spawner.automount_service_account_token = bool(user.get("serviceAccountName"))
    for trait, key in {
        "init_containers": "initContainers",
        "extra_containers": "extraContainers",
    }.items():
        spawner[trait] = [
            {**entry, "securityContext": container | (entry.get("securityContext") or {})}
            for _, entry in sorted(by_key(user.get(key)).items())
        ]


def _placement(spawner: Config, settings: Settings, pods: Settings, user: Settings) -> None:
    tolerations = [*(pods.get("tolerations") or []), *(user.get("extraTolerations") or [])]
    spawner.tolerations = tolerations
    term = {"key": "hub.jupyter.org/node-purpose", "operator": "In", "values": ["user"]}
    purpose = {"matchExpressions": [term]}
    required = list(lookup(user, "extraNodeAffinity.required") or [])
    preferred = list(lookup(user, "extraNodeAffinity.preferred") or [])
    match lookup(pods, "nodeAffinity.matchNodePurpose"):
        case "require":
            required.append(purpose)
        case "prefer":
            preferred.append({"weight": 100, "preference": purpose})
    spawner.node_affinity_required, spawner.node_affinity_preferred = required, preferred
    if settings["priorityClass"]:
        spawner.priority_class_name = settings["priorityClass"]
    if settings["schedulerName"]:
        spawner.scheduler_name = settings["schedulerName"]


def _volumes(spawner: Config, settings: Settings, user: Settings) -> tuple[Named, Named]:
    """Return volumes and mounts: a home, a /tmp, files and what the values add.

    The home is kept unless the storage is `none`.
    """
    storage = user.get("storage") or {}
    volumes: Named = {"tmp": {"name": "tmp", "emptyDir": {}}}
    mounts: Named = {"tmp": {"name": "tmp", "mountPath": "/tmp"}}  # noqa: S108  (the pod's own)
    name, folder = "home", None
    home: dict[str, Any] = {"emptyDir": {}}
    if storage.get("type") == "dynamic":
        dynamic = storage.get("dynamic") or {}
        # KubeSpawner's own default depends on the version that created a claim.
        spawner.pvc_name_template = dynamic.get("pvcNameTemplate") or "claim-{user_server}"
        spawner.storage_pvc_ensure = True
        if storage.get("capacity"):
            spawner.storage_capacity = str(storage["capacity"])
        if settings["storageClass"]:
            spawner.storage_class = settings["storageClass"]
        spawner.storage_access_modes = dynamic.get("storageAccessModes") or ["ReadWriteOnce"]
        name = dynamic.get("volumeNameTemplate") or name
        home = {"persistentVolumeClaim": {"claimName": "{pvc_name}"}}
        folder = dynamic.get("subPath")
    elif storage.get("type") == "static":
        home = {"persistentVolumeClaim": {"claimName": lookup(storage, "static.pvcName")}}
        folder = lookup(storage, "static.subPath")
    if storage.get("homeMountPath"):
        volumes[name] = {"name": name, **home}
        mounts[name] = {"name": name, "mountPath": storage["homeMountPath"]}
        if folder:
            mounts[name]["subPath"] = folder
    files = user.get("extraFiles") or {}
    if files:
        entries = [
            {"key": key, "path": key} | ({"mode": file["mode"]} if file.get("mode") else {})
            for key, file in files.items()
        ]
        secret = {"secretName": settings["files"], "items": entries}
        volumes["files"] = {"name": "files", "secret": secret}
    for index, (key, file) in enumerate(files.items()):
        mount = {"name": "files", "mountPath": file["mountPath"], "subPath": key}
        mounts[f"{index}-files"] = mount
    volumes |= by_key(storage.get("extraVolumes"), key="name")
    mounts |= by_key(storage.get("extraVolumeMounts"))
    return volumes, mounts


def by_key(entries: Any, *, key: str = "") -> Named:
    """Return a list or a dictionary as a dictionary.

    Entries of a list have their own `key`, or else their place, since a volume may be mounted
    twice.
    """
    if isinstance(entries, Mapping):
        return {name: entry for name, entry in entries.items() if entry is not None}
    return {
        entry[key] if key else f"{index:03}-{entry['name']}": entry
        for index, entry in enumerate(entries or [])
    }


def cores_of(quantity: float | str) -> float:
    """Return cores of a number or of Kubernetes' quantity: 0.5 of "500m"."""
    text = str(quantity)
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)


def variables_of(entries: Any) -> dict[str, Any]:
    """Return environment variables, as a map or a container's list, as KubeSpawner has them."""
    if isinstance(entries, list):
        entries = {
            entry["name"]: entry.get("value", "") if "valueFrom" not in entry else entry
            for entry in entries
        }
    return {
        name: value if isinstance(value, str | dict) else json.dumps(value)
        for name, value in entries.items()
        if value is not None
    }
