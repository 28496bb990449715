"""The objects of a cluster that the preflight looks at, read once."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

Object = dict[str, Any]

OF_NAMESPACE = {
    "pods": "/api/v1/namespaces/{}/pods",
    "claims": "/api/v1/namespaces/{}/persistentvolumeclaims",
    "events": "/api/v1/namespaces/{}/events",
    "quotas": "/api/v1/namespaces/{}/resourcequotas",
    "deployments": "/apis/apps/v1/namespaces/{}/deployments",
    "stateful_sets": "/apis/apps/v1/namespaces/{}/statefulsets",
    "policies": "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
}
OF_CLUSTER = {
    "storage_classes": "/apis/storage.k8s.io/v1/storageclasses",
    "definitions": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    "leases": "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases",
}
REQUEST_TIMEOUT_S = 10
READ_TIMEOUT_S = 60
"""For all lists together."""


class UnreachableError(OSError):
    """The API server does not respond, or not to this account (HTTP status 401)."""


class ForbiddenError(OSError):
    """The API server refuses a request (HTTP status 403)."""


class AbsentError(OSError):
    """The API server does not know a path (HTTP status 404)."""


ERRORS = {401: UnreachableError, 403: ForbiddenError, 404: AbsentError}


Read = Callable[[str], tuple[Object, Mapping[str, str]]]
"""Path → object and headers of the API server's response; raises OSError with its reason."""


@dataclass(frozen=True)
class Snapshot:
    """Lists of objects by kind, as the API server has them."""

    pods: list[Object] = field(default_factory=list)
    claims: list[Object] = field(default_factory=list)
    events: list[Object] = field(default_factory=list)
    quotas: list[Object] = field(default_factory=list)
    deployments: list[Object] = field(default_factory=list)
    stateful_sets: list[Object] = field(default_factory=list)
    policies: list[Object] = field(default_factory=list)
    storage_classes: list[Object] = field(default_factory=list)
    definitions: list[Object] = field(default_factory=list)
    leases: list[Object] = field(default_factory=list)
    now: float = 0.0
    """Unix time of the API server."""
    unread: dict[str, str] = field(default_factory=dict)
    """Kind, with the namespace where there is one → why its objects could not be read."""


def unix_time(text: str) -> float:
    """Return the Unix time of a time of Kubernetes; 0 without one."""
    return datetime.fromisoformat(text).timestamp() if text else 0.0


def read(get: Read, namespaces: list[str], *, cluster_wide: bool) -> Snapshot:
    """Read the objects of some namespaces, and of the whole cluster where that is allowed.

    What there is no time for stays unread, as what may not be read does.  Raises
    `UnreachableError` where the API server does not respond.
    """
    paths = [
        (kind, f"{kind} in {name}", path.format(name))
        for name in namespaces
        for kind, path in OF_NAMESPACE.items()
    ]
    if cluster_wide:
        paths += [(kind, kind, path) for kind, path in OF_CLUSTER.items()]
    objects: dict[str, list[Object]] = {kind: [] for kind, _, _ in paths}
    unread = {} if cluster_wide else dict.fromkeys(OF_CLUSTER, "rbac.clusterWide is false")
    now, end = time.time(), time.monotonic() + READ_TIMEOUT_S
    for kind, what, path in paths:
        if time.monotonic() > end:
            unread[what] = f"all lists together took over {READ_TIMEOUT_S} s"
            continue
        try:
            content, headers = get(path)
        except UnreachableError:
            # Each further request would wait as long.
            raise
        except OSError as error:
            unread[what] = str(error)
            continue
        objects[kind] += content["items"]
        if date := headers.get("Date"):
            now = parsedate_to_datetime(date).timestamp()
    return Snapshot(**objects, now=now, unread=unread)


class ApiServer:
    """The API server of the cluster: from within a pod, or by a kubeconfig file.

    An empty path is the file that kubectl would use.
    """

    def __init__(self, kubeconfig: str | None = None) -> None:
        """Find the API server; raises `kubernetes.config.ConfigException` where there is none."""
        from kubernetes import client, config

        settings = client.Configuration()
        if kubeconfig is None:
            config.load_incluster_config(settings)
        else:
            config.load_kube_config(kubeconfig or None, client_configuration=settings)
        settings.retries = False
        self._client = client.ApiClient(settings)

    def get(self, path: str) -> tuple[Object, Mapping[str, str]]:
        """Return an object and the headers of the response."""
        return self._call("GET", path)

    def create(self, path: str, content: Object) -> Object:
        """Have the API server answer a review, and return it."""
        return self._call("POST", path, content)[0]

    def _call(
        self, method: str, path: str, body: Object | None = None
    ) -> tuple[Object, Mapping[str, str]]:
        from urllib3.exceptions import HTTPError

        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        request = self._client.param_serialize(
            method, path, header_params=headers, body=body, auth_settings=["BearerToken"]
        )
        try:
            response = self._client.call_api(*request, _request_timeout=REQUEST_TIMEOUT_S)
            content = response.read()
        except HTTPError as error:
            raise UnreachableError(f"{path}: {error}") from error
        if response.status >= 300:
            kind = ERRORS.get(response.status, OSError)
            raise kind(f"{path}: HTTP status {response.status} {response.reason}")
        return json.loads(content), response.getheaders()
