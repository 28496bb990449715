"""How many replicas serve models: more where requests wait, fewer after a quiet time.

The rule is in annotations of the Deployment, so that it belongs to the chart that makes it.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from coffea_shoppe_contract import identity

from coffea_shoppe_operator import builders
from coffea_shoppe_operator.keys import KeyRing
from coffea_shoppe_operator.models import Queue, Replicas, Settings

LOG = logging.getLogger(__name__)
QUIET_S = 300
"""Requests wait little for so long before a replica goes."""
QUIET_SHARE = 0.5
"""Little: less than this share of the time at which one is added."""
MINIMUM, MAXIMUM, WAIT = (
    f"{identity.GROUP}/{name}" for name in ("min-replicas", "max-replicas", "queue-milliseconds")
)


@dataclass(frozen=True)
class Rule:
    """How many replicas there may be, and how long requests may wait."""

    fewest: int
    most: int
    wait: float
    """Seconds, on average."""

    @classmethod
    def parse(cls, annotations: Mapping[str, str]) -> "Rule | None":
        """Return the rule in a Deployment's annotations, or None where there is none."""
        if WAIT not in annotations:
            return None
        fewest, most = int(annotations[MINIMUM]), int(annotations[MAXIMUM])
        return cls(fewest, most, float(annotations[WAIT]) / 1000)


class Cluster(Protocol):
    """What runs the replicas; `storage.Storage` is the real one."""

    def read_replicas(self, namespace: str, name: str) -> Replicas | None: ...  # noqa: D102
    def write_replicas(self, namespace: str, name: str, count: int) -> None: ...  # noqa: D102


class Server(Protocol):
    """What knows how long requests wait; `triton.Triton` is the real one."""

    def queue(self, token: str) -> Queue: ...  # noqa: D102


class Scaling:
    """The replicas of one Deployment, looked at again and again."""

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

    def look(self, now: float) -> None:
        """Change the number of replicas by one, should it be time to."""
        found = self.cluster.read_replicas(self.settings.namespace, self.deployment)
        rule = Rule.parse(found.annotations) if found else None
        if found is None or rule is None:
            return
        count = min(max(found.wanted, rule.fewest), rule.most)
        # What is on its way comes first: how long requests wait is known afterwards.
        if count == found.wanted == found.ready:
            count += self._step(rule, found.wanted, now)
        if count != found.wanted:
            LOG.info("%s: %d replicas instead of %d", self.deployment, count, found.wanted)
            self.cluster.write_replicas(self.settings.namespace, self.deployment, count)
            self._last = self._quiet_since = None

    def _step(self, rule: Rule, count: int, now: float) -> int:
        """Return 1, 0 or -1: whether one more or one fewer is needed."""
        key = self.keys(now).signing(now)
        admin = builders.admin_token(identity.TRITON_ADMIN, key, self.settings, now=now)
        queue, last = self.server.queue(admin), self._last
        self._last = queue
        # Counts of a replica that is gone are gone with it.
        if last is None or queue.requests < last.requests or queue.seconds < last.seconds:
            return 0
        requests = queue.requests - last.requests
        wait = (queue.seconds - last.seconds) / requests if requests else 0.0
        if wait > rule.wait:
            self._quiet_since = None
            return 1 if count < rule.most else 0
        if wait > rule.wait * QUIET_SHARE:
            self._quiet_since = None
            return 0
        since = self._quiet_since = now if self._quiet_since is None else self._quiet_since
        return -1 if now - since >= QUIET_S and count > rule.fewest else 0
