"""Dask clusters: the gateway's health, and a NetworkPolicy for each user's pods."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from coffea_shoppe_contract.names import secret_name
from coffea_shoppe_contract.resources import DASK_SCHEDULER, DASK_WORKER, USER_LABEL
from pydantic import Field

from coffea_shoppe_operator.adapters.base import Adapter, Context, Health, Owner, Usage
from coffea_shoppe_operator.conditions import Condition, service_condition
from coffea_shoppe_operator.schema import Model

GIB = 2**30


class DaskPods(Model):
    """Selector of Dask scheduler and worker pods."""

    namespace: str
    labels: dict[str, str]
    """Labels that, together with a user's label, no other pods have."""


class DaskSettings(Model):
    """The gateway of Dask clusters, which reads its limits from the users' resources."""

    health: str = ""
    """Address that responds while the gateway is healthy; empty: it is not checked."""
    pods: DaskPods | None = None
    """None: the operator creates no NetworkPolicies for them."""


class DaskQuota(Model):
    """Limits of all Dask clusters of a user together; 0: no limit."""

    clusters: int | None = Field(default=None, ge=0)
    cores: float | None = Field(default=None, ge=0)
    """CPU cores of the workers."""
    memory_gi_b: float | None = Field(default=None, ge=0, alias="memoryGiB")
    """Memory of the workers in GiB."""


@dataclass(frozen=True)
class PodLimits:
    """Resource limits of a pod."""

    component: str
    cores: float
    memory: float
    """Bytes."""


class Cluster(Protocol):
    """What the adapter needs of Kubernetes, implemented by `storage.Storage`."""

    def read_policy(self, namespace: str, name: str) -> dict[str, Any] | None: ...  # noqa: D102
    def write_policy(self, policy: dict[str, Any]) -> None: ...  # noqa: D102
    def delete_policy(self, namespace: str, name: str) -> None: ...  # noqa: D102
    def read_pods(self, namespace: str, labels: Mapping[str, str]) -> list[PodLimits]: ...  # noqa: D102


def dask_policy(
    name: str, resource: str, pods: DaskPods, labels: Mapping[str, str]
) -> dict[str, Any]:
    """Return the NetworkPolicy that lets a user's Dask pods reach one another.

    It adds to the policies that let the gateway and its Traefik in; no policy lets
    another user's pods in.
    """
    own = {"podSelector": {"matchLabels": {**pods.labels, USER_LABEL: resource}}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": pods.namespace, "labels": dict(labels)},
        "spec": {**own, "policyTypes": ["Ingress"], "ingress": [{"from": [own]}]},
    }


class DaskAdapter(Adapter):
    """Users of the gateway: their pods' NetworkPolicies and their limits."""

    def __init__(self, settings: DaskSettings, cluster: Cluster, health: Health) -> None:
        self.settings, self.cluster, self.health = settings, cluster, health

    def provision(self, owner: Owner, context: Context) -> Condition | None:
        """Let the owner's Dask pods reach one another, and no other user's."""
        if pods := self.settings.pods:
            name = secret_name(owner.name)
            policy = dask_policy(name, owner.resource, pods, context.labels)
            if self.cluster.read_policy(pods.namespace, name) != policy["spec"]:
                self.cluster.write_policy(policy)
        if not self.settings.health:
            return None
        quota = owner.quota(DaskQuota)
        limits = (quota.clusters, "clusters"), (quota.cores, "cores"), (quota.memory_gi_b, "GiB")
        text = ", ".join(f"{limit:g} {unit}" for limit, unit in limits if limit)
        return service_condition(
            "Dask",
            message=f"at most {text}" if text else "no limits",
            problem=self.health.problem(self.settings.health),
        )

    def revoke(self, owner: Owner) -> None:
        """Remove the owner's NetworkPolicy."""
        name, pods = secret_name(owner.name), self.settings.pods
        if pods and self.cluster.read_policy(pods.namespace, name) is not None:
            self.cluster.delete_policy(pods.namespace, name)

    def usage(self, owner: Owner) -> Iterator[Usage]:
        """Yield the current usage of the owner's pods."""
        if not (selector := self.settings.pods):
            return
        labels = {**selector.labels, USER_LABEL: owner.resource}
        pods = self.cluster.read_pods(selector.namespace, labels)
        workers = [pod for pod in pods if pod.component == DASK_WORKER]
        clusters = sum(pod.component == DASK_SCHEDULER for pod in pods)
        cores, memory = sum(pod.cores for pod in workers), sum(pod.memory for pod in workers)
        quota = owner.quota(DaskQuota)
        yield Usage("dask-gateway", "clusters", "", clusters, quota.clusters or 0)
        yield Usage("dask-gateway", "cores", "", cores, quota.cores or 0)
        yield Usage("dask-gateway", "memory", "GiB", memory / GIB, quota.memory_gi_b or 0)
