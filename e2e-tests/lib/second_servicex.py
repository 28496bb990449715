"""A ServiceX that is not the facility's: with its own PostgreSQL and a small S3 store."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from shoppe_ci import images, release
from shoppe_ci.cluster import Cluster
from shoppe_ci.paths import CHARTS

VOLUME_MIB = 32
"""Size of the store."""
BUCKET = "columns"
_KEYS = {"root-access-key": f"AK{secrets.token_hex(8)}", "root-secret-key": secrets.token_hex(20)}
_CREDENTIALS = f"""[default]
aws_access_key_id = {_KEYS["root-access-key"]}
aws_secret_access_key = {_KEYS["root-secret-key"]}
"""


@contextmanager
def second_servicex(cluster: Cluster, name: str, values: dict[str, Any]) -> Iterator[None]:
    """Install the release `name` in the namespace `name`; remove both at the end.

    Args:
        cluster: Where the facility runs.
        name: Of the release; its API is the service `NAME-servicex`, port 5000.
        values: More values of the chart `servicex`.
    """
    release.ensure_namespace(cluster, name)
    cluster.apply(*_store(name))
    database = f"{name}-db"
    release.install(
        cluster,
        CHARTS / "postgresql",
        {"databases": ["columns"]},
        name=database,
        namespace=name,
    )
    own = {
        "postgres": {
            "existingDatabaseSecret": f"{database}-postgresql-columns",
            "service": "columns",
        },
        "objectStore": {
            "endpoint": f"http://store.{name}:7070",
            "region": "eu-north-9",
            "bucket": BUCKET,
            "existingSecret": "store",
        },
    }
    release.install(cluster, CHARTS / "servicex", own, values, name=name, namespace=name)
    yield
    for installed in (name, database):
        release.uninstall(cluster, name=installed, namespace=name)
    cluster.kubectl("delete", "namespace", name, "--wait=false")


def stored(cluster: Cluster, name: str) -> list[str]:
    """Return the paths of results in the store of that ServiceX, below its bucket."""
    where = ("-n", name, "exec", "store", "-c", "store", "--")
    folder = f"/data/objects/{BUCKET}/"
    paths = cluster.kubectl(*where, "find", folder, "-name", "*.parquet").split()
    return [path.removeprefix(folder) for path in paths]


def _store(namespace: str) -> list[dict[str, Any]]:
    """Return the manifests of a small S3 store with the bucket, in memory."""
    image = images.values()["objectstore"]["image"]
    secure = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    common = {
        "image": f"{image['name']}:{image['tag']}",
        "securityContext": secure,
        "volumeMounts": [{"name": name, "mountPath": f"/{name}"} for name in ("data", "tmp")],
    }
    folders = ["mkdir", "-p", f"/data/objects/{BUCKET}", "/data/accounts"]
    serve = ["versitygw", "--port=:7070", "--region=eu-north-9", "--iam-dir=/data/accounts"]
    names = {"ROOT_ACCESS_KEY": "root-access-key", "ROOT_SECRET_KEY": "root-secret-key"}
    container = {
        **common,
        "name": "store",
        "args": [*serve, "--quiet", "posix", "/data/objects"],
        "env": [
            {"name": name, "valueFrom": {"secretKeyRef": {"name": "store", "key": key}}}
            for name, key in names.items()
        ],
    }
    memory = {"medium": "Memory", "sizeLimit": f"{VOLUME_MIB}Mi"}
    metadata = {"name": "store", "namespace": namespace, "labels": {"app": "store"}}
    user = {"runAsNonRoot": True, "runAsUser": 1000, "fsGroup": 1000}
    secret = {**_KEYS, "aws-credentials": _CREDENTIALS}
    return [
        {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": secret},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"selector": {"app": "store"}, "ports": [{"port": 7070}]},
        },
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": metadata,
            "spec": {
                "automountServiceAccountToken": False,
                "securityContext": {**user, "seccompProfile": {"type": "RuntimeDefault"}},
                "initContainers": [{**common, "name": "folders", "args": folders}],
                "containers": [container],
                "volumes": [{"name": "data", "emptyDir": memory}, {"name": "tmp", "emptyDir": {}}],
            },
        },
    ]
