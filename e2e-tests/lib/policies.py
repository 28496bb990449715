"""Which pod may talk to which: an evaluator of NetworkPolicies, as the API defines them.

It knows what the facility's policies use: selectors by matchLabels, ipBlocks, named and
numbered ports.  Anything else stops it, so that it cannot be silently wrong.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

from shoppe_ci.paths import ROOT

TABLE = ROOT / "docs" / "reference" / "connections.md"
STRANGERS = ("neighbour", "stranger")
"""Pods that do not belong to the release, in its namespace and in another one."""


@dataclass(frozen=True)
class Pod:
    """A pod, or what is outside of the cluster, as policies see it."""

    name: str
    namespace: str
    """'' outside of the cluster, where addresses alone count."""
    labels: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=dict)
    """Name → number."""
    address: str = "10.244.0.7"

    @property
    def namespace_labels(self) -> dict[str, str]:
        """Return what every namespace is labelled with."""
        return {"kubernetes.io/metadata.name": self.namespace}


def selected(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Return whether a selector chooses something with these labels; an empty one chooses all."""
    unknown = set(selector) - {"matchLabels"}
    if unknown:
        raise NotImplementedError(f"a selector with {unknown}")
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())


def peer_is(peer: Mapping[str, Any], pod: Pod, namespace: str) -> bool:
    """Return whether a peer of a policy in `namespace` is this pod."""
    if "ipBlock" in peer:
        block = peer["ipBlock"]
        address = ip_address(pod.address)
        inside = address in ip_network(block["cidr"])
        return inside and not any(address in ip_network(cidr) for cidr in block.get("except", ()))
    if not pod.namespace:
        return False
    if "namespaceSelector" in peer:
        if not selected(peer["namespaceSelector"], pod.namespace_labels):
            return False
    elif pod.namespace != namespace:
        return False
    return selected(peer.get("podSelector", {}), pod.labels)


def port_is(entry: Mapping[str, Any], target: Pod, port: int) -> bool:
    """Return whether an entry of a policy's `ports` allows this port of a pod."""
    if entry.get("protocol", "TCP") != "TCP" or "endPort" in entry:
        raise NotImplementedError(f"a port like {entry}")
    return bool(target.ports.get(entry["port"], entry["port"]) == port)


def policies_for(policies: list[dict[str, Any]], direction: str, pod: Pod) -> list[dict[str, Any]]:
    """Return the policies that say what a pod may do: `Ingress` or `Egress`.

    Where there is none, it may do everything.
    """
    return [
        policy
        for policy in policies
        if direction in policy["spec"]["policyTypes"]
        and policy["metadata"]["namespace"] == pod.namespace
        and selected(policy["spec"]["podSelector"], pod.labels)
    ]


def _side(
    policies: list[dict[str, Any]], direction: str, own: Pod, other: Pod, target: Pod, port: int
) -> bool:
    """Return whether one side's policies let a connection pass."""
    peers = {"Ingress": "from", "Egress": "to"}[direction]
    own_policies = policies_for(policies, direction, own)
    if not own_policies:
        return True
    for policy in own_policies:
        for rule in policy["spec"].get(direction.lower()) or ():
            named = rule.get(peers)
            if named and not any(peer_is(peer, other, own.namespace) for peer in named):
                continue
            ports = rule.get("ports")
            if not ports or any(port_is(entry, target, port) for entry in ports):
                return True
    return False


def allowed(policies: list[dict[str, Any]], source: Pod, target: Pod, port: int) -> bool:
    """Return whether a pod may open a connection to another pod's port.

    Every policy must name its namespace (`metadata.namespace`).
    """
    return _side(policies, "Egress", source, target, target, port) and _side(
        policies, "Ingress", target, source, target, port
    )


def documented(everybody: Mapping[str, Pod], namespace: str) -> set[tuple[str, str, int]]:
    """Return the (from, to, port) that the documentation lists for a release.

    `everybody` are its pods by component, and the `STRANGERS`; `namespace` is the release's.
    """
    own = [name for name in everybody if name not in STRANGERS]
    here = [name for name in own if everybody[name].namespace == namespace]
    # The monitoring's pods are not of the release.
    groups = {"all": own, "here": here, "anybody": [*own, *STRANGERS], "monitoring": []}
    connections = set()
    for line in TABLE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and cells[2][0].isdigit():
            sources = groups.get(cells[0], [cells[0]])
            connections |= {(s, cells[1], int(port)) for s in sources for port in cells[2].split()}
    return connections
