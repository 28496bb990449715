"""The pods of transformers, as the cluster holds them."""

from collections.abc import Mapping
from typing import Any

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from coffea_shoppe_servicex.controller import REQUEST_LABEL
from coffea_shoppe_servicex.settings import Own, Pool

TIMEOUT_S = 20


class Kubernetes:
    """The cluster that the controller's pod runs in."""

    def __init__(self, pool: Pool, own: Own) -> None:
        config.load_incluster_config()
        self.pool, self.own = pool, own
        self._apps, self._core = client.AppsV1Api(), client.CoreV1Api()

    def replicas(self) -> int:
        """Return how many shared transformers are wanted."""
        found = self._apps.read_namespaced_deployment_scale(
            self.pool.deployment, self.pool.namespace, _request_timeout=TIMEOUT_S
        )
        return int(found.spec.replicas or 0)

    def scale(self, replicas: int) -> None:
        """Have so many shared transformers."""
        self._apps.patch_namespaced_deployment_scale(
            self.pool.deployment,
            self.pool.namespace,
            {"spec": {"replicas": replicas}},
            _request_timeout=TIMEOUT_S,
        )

    def pods(self) -> list[dict[str, Any]]:
        """Return the pods of requests' own transformers."""
        found = self._core.list_namespaced_pod(
            self.own.namespace, label_selector=REQUEST_LABEL, _request_timeout=TIMEOUT_S
        )
        plain: list[dict[str, Any]] = client.ApiClient().sanitize_for_serialization(found.items)
        return plain

    def create(self, pod: Mapping[str, Any], secret: Mapping[str, Any]) -> None:
        """Make a pod, and the Secret that goes with it when the pod goes."""
        made = self._core.create_namespaced_pod(self.own.namespace, pod, _request_timeout=TIMEOUT_S)
        owner = {"apiVersion": "v1", "kind": "Pod", "name": made.metadata.name}
        metadata = {**secret["metadata"], "ownerReferences": [{**owner, "uid": made.metadata.uid}]}
        self._core.create_namespaced_secret(
            self.own.namespace, {**secret, "metadata": metadata}, _request_timeout=TIMEOUT_S
        )

    def delete(self, name: str) -> None:
        """Delete a pod; one that is gone is no error."""
        try:
            self._core.delete_namespaced_pod(name, self.own.namespace, _request_timeout=TIMEOUT_S)
        except ApiException as error:
            if error.status != 404:
                raise
