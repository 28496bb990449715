"""The controller: dataset look-ups, housekeeping, and the number of transformer pods.

Several controllers may run at once: each step locks the rows that it changes.
"""

import base64
import logging
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

import yaml
from coffea_shoppe_contract.names import resource_name, secret_name
from coffea_shoppe_contract.resources import API_GROUP, USER_LABEL, identity_volume
from coffea_shoppe_identity import RefusedError

from coffea_shoppe_servicex import liveness, lookups, turns
from coffea_shoppe_servicex.backend import Backend
from coffea_shoppe_servicex.database import Request
from coffea_shoppe_servicex.models import PodDemand

LOG = logging.getLogger(__name__)
INTERVAL_S = 2
CLEANUP_INTERVAL_S = 60
LOOKUP_INTERVAL_S = 0.5
"""Each request waits for its look-up."""
LOOKUP_THREADS = 4
"""Look-ups at once, of all users."""
REQUEST_LABEL = f"{API_GROUP}/servicex-request"
CANCELED_GRACE_S = 10
"""Grace period of a pod whose request has ended."""
RELEASE_S = 2 * INTERVAL_S
"""Files of a pod that is deleted are released this long before its end."""
WAITING = "waits for a transformer"
"""Beginning of the reason of a request while other users have all dedicated pods."""
OVERHEAD_MIB = 512
"""Memory of a transformer's own process, in addition to that of a transform."""


class Cluster(Protocol):
    """The cluster as the controller needs it; implemented by `kubernetes_pods.Kubernetes`."""

    def replicas(self) -> int:
        """Return the desired number of shared transformers."""

    def scale(self, replicas: int) -> None:
        """Set the desired number of shared transformers."""

    def pods(self) -> list[dict[str, Any]]:
        """Return the dedicated pods of all requests."""

    def create(self, pod: Mapping[str, Any], secret: Mapping[str, Any]) -> None:
        """Create a pod and its Secret."""

    def delete(self, name: str, *, grace_s: int = CANCELED_GRACE_S) -> None:
        """Delete a pod, which may finish its file within the grace period; idempotent."""


