"""dask-gateway's Kubernetes backend, with limits for each user and guarded dashboards.

Users see why their clusters do not run.
"""

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from coffea_shoppe_contract.listening import every_address
from coffea_shoppe_contract.names import resource_name
from coffea_shoppe_contract.resources import (
    API_GROUP,
    API_VERSION,
    FACILITY_USERS,
    SERVER_IMAGES_ANNOTATION,
)
from dask_gateway_server.auth import unauthorized
from dask_gateway_server.backends.base import PublicException
from dask_gateway_server.backends.kubernetes import KubeBackend
from dask_gateway_server.models import ClusterStatus, User
from kubernetes_asyncio.client.exceptions import ApiException
from prometheus_client import start_http_server
from traitlets import Dict, Instance, Integer, Unicode

from coffea_shoppe_gateway.clusters import SERVER_IMAGES, complete, without_own_image
from coffea_shoppe_gateway.limits import Limits, Use, granted, limits_in, refusal
from coffea_shoppe_gateway.metrics import ClusterEvents

MAX_AGE_S = 10
"""A user's resource is read again when it was read longer ago than this."""

LARGEST_BODY = 256 * 2**10
"""Bytes of a request: a scheduler's heartbeat names its workers, thousands of them."""
BODY_S = 20
"""A body arrives within this time."""

DASHBOARD = re.compile(r"/clusters/(?P<cluster>[a-z0-9-]+\.[0-9a-f]{32})(/|$)")


@dataclass(frozen=True)
class Profile:
    """What a user's resource says of the user's clusters."""

    limits: Limits
    images: frozenset[str] = frozenset()
    """Of the user's servers."""


def server_images(resource: Mapping[str, Any]) -> frozenset[str]:
    """Return the images of a user's servers, which the hub notes at the user's resource."""
    annotations = resource["metadata"].get("annotations") or {}
    return frozenset(json.loads(annotations.get(SERVER_IMAGES_ANNOTATION, "[]")))


def use_of(config: Mapping[str, Any], workers: int) -> Use:
    """Return what a Dask cluster of this configuration uses with that many workers."""
    return Use(workers, config["worker_cores_limit"], config["worker_memory_limit"])


def check_owner(user: str, owner: str) -> None:
    """Raise `PublicException` unless what a cluster's pods would mount is the user's own."""
    if owner != user:
        raise PublicException(
            f"the name {user!r} is too similar to another user's: your pods would have their "
            "tokens; ask the facility's administrators for another name"
        )


