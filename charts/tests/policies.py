"""Which pod may talk to which: an evaluator of NetworkPolicies, as the API defines them.

It knows what the facility's policies use: selectors by matchLabels, ipBlocks, named and
numbered ports.  Anything else stops it, so that it cannot be silently wrong.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any


@dataclass(frozen=True)
class Pod:
    """A pod as policies see it."""

    name: str
    namespace: str
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


def _peer(peer: Mapping[str, Any], pod: Pod, namespace: str) -> bool:
    """Return whether a peer of a policy in `namespace` is this pod."""
    if "ipBlock" in peer:
        block = peer["ipBlock"]
        address = ip_address(pod.address)
        inside = address in ip_network(block["cidr"])
        return inside and not any(address in ip_network(cidr) for cidr in block.get("except", ()))
    if "namespaceSelector" in peer:
        if not selected(peer["namespaceSelector"], pod.namespace_labels):
            return False
    elif pod.namespace != namespace:
        return False
    return selected(peer.get("podSelector", {}), pod.labels)


def _port(wanted: Mapping[str, Any], target: Pod, port: int) -> bool:
    if wanted.get("protocol", "TCP") != "TCP" or "endPort" in wanted:
        raise NotImplementedError(f"a port like {wanted}")
    return target.ports.get(wanted["port"], wanted["port"]) == port


def _side(
    policies: list[dict[str, Any]], direction: str, own: Pod, other: Pod, target: Pod, port: int
) -> bool:
    """Return whether one side's policies let a connection pass."""
    peers = {"Ingress": "from", "Egress": "to"}[direction]
    own_policies = [
        policy
        for policy in policies
        if direction in policy["spec"]["policyTypes"]
        and policy["metadata"]["namespace"] == own.namespace
        and selected(policy["spec"]["podSelector"], own.labels)
    ]
    if not own_policies:
        return True
    for policy in own_policies:
        for rule in policy["spec"].get(direction.lower()) or ():
            named = rule.get(peers)
            if named and not any(_peer(peer, other, own.namespace) for peer in named):
                continue
            ports = rule.get("ports")
            if not ports or any(_port(wanted, target, port) for wanted in ports):
                return True
    return False


def allowed(policies: list[dict[str, Any]], source: Pod, target: Pod, port: int) -> bool:
    """Return whether a pod may open a connection to another pod's port.

    Every policy must name its namespace (`metadata.namespace`).
    """
    return _side(policies, "Egress", source, target, target, port) and _side(
        policies, "Ingress", target, source, target, port
    )
