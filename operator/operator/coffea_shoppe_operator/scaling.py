"""Scaling of Triton: a replica is added while requests queue, and removed after a quiet time.

The rule is in annotations of the Deployment and so belongs to its chart.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from coffea_shoppe_contract.claims import TRITON_ADMIN
from coffea_shoppe_contract.resources import API_GROUP

from coffea_shoppe_operator import signing
from coffea_shoppe_operator.keys import KeyRing
from coffea_shoppe_operator.models import Queue, Replicas, Settings

LOG = logging.getLogger(__name__)
QUIET_S = 300
"""Time with little queueing after which a replica is removed."""
QUIET_SHARE = 0.5
"""Little: less than this share of the queueing time at which one is added."""
MINIMUM, MAXIMUM, WAIT = (
    f"{API_GROUP}/{name}" for name in ("min-replicas", "max-replicas", "queue-milliseconds")
)


@dataclass(frozen=True)
class Rule:
    """Limits of the number of replicas, and the queueing time from which one is added."""

    minimum: int
    maximum: int
    wait: float
    """Average queueing time in seconds."""

    @classmethod
    def parse(cls, annotations: Mapping[str, str]) -> "Rule | None":
        """Return the rule in a Deployment's annotations, or None."""
        if WAIT not in annotations:
            return None
        minimum, maximum = int(annotations[MINIMUM]), int(annotations[MAXIMUM])
        return cls(minimum, maximum, float(annotations[WAIT]) / 1000)


class Cluster(Protocol):
    """What scales a Deployment; `storage.Storage` is the real one."""

    def read_replicas(self, namespace: str, name: str) -> Replicas | None: ...  # noqa: D102
    def write_replicas(self, namespace: str, name: str, count: int) -> None: ...  # noqa: D102


class Server(Protocol):
    """What measures queueing; `clients.triton.Triton` is the real one."""

    def queue(self, token: str) -> Queue: ...  # noqa: D102


class Scaling:
    """The replicas of one Deployment, reconciled periodically."""

    def __init__(
        self,
        settings: Settings,
        deployment: str,
        *,
        keys: Callable[[float], KeyRing],
        cluster: Cluster,
        server: Server,
    ) -> None:
        self.settings, self.deployment, self.keys = settings, deployment, keys
        self.cluster, self.server = cluster, server
        self._last: Queue | None = None
        self._quiet_since: float | None = None

    def reconcile(self, now: float) -> None:
        """Change the number of replicas by one if the rule requires it."""
        replicas = self.cluster.read_replicas(self.settings.namespace, self.deployment)
        rule = Rule.parse(replicas.annotations) if replicas else None
        if replicas is None or rule is None:
            return
        count = min(max(replicas.desired, rule.minimum), rule.maximum)
        # Wait until all replicas are ready: queueing before that proves nothing.
        if count == replicas.desired == replicas.ready:
            count += self._step(rule, replicas.desired, now)
        if count != replicas.desired:
            LOG.info("%s: %d replicas instead of %d", self.deployment, count, replicas.desired)
            self.cluster.write_replicas(self.settings.namespace, self.deployment, count)
            self._last = self._quiet_since = None

    def _step(self, rule: Rule, count: int, now: float) -> int:
        """Return the change in the number of replicas: 1, 0 or -1."""
        key = self.keys(now).signing(now)
        admin = signing.admin_token(TRITON_ADMIN, key, self.settings, now=now)
        queue, last = self.server.queue(admin), self._last
        self._last = queue
        # The counts of a removed replica disappear.
        if last is None or queue.requests < last.requests or queue.seconds < last.seconds:
            return 0
        requests = queue.requests - last.requests
        wait = (queue.seconds - last.seconds) / requests if requests else 0.0
        if wait > rule.wait:
            self._quiet_since = None
            return 1 if count < rule.maximum else 0
        if wait > rule.wait * QUIET_SHARE:
            self._quiet_since = None
            return 0
        since = self._quiet_since = now if self._quiet_since is None else self._quiet_since
        return -1 if now - since >= QUIET_S and count > rule.minimum else 0
