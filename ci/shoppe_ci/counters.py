"""Counters that the facility's services keep, read in Prometheus' text format."""

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import requests
from prometheus_client.parser import text_string_to_metric_families

from shoppe_ci.cluster import Cluster
from shoppe_ci.diagnostics import is_ready
from shoppe_ci.errors import ShoppeError
from shoppe_ci.release import NAMESPACE, RELEASE

HUB = "hub"
HUB_TOKEN = "hub.services.monitoring.apiToken"  # noqa: S105  (the Secret's key)
"""Of the service `monitoring`, which may read the hub's metrics."""
TIMEOUT_S = 20

Series = tuple[str, frozenset[tuple[str, str]]]
"""A sample's name and its labels."""
Reading = Mapping[str, Mapping[Series, float]]
"""By pod: the value of each series."""


@dataclass(frozen=True)
class Endpoint:
    """Where a component's pods serve their metrics."""

    component: str
    """The pods' label app.kubernetes.io/component."""
    port: int
    shared: bool = False
    """Each pod reports the same totals, of a database; else each counts its own work."""


def parse(text: str) -> dict[Series, float]:
    """Return the samples of an exposition in Prometheus' text format."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def ready_pods(cluster: Cluster, component: str) -> list[tuple[str, str]]:
    """Return (namespace, name) of a component's pods that are ready."""
    labels = f"app.kubernetes.io/instance={RELEASE},app.kubernetes.io/component={component}"
    return [
        (pod["metadata"]["namespace"], pod["metadata"]["name"])
        for pod in cluster.get("pods", "-A", "-l", labels)["items"]
        if is_ready(pod)
    ]


def hub_token(cluster: Cluster) -> str:
    """Return the token of the hub's service `monitoring`."""
    data = cluster.get("secret", f"{RELEASE}-hub", "-n", NAMESPACE)["data"]
    if HUB_TOKEN not in data:
        raise ShoppeError(
            f"the hub's Secret has no {HUB_TOKEN}: its metrics cannot be read",
            "set jupyterhub.hub.monitoring.enabled to true",
        )
    return base64.b64decode(data[HUB_TOKEN]).decode()


def _hub_metrics(cluster: Cluster) -> str:
    """Return the hub's metrics, which it gives to the identity for monitoring alone."""
    token = hub_token(cluster)
    try:
        response = requests.get(
            f"{cluster.url}/hub/metrics",
            headers={"Authorization": f"token {token}"},
            timeout=TIMEOUT_S,
        )
        response.raise_for_status()
    except requests.RequestException as error:
        raise ShoppeError(f"the hub's metrics cannot be read: {error}") from error
    return response.text


def read(cluster: Cluster, endpoint: Endpoint) -> Reading:
    """Return what all pods of a component count now, by the API server's proxy.

    Totals that all pods share are read from one of them, under the component's name.

    Raises `ShoppeError` if no pod is ready, or one does not respond.
    """
    pods = ready_pods(cluster, endpoint.component)
    if not pods:
        raise ShoppeError(f"no pod of {endpoint.component} is ready")
    if endpoint.component == HUB:
        ((_, name),) = pods[:1]
        return {name: parse(_hub_metrics(cluster))}
    if endpoint.shared:
        ((namespace, name),) = pods[:1]
        return {endpoint.component: _pod_metrics(cluster, namespace, name, endpoint.port)}
    return {name: _pod_metrics(cluster, namespace, name, endpoint.port) for namespace, name in pods}


def _pod_metrics(cluster: Cluster, namespace: str, name: str, port: int) -> dict[Series, float]:
    path = f"/api/v1/namespaces/{namespace}/pods/{name}:{port}/proxy/metrics"
    try:
        return parse(cluster.kubectl("get", "--raw", path, timeout=TIMEOUT_S))
    except (ShoppeError, ValueError) as error:
        raise ShoppeError(f"pod {name} serves no counters at port {port}: {error}") from error


def _matching(
    values: Mapping[Series, float], metric: str, labels: Mapping[str, str]
) -> Iterable[Series]:
    pairs = set(labels.items())
    return [
        (name, own_labels) for name, own_labels in values if name == metric and pairs <= own_labels
    ]


def total(reading: Reading, metric: str, labels: Mapping[str, str] | None = None) -> float:
    """Return the sum of a metric over the pods, and over the series that have these labels."""
    return sum(
        values[series]
        for values in reading.values()
        for series in _matching(values, metric, labels or {})
    )


def increase(before: Reading, after: Reading, metric: str, labels: Mapping[str, str]) -> float:
    """Return by how much a counter increased, as Prometheus' `increase` counts it.

    A counter that is smaller than before was reset by a restart, and counts from zero; so does
    a pod that was not there.
    """
    growth = 0.0
    for pod, values in after.items():
        for series in _matching(values, metric, labels):
            earlier = before.get(pod, {}).get(series, 0.0)
            growth += values[series] - earlier if values[series] >= earlier else values[series]
    return growth
