"""dask-gateway's Kubernetes backend: limits per user, guarded dashboards, reasons told."""

import asyncio
import re
import sys
import time
from pathlib import Path

from aiohttp import web
from coffea_shoppe_contract import identity
from dask_gateway_server.auth import unauthorized
from dask_gateway_server.backends.base import PublicException
from dask_gateway_server.backends.kubernetes import KubeBackend
from dask_gateway_server.models import ClusterStatus, User
from kubernetes_asyncio.client.exceptions import ApiException
from traitlets import Any, Unicode

sys.path.insert(0, str(Path(__file__).parent))
from limits import Use, granted, of_user, refusal

LIMITS_S = 10
"""A user's limits are looked up so often, while they are needed."""

DASHBOARD = re.compile(r"/clusters/(?P<cluster>[a-z0-9-]+\.[0-9a-f]{32})(/|$)")


def use_of(config: dict, workers: int) -> Use:
    """Return what a cluster of this configuration holds with so many workers."""
    return Use(workers, config["worker_cores_limit"], config["worker_memory_limit"])


class LimitedKubeBackend(KubeBackend):
    """A Kubernetes backend under which no user exceeds the facility's limits.

    The server knows a limit per cluster only; users' sums are kept here, in the
    one process that all starts and all scaling go through.
    """

    limits = Any(help="what one user may hold (a `Limits`)", config=True)
    facility_users = Unicode(
        help="namespace of the users' resources, should they tell limits", config=True
    )

    async def setup(self, app):
        """Add the check that guards dashboards, then start as usual."""
        self.starting = asyncio.Lock()
        self.fresh = {}
        self.replicas = {}
        self.told = {}
        self.authenticator = app["authenticator"]
        app.router.add_get("/api/dashboards/authorize", self.authorize_dashboard)
        app.middlewares.append(self.tell_reason)
        await super().setup(app)

    async def active(self, username):
        """Return the names of a user's clusters, those not yet seen by the informer too."""
        listed = {cluster.name for cluster in await self.list_clusters(username=username)}
        self.fresh = {n: u for n, u in self.fresh.items() if n not in self.clusters}
        return listed | {name for name, owner in self.fresh.items() if owner == username}

    async def limits_of(self, username):
        """Return what a user may hold: as the user's resource says, else the gateway's limits."""
        if not self.facility_users:
            return self.limits
        looked, found = self.told.get(username, (float("-inf"), self.limits))
        if time.monotonic() - looked < LIMITS_S:
            return found
        try:
            body = await self.custom_client.get_namespaced_custom_object(
                *(identity.GROUP, identity.VERSION, self.facility_users, identity.USERS),
                identity.resource_name(username),
            )
            found = of_user(body.get("status") or {}, self.limits)
        except ApiException as error:
            if error.status == 404:
                found = self.limits
            else:
                self.log.warning("The limits of %s cannot be read: %s", username, error.reason)
        self.told[username] = time.monotonic(), found
        return found

    async def start_cluster(self, user, cluster_options):
        """Start a cluster, or refuse with a reason that the client shows."""
        async with self.starting:
            _, config = await self.process_cluster_options(user, cluster_options)
            clusters = await self.active(user.name)
            limits = await self.limits_of(user.name)
            reason = refusal(limits, len(clusters), use_of(config.to_dict(), 1))
            if reason:
                raise PublicException(reason)
            name = await super().start_cluster(user, cluster_options)
            self.fresh[name] = user.name
            return name

    async def on_cluster_heartbeat(self, cluster_name, msg):
        """Grant the workers a scheduler asks for, as far as its user's limits go."""
        cluster = self.clusters.get(cluster_name)
        if cluster is not None:
            others = [
                use_of(other.config, self.replicas.get(other.name, 0))
                for other in await self.list_clusters(username=cluster.username)
                if other.name != cluster_name
            ]
            limits = await self.limits_of(cluster.username)
            count = granted(limits, others, use_of(cluster.config, msg["count"]))
            if count < msg["count"]:
                self.log.info(
                    "Cluster %s of %s asks for %d workers; the user's limits leave %d",
                    *(cluster_name, cluster.username, msg["count"], count),
                )
            msg = {**msg, "count": count}
            self.replicas[cluster_name] = count
        self.replicas = {n: k for n, k in self.replicas.items() if n in self.clusters}
        await super().on_cluster_heartbeat(cluster_name, msg)

    @web.middleware
    async def tell_reason(self, request, handler):
        """Tell the owner who waits for a cluster or scales it why its pods do not run.

        The client shows the text of a conflict (409) as its error; of a failed
        cluster's report it shows nothing but that it failed.
        """
        response = await handler(request)
        waits = request.method == "GET" and "wait" in request.query
        scales = request.method == "POST" and request.path.endswith("/scale")
        # Only those who may see the cluster have got this far.
        if response.status == 200 and (waits or scales):
            name = request.match_info.get("cluster_name", "")
            status = (self.informer.get(name) or {}).get("status", {})
            failed = status.get("phase") == "Failed"
            if status.get("reason") and (failed or scales):
                problem = f"Dask cluster {name}: {status['reason']}"
                return web.json_response({"error": problem}, status=409)
        return response

    async def authorize_dashboard(self, request):
        """Answer Traefik's question whether a request may see a dashboard.

        The owner of the cluster and the hub's administrators may; the request
        shows who asks by a hub token, as `Authorization: token …`, or Traefik
        has asked the facility's front whose browser it is, which knows owners only.
        """
        match = DASHBOARD.search(request.headers.get("X-Forwarded-Uri", ""))
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        if name := request.headers.get("X-Forwarded-User"):
            user = User(name)
        elif kind.lower() in ("token", "bearer", "jupyterhub") and token:
            asking = request.clone(headers={"Authorization": f"jupyterhub {token}"})
            user = await self.authenticator.authenticate(asking)
        else:
            raise unauthorized("jupyterhub")
        cluster = self.clusters.get(match["cluster"]) if match else None
        if cluster is None or cluster.status > ClusterStatus.RUNNING:
            raise web.HTTPNotFound(reason="no such Dask cluster")
        if user.name != cluster.username and not user.admin:
            raise web.HTTPForbidden(reason=f"this Dask cluster is not {user.name}'s")
        return web.Response()
