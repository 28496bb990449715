"""dask-gateway's controller, which records why a cluster's pods do not run.

The server's own controller only logs it, and the user waits without end.  Here the reason
goes into the status of the DaskCluster, and the gateway shows it to the owner.
"""

from typing import Any

from dask_gateway_server.backends.kubernetes.controller import (
    ClusterInfo,
    KubeController,
    get_cluster_key,
)
from dask_gateway_server.backends.kubernetes.utils import k8s_timestamp
from kubernetes_asyncio.client.rest import ApiException

from coffea_shoppe_gateway.refusals import REFUSED, message_of, stuck

KubeObject = dict[str, Any]
"""A Kubernetes object, or a part of one, as JSON."""


class ReportingKubeController(KubeController):
    """A controller whose clusters fail, or wait, with a reason."""

    name = "dask-gateway-server kube-controller"

    def on_pod_update(self, pod: KubeObject, old: KubeObject | None = None) -> None:
        """Reconcile a cluster again when a pod changes, also one that is stuck."""
        super().on_pod_update(pod, old)
        key = get_cluster_key(pod)
        if key is not None and key not in self.stopped_clusters and stuck(pod):
            self.queue.put(key)

    async def handle_pending_cluster(self, cluster: KubeObject) -> tuple[KubeObject, bool]:
        """Bring a cluster up; one whose scheduler cannot start has failed."""
        namespace, name = (cluster["metadata"][key] for key in ("namespace", "name"))
        try:
            status, requeue = await super().handle_pending_cluster(cluster)
        except ApiException as error:
            if error.status not in REFUSED:
                raise
            status = {"credentials": self.make_secret_name(name)}
            reason = f"Kubernetes refused the scheduler's pod: {message_of(error.body)}"
            return await self.failed(namespace, name, status, reason), False
        pod = self.informers["pod"].get(f"{namespace}.{status.get('schedulerPod')}")
        waits_for = stuck(pod) if pod and status["phase"] == "Pending" else ""
        if waits_for:
            reason = f"the scheduler's container cannot start: {waits_for}"
            return await self.failed(namespace, name, status, reason), False
        return status, requeue

    async def failed(
        self, namespace: str, name: str, status: KubeObject, reason: str
    ) -> KubeObject:
        """Remove what there is of a cluster and return the status of a failed one."""
        self.log.warning("Cluster %s.%s failed: %s", namespace, name, reason)
        await self.cleanup_cluster_resources(status, namespace)
        end = {"phase": "Failed", "reason": reason, "completionTime": k8s_timestamp()}
        return {**status, **end}

    async def create_pod(
        self, namespace: str, pod: KubeObject, info: ClusterInfo | None = None
    ) -> Any:
        """Create a worker's pod, and remember why it was refused."""
        try:
            created = await super().create_pod(namespace, pod, info)
        except ApiException as error:
            if info is not None and error.status in REFUSED:
                info.reason = f"Kubernetes refused a worker's pod: {message_of(error.body)}"
            raise
        if info is not None:
            info.reason = ""
        return created

    async def handle_running_cluster(self, cluster: KubeObject) -> tuple[KubeObject, bool]:
        """Scale a cluster; its status says why workers are missing."""
        key = ".".join(cluster["metadata"][part] for part in ("namespace", "name"))
        status, requeue = await super().handle_running_cluster(cluster)
        status.pop("reason", None)
        reason = getattr(self.cluster_info[key], "reason", "")
        return ({**status, "reason": reason} if reason else status), requeue


def main() -> None:
    """Run the controller until it is stopped."""
    ReportingKubeController.launch_instance()
