"""An XRootD origin inside the cluster, with the input of demonstration and tests."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

from shoppe_ci import images
from shoppe_ci.cluster import DATA_IN_NODE, Cluster
from shoppe_ci.diagnostics import is_ready
from shoppe_ci.errors import ShoppeError
from shoppe_ci.progress import step
from shoppe_ci.release import ensure_namespace
from shoppe_ci.wait import eventually

NAMESPACE = "shoppe-origin"
NAME = "origin"
PORT = 1094


def address(name: str = NAME) -> str:
    """Return the address of an origin in the cluster."""
    return f"root://{name}.{NAMESPACE}:{PORT}"


ADDRESS = address()

CONFIG = """\
xrd.port 1094
all.export / readonly
oss.localroot /data
all.adminpath /tmp/origin
all.pidpath /tmp/origin
"""


def manifests(image: str, name: str = NAME) -> list[dict[str, Any]]:
    """Return the origin's objects: its configuration, volume, server and service."""
    labels = {"app.kubernetes.io/name": name}
    where = {"namespace": NAMESPACE, "labels": labels}
    restricted = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    container = {
        "name": "xrootd",
        "image": image,
        "args": ["xrootd", "-c", "/etc/origin/origin.cfg", "-n", "origin"],
        "ports": [{"name": "root", "containerPort": PORT}],
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 3},
        "resources": {
            "requests": {"cpu": "20m", "memory": "32Mi"},
            "limits": {"memory": "512Mi"},
        },
        "securityContext": restricted,
        "volumeMounts": [
            {"name": "config", "mountPath": "/etc/origin", "readOnly": True},
            {"name": "data", "mountPath": "/data", "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108  (the pod's own)
        ],
    }
    pod = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 2,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "runAsGroup": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            {"name": "config", "configMap": {"name": name}},
            {"name": "data", "persistentVolumeClaim": {"claimName": NAME, "readOnly": True}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }
    size = {"storage": "100Gi"}
    volume = {
        "capacity": size,
        "accessModes": ["ReadOnlyMany"],
        "storageClassName": "",
        "persistentVolumeReclaimPolicy": "Retain",
        "hostPath": {"path": DATA_IN_NODE},
        "claimRef": {"name": NAME, "namespace": NAMESPACE},
    }
    claim = {
        "accessModes": ["ReadOnlyMany"],
        "storageClassName": "",
        "volumeName": "shoppe-data",
        "resources": {"requests": size},
    }
    deployment = {
        "replicas": 1,
        "strategy": {"type": "Recreate"},
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    service = {"selector": labels, "ports": [{"name": "root", "port": PORT}]}
    meta = {"name": name, **where}
    claimed = {"name": NAME, **where}
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"origin.cfg": CONFIG}},
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": "shoppe-data", "labels": labels},
            "spec": volume,
        },
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": claimed, "spec": claim},
        {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": service},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": deployment},
    ]


def install(cluster: Cluster, name: str = NAME) -> None:
    """Run an origin and wait until it responds; all origins serve the same files."""
    with step("starting the origin that serves the input"):
        ensure_namespace(cluster, NAMESPACE)
        cluster.apply(*manifests(images.reference("xcache"), name))
        scale(cluster, 1, name=name)


def scale(cluster: Cluster, replicas: int, name: str = NAME) -> None:
    """Start (1) or stop (0) an origin, and wait for it."""
    cluster.kubectl("-n", NAMESPACE, "scale", f"--replicas={replicas}", f"deployment/{name}")
    label = f"app.kubernetes.io/name={name}"

    def settled() -> bool:
        pods = cluster.get("pods", "-n", NAMESPACE, "-l", label)["items"]
        return len(pods) == sum(map(is_ready, pods)) == replicas

    eventually(settled, f"the origin has {replicas} pods", timeout=120, every=1)


def publish(cluster: Cluster, source: Path, *, below: str = "") -> str:
    """Copy a file to the origin, below a digest of its content, and return its URL there.

    A cache identifies a file by its path, so one path never has two contents: for a file that
    changes see `replace`.
    """
    if not source.is_file():
        raise ShoppeError(f"{source}: no such file", "--data takes NanoAOD files or root:// URLs")
    digest = hashlib.sha256()
    with source.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    relative = f"{below}{digest.hexdigest()[:12]}/{source.name}"
    target = cluster.data / relative
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(".partial")
        shutil.copyfile(source, partial)
        partial.chmod(0o644)
        partial.rename(target)
    for folder in (cluster.data, target.parent):
        folder.chmod(0o755)
    return f"{ADDRESS}//{relative}"


def replace(cluster: Cluster, source: Path, relative: str) -> str:
    """Copy a file to a path on the origin, over an earlier one, and return its URL there.

    Its time of change is that of this call, as if it had been written there.  Waits until the
    origin has closed the earlier one: until then it gives that one's content to all.
    """
    target = cluster.data / relative
    if target.exists():
        eventually(
            lambda: f"/data/{relative}" not in _open_files(cluster),
            f"the origin has closed {relative}",
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    shutil.copyfile(source, partial)
    partial.chmod(0o644)
    partial.rename(target)
    for folder in (cluster.data, target.parent):
        folder.chmod(0o755)
    return f"{ADDRESS}//{relative}"


def _open_files(cluster: Cluster) -> str:
    """Return the list of the files that the origin's server has open."""
    listing = ("ls", "-l", "/proc/1/fd")
    return cluster.kubectl("-n", NAMESPACE, "exec", f"deployment/{NAME}", "--", *listing)


def remove(cluster: Cluster, below: str) -> None:
    """Remove the files that were published below a folder of the origin."""
    shutil.rmtree(cluster.data / below, ignore_errors=True)
