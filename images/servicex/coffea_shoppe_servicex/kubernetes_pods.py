"""The transformers' Deployment and pods, through the Kubernetes API."""

from collections.abc import Mapping
from typing import Any

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from coffea_shoppe_servicex.controller import CANCELED_GRACE_S, REQUEST_LABEL
from coffea_shoppe_servicex.settings import DedicatedPods, SharedPool

TIMEOUT_S = 20


class Kubernetes:
    """The cluster in which the controller's pod runs."""

    def __init__(self, shared_pool: SharedPool, dedicated_pods: DedicatedPods) -> None:
        config.load_incluster_config()
        self.shared_pool, self.namespace = shared_pool, dedicated_pods.namespace
        self._apps, self._core = client.AppsV1Api(), client.CoreV1Api()

    def replicas(self) -> int:
        """Return the desired number of shared transformers."""
        scale = self._apps.read_namespaced_deployment_scale(
            self.shared_pool.deployment, self.shared_pool.namespace, _request_timeout=TIMEOUT_S
        )
        return int(scale.spec.replicas or 0)

    def scale(self, replicas: int) -> None:
        """Set the desired number of shared transformers."""
        self._apps.patch_namespaced_deployment_scale(
            self.shared_pool.deployment,
            self.shared_pool.namespace,
            {"spec": {"replicas": replicas}},
            _request_timeout=TIMEOUT_S,
        )

    def pods(self) -> list[dict[str, Any]]:
        """Return the dedicated pods of all requests."""
        listed = self._core.list_namespaced_pod(
            self.namespace, label_selector=REQUEST_LABEL, _request_timeout=TIMEOUT_S
        )
        pods: list[dict[str, Any]] = client.ApiClient().sanitize_for_serialization(listed.items)
        return pods

    def create(self, pod: Mapping[str, Any], secret: Mapping[str, Any]) -> None:
        """Create a pod, and its Secret, which Kubernetes deletes with the pod."""
        created = self._core.create_namespaced_pod(self.namespace, pod, _request_timeout=TIMEOUT_S)
        owner = {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": created.metadata.name,
            "uid": created.metadata.uid,
        }
        metadata = {**secret["metadata"], "ownerReferences": [owner]}
        self._core.create_namespaced_secret(
            self.namespace, {**secret, "metadata": metadata}, _request_timeout=TIMEOUT_S
        )

    def delete(self, name: str, *, grace_s: int = CANCELED_GRACE_S) -> None:
        """Delete a pod, which may finish its file within the grace period; idempotent."""
        try:
            self._core.delete_namespaced_pod(
                *(name, self.namespace),
                grace_period_seconds=grace_s,
                _request_timeout=TIMEOUT_S,
            )
        except ApiException as error:
            if error.status != 404:
                raise
