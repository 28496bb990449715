"""The facility's accounts hold the rights that the other tests had them use, and no others.

What was used stands in the API server's audit log, which goes back to the making of the
cluster: this runs last.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from shoppe_ci import cluster as clusters
from shoppe_ci.cluster import Cluster
from shoppe_ci.engine import Engine

pytestmark = pytest.mark.last

NAMESPACES = ("shoppe", "shoppe-dask")
OURS = ("-l", "app.kubernetes.io/instance=shoppe")


RARE = {
    "shoppe:shoppe-dask-controller: delete gateway.dask.org/daskclusters in shoppe-dask": (
        "what is left of a cluster is removed a day after its end"
    ),
    "shoppe:shoppe-hub: get /persistentvolumeclaims in shoppe": (
        "KubeSpawner looks for a home where a quota of the namespace forbids to make it"
    ),
    "shoppe:shoppe-operator: patch apps/deployments/scale in shoppe": (
        "with triton.autoscaling, which the long suite tests"
    ),
}
"""Rights that these tests have no occasion to use, and when they are."""
LISTED = "shoppe-dask:shoppe-dask-traefik: list "
"""Traefik has watches begin with what is there, and lists it where an API server cannot."""


@dataclass(frozen=True, order=True)
class Right:
    """Something that an account may do; a namespace of '' is all of them."""

    account: str
    verb: str
    resource: str
    """GROUP/RESOURCE, with the subresource where there is one."""
    namespace: str

    def __str__(self) -> str:
        return f"{self.account}: {self.verb} {self.resource} in {self.namespace or 'all'}"


def _rights(role: dict[str, Any], account: str, namespace: str) -> Iterator[Right]:
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                for verb in rule["verbs"]:
                    yield Right(account, verb, f"{group}/{resource}", namespace)


def granted_rights(facility: Cluster) -> set[Right]:
    """Return what the release's roles grant to its service accounts."""
    found: set[Right] = set()
    for kind, where in (
        *(("role", ("-n", namespace)) for namespace in NAMESPACES),
        ("clusterrole", ()),
    ):
        roles = {one["metadata"]["name"]: one for one in facility.get(kind, *where, *OURS)["items"]}
        for binding in facility.get(f"{kind}binding", *where, *OURS)["items"]:
            for subject in binding["subjects"]:
                account = f"{subject['namespace']}:{subject['name']}"
                namespace = binding["metadata"].get("namespace", "")
                found.update(_rights(roles[binding["roleRef"]["name"]], account, namespace))
    return found


def requested_rights(events: list[dict[str, Any]]) -> Iterator[tuple[Right, int]]:
    """Yield what accounts in the release's namespaces asked for, and the status of the response."""
    for event in events:
        *_, namespace, account = event["user"]["username"].split(":")
        what = event.get("objectRef", {})
        if namespace not in NAMESPACES or "resource" not in what:
            continue
        resource = "/".join(filter(None, (what["resource"], what.get("subresource"))))
        right = Right(
            f"{namespace}:{account}",
            event["verb"],
            f"{what.get('apiGroup', '')}/{resource}",
            what.get("namespace", ""),
        )
        yield right, event.get("responseStatus", {}).get("code", 0)


def test_what_is_granted_is_used_and_nothing_is_refused(facility: Cluster, engine: Engine) -> None:
    calls = list(requested_rights(clusters.audited(engine, facility)))
    used = {right for right, status in calls if status < 400 or status in (404, 409)}
    assert len({right.account for right in used}) > 5, "the audit log is empty, or of others"

    def is_used(right: Right) -> bool:
        return right in used or (
            not right.namespace
            and any(
                (u.account, u.verb, u.resource) == (right.account, right.verb, right.resource)
                for u in used
            )
        )

    idle = {str(right) for right in granted_rights(facility) if not is_used(right)}
    idle = {right for right in idle if not right.startswith(LISTED)}
    assert sorted(idle - set(RARE)) == [], "granted, and used by nothing in all these tests"
    refused = sorted({str(right) for right, status in calls if status == 403})
    assert refused == [], "asked for, and not granted"