@web.middleware
async def limit_body(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Read the body of a request before it is served: not above a size, and not for long."""
    if request.can_read_body:
        request = request.clone(client_max_size=LARGEST_BODY)
        try:
            async with asyncio.timeout(BODY_S):
                await request.read()
        except TimeoutError as error:
            reason = f"the body did not arrive within {BODY_S} s"
            raise web.HTTPRequestTimeout(reason=reason) from error
    return await handler(request)


class LimitedKubeBackend(KubeBackend):
    """A Kubernetes backend under which no user exceeds the facility's limits.

    dask-gateway has limits for each cluster only; a user's sums are kept here, in the one
    process that starts and scales all clusters.
    """

    limits = Instance(Limits, help="what a user may use").tag(config=True)
    facility = Dict(help="the settings, for what each pod of a cluster has").tag(config=True)
    facility_users = Unicode(
        help="namespace of the users' resources, whose limits come first; '' for none"
    ).tag(config=True)
    metrics_port = Integer(0, help="port for Prometheus; 0 for none").tag(config=True)

    async def setup(self, app: web.Application) -> None:
        """Add the check that guards dashboards, serve metrics, then start as usual."""
        self.starting = asyncio.Lock()
        self.started: dict[str, str] = {}
        """Dask clusters that the informer may not have seen yet → their owners."""
        self.replicas: dict[str, int] = {}
        """Dask cluster → how many workers it was granted."""
        self.profiles: dict[str, tuple[float, Profile]] = {}
        """User → when the resource was read (monotonic), and what it said."""
        self.events = ClusterEvents()
        self.metrics_server = None
        if self.metrics_port:
            self.metrics_server, _ = start_http_server(
                self.metrics_port, every_address(), registry=self.events.registry
            )
        self.authenticator = app["authenticator"]
        app.router.add_get("/api/dashboards/authorize", self.authorize_dashboard)
        app.middlewares.extend((limit_body, self.show_reason))
        await super().setup(app)

    async def cleanup(self) -> None:
        """Stop as usual, and the server of metrics, too."""
        await super().cleanup()
        if self.metrics_server is not None:
            await asyncio.to_thread(self.metrics_server.shutdown)
            self.metrics_server.server_close()

    async def sync_cluster(self, cluster_name: str) -> None:
        """Take over what Kubernetes says of a cluster, and count it if it has ended since."""
        before = self.clusters.get(cluster_name)
        await super().sync_cluster(cluster_name)
        after = self.clusters.get(cluster_name)
        # Clusters that had ended before the gateway started are none of its own.
        if before is None:
            unfinished = cluster_name in self.started
        else:
            unfinished = before.status < ClusterStatus.STOPPED
        if unfinished and (after is None or after.status >= ClusterStatus.STOPPED):
            self.events.ended(after and after.status)

    async def active(self, username: str) -> set[str]:
        """Return the names of a user's clusters, with those that the informer has not seen yet."""
        listed = {cluster.name for cluster in await self.list_clusters(username=username)}
        self.started = {n: owner for n, owner in self.started.items() if n not in self.clusters}
        return listed | {name for name, owner in self.started.items() if owner == username}

    async def profile_of(self, username: str, max_age: float | None = None) -> Profile:
        """Return what the user's resource says, at most `max_age` seconds ago.

        Where it has no limits, they are the gateway's.  Raises `PublicException` where the resource
        is another user's: names that differ may share the name of their resource, and the pods
        would mount the other user's Secret.
        """
        default = Profile(self.limits)
        if not self.facility_users:
            return default
        read_at, profile = self.profiles.get(username, (float("-inf"), default))
        if time.monotonic() - read_at < (MAX_AGE_S if max_age is None else max_age):
            return profile
        try:
            resource = await self.custom_client.get_namespaced_custom_object(
                *(API_GROUP, API_VERSION, self.facility_users, FACILITY_USERS),
                resource_name(username),
            )
            check_owner(username, (resource.get("spec") or {}).get("username", username))
            profile = Profile(
                limits_in(resource.get("status") or {}, self.limits), server_images(resource)
            )
        except ApiException as error:
            if error.status == 404:
                profile = default
            else:
                self.log.warning("The limits of %s cannot be read: %s", username, error.reason)
        self.profiles[username] = time.monotonic(), profile
        return profile

    async def process_cluster_options(self, user: User, request: Any) -> tuple[Any, Any]:
        """Return the options, and a configuration with the user's tokens and labels.

        Options and their handlers may be the administrator's own.
        """
        profile = await self.profile_of(user.name, max_age=0)
        images = SERVER_IMAGES.set(profile.images)
        try:
            options = await self.get_cluster_options(user)
            request = without_own_image(request, options, self.facility["notebookImage"])
            requested, cluster = await super().process_cluster_options(user, request)
        finally:
            SERVER_IMAGES.reset(images)
        complete(cluster, self.facility, user.name)
        return requested, cluster

    async def start_cluster(self, user: User, cluster_options: dict[str, Any]) -> str:
        """Start a cluster, or refuse with a reason that the client shows."""
        async with self.starting:
            _, config = await self.process_cluster_options(user, cluster_options)
            clusters = await self.active(user.name)
            limits = (await self.profile_of(user.name)).limits
            reason = refusal(limits, len(clusters), use_of(config.to_dict(), 1))
            if reason:
                raise PublicException(reason)
            name: str = await super().start_cluster(user, cluster_options)
            self.started[name] = user.name
            self.events.created()
            return name

    async def on_cluster_heartbeat(self, cluster_name: str, msg: dict[str, Any]) -> None:
        """Grant the workers that a scheduler requests, as far as its user's limits go."""
        cluster = self.clusters.get(cluster_name)
        if cluster is not None:
            others = [
                use_of(other.config, self.replicas.get(other.name, 0))
                for other in await self.list_clusters(username=cluster.username)
                if other.name != cluster_name
            ]
            limits = (await self.profile_of(cluster.username)).limits
            count = granted(limits, others, use_of(cluster.config, msg["count"]))
            if count < msg["count"]:
                self.log.info(
                    "Cluster %s of %s requests %d workers; the user's limits leave %d",
                    *(cluster_name, cluster.username, msg["count"], count),
                )
            msg = {**msg, "count": count}
            self.replicas[cluster_name] = count
        self.replicas = {n: count for n, count in self.replicas.items() if n in self.clusters}
        await super().on_cluster_heartbeat(cluster_name, msg)

    @web.middleware
    async def show_reason(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        """Return to an owner who creates or scales a cluster why its pods do not run.

        The client shows the text of a conflict (409) as its error; of a failed cluster's
        report it shows only that it failed.
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

    async def authorize_dashboard(self, request: web.Request) -> web.Response:
        """Return to Traefik whether a request may see a dashboard.

        The owner of the cluster and the hub's administrators may.  Either the request brings
        a hub token, as `Authorization: token …`, or Traefik has learned from the facility API
        whose browser it is, and names the user in a header.
        """
        match = DASHBOARD.search(request.headers.get("X-Forwarded-Uri", ""))
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        if name := request.headers.get("X-Forwarded-User"):
            user = User(name)
        elif kind.lower() in ("token", "bearer", "jupyterhub") and token:
            by_token = request.clone(headers={"Authorization": f"jupyterhub {token}"})
            user = await self.authenticator.authenticate(by_token)
        else:
            raise unauthorized("jupyterhub")
        cluster = self.clusters.get(match["cluster"]) if match else None
        if cluster is None or cluster.status > ClusterStatus.RUNNING:
            raise web.HTTPNotFound(reason="no such Dask cluster")
        if user.name != cluster.username and not user.admin:
            raise web.HTTPForbidden(reason=f"this Dask cluster is not {user.name}'s")
        return web.Response()
