"""What is done beside requests: look-ups, taking back, cleaning up, and pods of transformers.

Several controllers do no harm: each step locks what it works on.
"""

import base64
import logging
import secrets
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import yaml
from coffea_shoppe_contract import identity
from coffea_shoppe_identity import RefusedError

from coffea_shoppe_servicex import finders
from coffea_shoppe_servicex.database import Request
from coffea_shoppe_servicex.delivery import Delivery, OwnPods
from coffea_shoppe_servicex.queries import DECLARED

LOG = logging.getLogger(__name__)
STEP_S = 2
CLEAN_S = 60
ALIVE = Path(tempfile.gettempdir()) / "alive"
"""Touched with each step: what the pod's probe looks at."""
REQUEST_LABEL = f"{identity.GROUP}/servicex-request"
OVERHEAD_MIB = 512
"""What a transformer's own process needs besides a file's transform."""


class Cluster(Protocol):
    """What the controller needs of the cluster; `kubernetes_pods.Kubernetes` is the real one."""

    def replicas(self) -> int:
        """Return how many shared transformers are wanted."""

    def scale(self, replicas: int) -> None:
        """Have so many shared transformers."""

    def pods(self) -> list[dict[str, Any]]:
        """Return the pods of requests' own transformers."""

    def create(self, pod: Mapping[str, Any], secret: Mapping[str, Any]) -> None:
        """Make a pod, and the Secret that goes with it."""

    def delete(self, name: str) -> None:
        """Delete a pod; one that is gone is no error."""


class Controller:
    """Looks after a facility's requests."""

    def __init__(
        self,
        delivery: Delivery,
        *,
        cluster: Cluster | None = None,
        issue: Callable[[str], str] = str,
        revoked: Callable[[], Mapping[str, float]] = dict,
    ) -> None:
        self.delivery, self.cluster, self.revoked = delivery, cluster, revoked
        self.issue = issue
        """Returns the key for the pods of a request."""
        self._cleaned = 0.0
        self._busy = time.monotonic()

    def look_ups(self, stop: threading.Event) -> None:
        """Look datasets up until stopped: one may take minutes, and nothing waits for it."""
        settings = self.delivery.settings.finders
        while not stop.is_set():
            try:
                found = self.delivery.look_up(lambda name: finders.find(name, settings))
            except Exception as error:
                LOG.warning("look-ups: %s: %s", type(error).__name__, error)
                found = False
            if not found:
                stop.wait(STEP_S)

    def run(self, stop: threading.Event) -> None:
        """Do everything else until stopped."""
        threading.Thread(target=self.look_ups, args=(stop,), daemon=True).start()
        while not stop.is_set():
            for step in (self.keep, self.scale, self.own_pods):
                try:
                    step()
                except Exception as error:
                    # The next round tries again; the other steps are not held up.
                    LOG.warning("%s: %s: %s", step.__name__, type(error).__name__, error)
            ALIVE.touch()
            stop.wait(STEP_S)

    def keep(self) -> None:
        """Take back what lost transformers had; clean up now and then."""
        if lost := self.delivery.reap():
            LOG.info("%s files taken back from transformers that are gone", lost)
        try:
            if ended := self.delivery.revoke(self.revoked()):
                LOG.info("keys of %s requests are void: their users' access was revoked", ended)
        except RefusedError as error:
            LOG.warning("revocations: %s", error)
        if time.monotonic() - self._cleaned < CLEAN_S:
            return
        self._cleaned = time.monotonic()
        if orphans := self.delivery.sweep():
            LOG.info("%s objects removed that no file names", len(orphans))
        if forgotten := self.delivery.retain():
            LOG.info("%s requests forgotten: their time is over", forgotten)

    def scale(self) -> None:
        """Have as many shared transformers as the queue needs, within limits."""
        pool = self.delivery.settings.pool
        if not self.cluster or not pool.deployment:
            return
        files, now = self.delivery.waiting(), time.monotonic()
        if files:
            self._busy = now
        wanted = -(-files // pool.files_per_replica)
        wanted = max(pool.min_replicas, min(wanted, pool.max_replicas))
        present = self.cluster.replicas()
        if wanted > present or (wanted < present and now - self._busy > pool.idle_s):
            LOG.info("%s files: %s shared transformers instead of %s", files, wanted, present)
            self.cluster.scale(wanted)

    def own_pods(self) -> None:
        """Have pods for requests that shared transformers do not serve; remove ended ones."""
        settings = self.delivery.settings.own
        if not self.cluster or not settings.namespace:
            return
        wanted = {one.request.id: one for one in self.delivery.own_pods()}
        held = dict.fromkeys(wanted, 0)
        of_user = Counter[str]()
        for pod in self.cluster.pods():
            request = pod["metadata"]["labels"][REQUEST_LABEL]
            ended = pod["status"].get("phase") in ("Succeeded", "Failed")
            if ended or request not in wanted:
                self.cluster.delete(pod["metadata"]["name"])
                continue
            held[request] += 1
            of_user[wanted[request].request.owner] += 1
            if why := _waits(pod):
                self.delivery.note(request, f"its transformer cannot start yet: {why}")
        while sum(held.values()) < settings.max_pods:
            # One after the other, so that users have as many, and a user's requests.
            waiting = [one for key, one in wanted.items() if held[key] < one.files]
            if not waiting:
                break
            one = min(waiting, key=lambda one: (of_user[one.request.owner], held[one.request.id]))
            request, owner = one.request.id, one.request.owner
            try:
                self._make(self.cluster, one)
            except Exception as error:
                # Told to the user; others' pods may be let in all the same.
                told = (str(error).strip().splitlines() or [repr(error)])[0]
                LOG.warning("no pod for request %s: %s", request, error)
                self.delivery.note(request, f"its transformer cannot be started: {told}")
                del wanted[request]
            else:
                held[request] += 1
                of_user[owner] += 1

    def _make(self, cluster: Cluster, one: OwnPods) -> None:
        template = yaml.safe_load(self.delivery.settings.own.template.read_text())
        request = one.request
        name = f"servicex-{request.id[:8]}-{secrets.token_hex(3)}"
        pod, secret = own_pod(
            template, request, name, memory=one.memory, key=self.issue(request.id)
        )
        if self.delivery.settings.own.user_secrets and request.codegen not in DECLARED:
            give_identity(pod, request.owner)
        LOG.info("pod %s for request %s of %s", name, request.id, request.owner)
        cluster.create(pod, secret)


def _waits(pod: Mapping[str, Any]) -> str:
    """Return why a pod has no node yet, or ''."""
    for condition in pod["status"].get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return str(condition.get("message", ""))
    return ""


def own_pod(
    template: dict[str, Any], request: Request, name: str, *, memory: int, key: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a pod of a request's own transformer, and the Secret with its key."""
    labels = {
        **template["metadata"]["labels"],
        REQUEST_LABEL: request.id,
        identity.USER_LABEL: identity.resource_name(request.owner),
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


def give_identity(pod: dict[str, Any], owner: str) -> None:
    """Give a pod that runs a user's function what the user's other pods have of the user."""
    # Optional: a user whom the operator does not know has none.
    volume, mount = identity.mounted(identity.secret_name(owner), optional=True)
    pod["spec"]["volumes"].append(volume)
    pod["spec"]["containers"][0].setdefault("volumeMounts", []).append(mount)
