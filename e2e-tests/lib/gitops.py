"""Syncs of rendered charts as Argo CD does them: hooks in order, then the rest, then pruning."""

from collections.abc import Iterable
from typing import Any

import yaml
from shoppe_ci.cluster import Cluster

Manifest = dict[str, Any]

HOOK, WEIGHT = "helm.sh/hook", "helm.sh/hook-weight"
DELETE_POLICY, RESOURCE_POLICY = "helm.sh/hook-delete-policy", "helm.sh/resource-policy"
PRE_SYNC = {"pre-install", "pre-upgrade"}
"""Hooks that Argo CD runs before each sync."""
JOB_TIMEOUT_S = 240


def sync(
    cluster: Cluster, rendered: str, namespace: str, *, previous: Iterable[Manifest] = ()
) -> list[Manifest]:
    """Make the cluster match what `helm template` printed, and return its objects.

    `previous` are the objects of the last sync: those that are gone are pruned, unless they are
    kept by their resource policy.
    """
    manifests = [document for document in yaml.safe_load_all(rendered) if document]
    hooks = sorted((m for m in manifests if _hooks(m) & PRE_SYNC), key=_weight)
    for hook in hooks:
        if "before-hook-creation" in _annotation(hook, DELETE_POLICY):
            _delete(cluster, hook, namespace)
        _apply(cluster, [hook], namespace)
        if hook["kind"] == "Job":
            name = f"job/{hook['metadata']['name']}"
            wait = ("wait", "--for=condition=complete", f"--timeout={JOB_TIMEOUT_S}s")
            cluster.kubectl("-n", namespace, *wait, name)
    for hook in hooks:
        if "hook-succeeded" in _annotation(hook, DELETE_POLICY):
            _delete(cluster, hook, namespace)
    objects = [manifest for manifest in manifests if not _hooks(manifest)]
    _apply(cluster, objects, namespace)
    present = {_identity(manifest) for manifest in objects}
    for manifest in previous:
        kept = _annotation(manifest, RESOURCE_POLICY) == "keep"
        if _identity(manifest) not in present and not kept:
            _delete(cluster, manifest, namespace)
    return objects


def _annotation(manifest: Manifest, name: str) -> str:
    return str((manifest["metadata"].get("annotations") or {}).get(name, ""))


def _hooks(manifest: Manifest) -> set[str]:
    return {hook for hook in _annotation(manifest, HOOK).split(",") if hook}


def _weight(manifest: Manifest) -> int:
    return int(_annotation(manifest, WEIGHT) or 0)


def _identity(manifest: Manifest) -> tuple[str, str]:
    return manifest["kind"], manifest["metadata"]["name"]


def _apply(cluster: Cluster, manifests: list[Manifest], namespace: str) -> None:
    text = yaml.safe_dump_all(manifests).encode()
    cluster.kubectl("-n", namespace, "apply", "--server-side", "-f", "-", stdin=text)


def _delete(cluster: Cluster, manifest: Manifest, namespace: str) -> None:
    kind, name = _identity(manifest)
    cluster.kubectl("-n", namespace, "delete", kind, name, "--ignore-not-found", "--wait=true")
