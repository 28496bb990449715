"""dask-gateway's controller, which writes down why a cluster's pods do not run.

The server's own tells its log alone, and the user waits for ever.  Here the reason
goes into the status of the DaskCluster, and the gateway tells it to the owner.
"""

import sys
from pathlib import Path

from dask_gateway_server.backends.kubernetes.controller import (
    KubeController,
    get_cluster_key,
)
from dask_gateway_server.backends.kubernetes.utils import k8s_timestamp
from kubernetes_asyncio.client.rest import ApiException

sys.path.insert(0, str(Path(__file__).parent))
from refusals import REFUSED, answer, stuck


class ReportingKubeController(KubeController):
    """A controller under which no cluster waits without a word."""

    name = "dask-gateway-server kube-controller"

    def on_pod_update(self, pod, old=None):
        """Look at a cluster again when a pod changes; one that is stuck counts, too."""
        super().on_pod_update(pod, old)
        key = get_cluster_key(pod)
        if key is not None and key not in self.stopped_clusters and stuck(pod):
            self.queue.put(key)

    async def handle_pending_cluster(self, cluster):
        """Bring a cluster up; one whose scheduler cannot start has failed."""
        namespace, name = (cluster["metadata"][key] for key in ("namespace", "name"))
        try:
            status, requeue = await super().handle_pending_cluster(cluster)
        except ApiException as error:
            if error.status not in REFUSED:
                raise
            status = {"credentials": self.make_secret_name(name)}
            reason = f"Kubernetes refused the scheduler's pod: {answer(error.body)}"
            return await self.failed(namespace, name, status, reason), False
        pod = self.informers["pod"].get(f"{namespace}.{status.get('schedulerPod')}")
        waits_for = stuck(pod) if pod and status["phase"] == "Pending" else ""
        if waits_for:
            reason = f"the scheduler's container cannot start: {waits_for}"
            return await self.failed(namespace, name, status, reason), False
        return status, requeue

    async def failed(self, namespace, name, status, reason):
        """Remove what there is of a cluster and return the status of a failed one."""
        self.log.warning("Cluster %s.%s failed: %s", namespace, name, reason)
        await self.cleanup_cluster_resources(status, namespace)
        end = {"phase": "Failed", "reason": reason, "completionTime": k8s_timestamp()}
        return {**status, **end}

    async def create_pod(self, namespace, pod, info=None):
        """Create a worker's pod, and keep in mind why it was refused."""
        try:
            created = await super().create_pod(namespace, pod, info)
        except ApiException as error:
            if info is not None and error.status in REFUSED:
                info.reason = f"Kubernetes refused a worker's pod: {answer(error.body)}"
            raise
        if info is not None:
            info.reason = ""
        return created

    async def handle_running_cluster(self, cluster):
        """Scale a cluster; its status says why workers are missing."""
        key = ".".join(cluster["metadata"][part] for part in ("namespace", "name"))
        status, requeue = await super().handle_running_cluster(cluster)
        status.pop("reason", None)
        reason = getattr(self.cluster_info[key], "reason", "")
        return ({**status, "reason": reason} if reason else status), requeue


if __name__ == "__main__":
    ReportingKubeController.launch_instance()