class Controller:
    """Repeats all periodic work until it is stopped."""

    def __init__(
        self,
        backend: Backend,
        *,
        cluster: Cluster | None = None,
        issue: Callable[[str], str] = str,
        revoked: Callable[[], Mapping[str, float]] = dict,
    ) -> None:
        self.backend, self.cluster = backend, cluster
        self.issue = issue
        """Returns the key for a request's dedicated pods."""
        self.revoked = revoked
        """Returns the time of revocation (Unix, s) of each revoked uid."""
        self._last_cleanup = 0.0
        self._last_pending = time.monotonic()
        self._last_turn: dict[str, float] = {}
        """User → when the user last had a dedicated pod (monotonic, s)."""

    def look_up_datasets(self, stop: threading.Event) -> None:
        """Look up requests' files until stopped; in threads, since a look-up may take minutes."""
        settings = self.backend.context.settings
        while not stop.is_set():
            try:
                looked_up = self.backend.datasets.look_up(
                    lambda name: lookups.find(name, settings.finders),
                    lambda files: lookups.identify(files, local_files=settings.local_files),
                )
            except Exception as error:
                LOG.warning("look-up: %s: %s", type(error).__name__, error)
                looked_up = False
            if not looked_up:
                stop.wait(LOOKUP_INTERVAL_S)

    def run(self, stop: threading.Event) -> None:
        """Repeat all steps until stopped."""
        for _ in range(LOOKUP_THREADS):
            threading.Thread(target=self.look_up_datasets, args=(stop,), daemon=True).start()
        while not stop.is_set():
            for step in (self.clean_up, self.scale_shared_pool, self.adjust_dedicated_pods):
                try:
                    step()
                except Exception as error:
                    # The other steps continue, and the next round tries this one again.
                    LOG.warning("%s: %s: %s", step.__name__, type(error).__name__, error)
            liveness.report()
            stop.wait(INTERVAL_S)

    def clean_up(self) -> None:
        """End leases, requests and access in each round; remove objects once a minute."""
        if expired := self.backend.queue.expire_leases():
            LOG.info("%s leases expired: their transformers are gone", expired)
        self.backend.housekeeping.end_overdue()
        try:
            if changed := self.backend.users.revoke_access(self.revoked()):
                LOG.info("keys of %s requests revoked with their users' access", changed)
        except RefusedError as error:
            LOG.warning("cannot read the revocation list: %s", error)
        if time.monotonic() - self._last_cleanup < CLEANUP_INTERVAL_S:
            return
        self._last_cleanup = time.monotonic()
        if orphans := self.backend.housekeeping.remove_orphans():
            LOG.info("%s orphaned objects removed", len(orphans))
        if removed := self.backend.housekeeping.remove_expired():
            LOG.info("%s requests removed: deleted, or beyond retention or quota", removed)

    def scale_shared_pool(self) -> None:
        """Scale the shared transformers to the pending files, within the pool's limits."""
        pool = self.backend.context.settings.shared_pool
        if not self.cluster or not pool.deployment:
            return
        pending, now = self.backend.workload.pending_files(), time.monotonic()
        if pending:
            self._last_pending = now
        needed = -(-pending // pool.files_per_replica)
        desired = max(pool.min_replicas, min(needed, pool.max_replicas))
        current = self.cluster.replicas()
        idle = now - self._last_pending > pool.idle_s
        if desired > current or (desired < current and idle):
            LOG.info("%s files: %s shared transformers, not %s", pending, desired, current)
            self.cluster.scale(desired)

    def adjust_dedicated_pods(self) -> None:
        """Delete pods that have ended or are not needed, and create missing ones."""
        settings = self.backend.context.settings.dedicated_pods
        if not self.cluster or not settings.namespace:
            return
        demands = {demand.request.id: demand for demand in self.backend.workload.pod_demands()}
        per_request = dict.fromkeys(demands, 0)
        per_user = Counter[str]()
        pods = []
        for pod in self.cluster.pods():
            request_id = pod["metadata"]["labels"][REQUEST_LABEL]
            ended = pod["status"].get("phase") in ("Succeeded", "Failed")
            if ended or request_id not in demands:
                self.cluster.delete(pod["metadata"]["name"])
                continue
            pods.append(pod)
            per_request[request_id] += 1
            per_user[demands[request_id].request.owner] += 1
            if message := _unschedulable(pod):
                reason = f"its transformer cannot start yet: {message}"
                self.backend.requests.note_delay(request_id, reason)
        self._end_turns(self.cluster, pods, demands)
        now = time.monotonic()
        self._last_turn |= dict.fromkeys(per_user, now)
        while sum(per_request.values()) < settings.max_pods:
            unmet = [demand for key, demand in demands.items() if per_request[key] < demand.files]
            if not unmet:
                break
            # Fair share: first the user with the fewest pods, who has waited longest, then the
            # request with the fewest pods.
            demand = min(
                unmet,
                key=lambda demand: (
                    per_user[demand.request.owner],
                    self._last_turn.get(demand.request.owner, 0.0),
                    per_request[demand.request.id],
                ),
            )
            request_id = demand.request.id
            try:
                self._create_pod(self.cluster, demand)
            except Exception as error:
                # Shown to the user; the pods of other requests may still be accepted.
                message = (str(error).strip().splitlines() or [repr(error)])[0]
                LOG.warning("cannot create a pod for request %s: %s", request_id, error)
                reason = f"its transformer cannot be started: {message}"
                self.backend.requests.note_delay(request_id, reason)
                del demands[request_id]
            else:
                per_request[request_id] += 1
                per_user[demand.request.owner] += 1
                if demand.request.reason.startswith(WAITING):
                    self.backend.requests.note_delay(request_id, "")
        for request_id, demand in demands.items():
            if not per_user[demand.request.owner] and not demand.request.reason:
                reason = f"{WAITING}: other users have all {settings.max_pods} at present"
                self.backend.requests.note_delay(request_id, reason)

    def _end_turns(
        self, cluster: Cluster, pods: Sequence[Mapping[str, Any]], demands: Mapping[str, PodDemand]
    ) -> None:
        """Delete pods for the sake of users who wait, and release the files of those that end."""
        now = self.backend.context.clock()
        limit = self.backend.context.settings.dedicated_pods.max_pods
        deadline_s = int(self.backend.context.settings.limits.deadline_s)
        staying = []
        for pod in pods:
            name, request_id = pod["metadata"]["name"], pod["metadata"]["labels"][REQUEST_LABEL]
            if not (end := pod["metadata"].get("deletionTimestamp")):
                age_s = now - _unix_time(pod["metadata"].get("creationTimestamp"), now)
                staying.append(turns.Turn(name, demands[request_id].request.owner, age_s))
            elif _unix_time(end, now) - now < RELEASE_S:
                self.backend.queue.release(name, request_id)
        open_files = Counter[str]()
        for demand in demands.values():
            open_files[demand.request.owner] += demand.files
        ends = turns.ends(staying, open_files, free=limit - len(staying), limit=limit)
        for names, grace_s in (
            (ends.soon, turns.TURN_S),
            (ends.after_file, deadline_s + turns.TURN_S),
        ):
            for name in names:
                LOG.info("pod %s ends within %s s: another user waits", name, grace_s)
                cluster.delete(name, grace_s=grace_s)

    def _create_pod(self, cluster: Cluster, demand: PodDemand) -> None:
        settings, request = self.backend.context.settings.dedicated_pods, demand.request
        template = yaml.safe_load(settings.template.read_text())
        name = f"servicex-{request.id[:8]}-{secrets.token_hex(3)}"
        key = self.issue(request.id)
        pod, secret = dedicated_pod(template, request, name, memory=demand.memory, key=key)
        declared = self.backend.context.codegens.is_declared(request.codegen)
        if settings.user_secrets and not declared:
            mount_user_secret(pod, request.owner)
        LOG.info("pod %s for request %s of %s", name, request.id, request.owner)
        cluster.create(pod, secret)


def _unix_time(text: str | None, default: float) -> float:
    """Return a time of Kubernetes (ISO 8601) as Unix time in seconds."""
    return datetime.fromisoformat(text).timestamp() if text else default


def _unschedulable(pod: Mapping[str, Any]) -> str:
    """Return why the scheduler finds no node for a pod, or ''."""
    for condition in pod["status"].get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return str(condition.get("message", ""))
    return ""


def dedicated_pod(
    template: dict[str, Any], request: Request, name: str, *, memory: int, key: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the pod of a dedicated transformer and the Secret with its key.

    `memory` is that of a transform, in MiB.
    """
    labels = {
        **template["metadata"]["labels"],
        REQUEST_LABEL: request.id,
        USER_LABEL: resource_name(request.owner),
    }
    pod = {**template, "metadata": {"name": name, "labels": labels}}
    container = pod["spec"]["containers"][0]
    container["args"] = [*container["args"], f"--memory={memory}"]
    limit = f"{memory + OVERHEAD_MIB}Mi"
    container["resources"] = {
        "requests": {**container["resources"]["requests"], "memory": f"{OVERHEAD_MIB}Mi"},
        "limits": {**container["resources"].get("limits", {}), "memory": limit},
    }
    for volume in pod["spec"]["volumes"]:
        if volume["name"] == "key":
            volume["secret"] = {"secretName": name, "defaultMode": 0o440}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": labels},
        "type": "Opaque",
        "data": {"key": base64.b64encode(key.encode()).decode()},
    }
    return pod, secret


def mount_user_secret(pod: dict[str, Any], owner: str) -> None:
    """Mount a user's Secret (tokens, connections) in a pod that runs the user's function."""
    # Optional: the operator may not know this user, who then has no Secret.
    volume, mount = identity_volume(secret_name(owner), optional=True)
    pod["spec"]["volumes"].append(volume)
    pod["spec"]["containers"][0].setdefault("volumeMounts", []).append(mount)
