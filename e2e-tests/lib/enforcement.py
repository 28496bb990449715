"""Enforces NetworkPolicies on a node whose network does not: for tests only.

The pods of such a cluster are routed through the node, one veth each, so that the node's
packet filter sees every packet between them. Rules are made from the cluster's current
objects, and updated when they change.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import IPv4Network, ip_network
from typing import Any

from shoppe_ci.cluster import Cluster
from shoppe_ci.engine import Engine
from shoppe_ci.errors import ShoppeError

from lib.policies import Pod, peer_is, policies_for, port_is

CHAIN = "SHOPPE-POLICIES"
LOOK_S = 0.5


def pods(cluster: Cluster) -> list[Pod]:
    """Return the cluster's pods that have an address of their own."""
    routed = []
    for pod in cluster.get("pods", "-A")["items"]:
        address = pod["status"].get("podIP", "")
        over = pod["status"]["phase"] in ("Succeeded", "Failed")
        if not address or over or pod["spec"].get("hostNetwork"):
            continue
        ports = {
            port.get("name", str(port["containerPort"])): port["containerPort"]
            for container in pod["spec"]["containers"]
            for port in container.get("ports", ())
        }
        metadata = pod["metadata"]
        labels = metadata.get("labels", {})
        routed.append(Pod(metadata["name"], metadata["namespace"], labels, ports, address))
    return routed


def _addresses(peer: Mapping[str, Any], everybody: list[Pod], namespace: str) -> list[str]:
    """Return the addresses that a peer of a policy in `namespace` stands for."""
    if "ipBlock" not in peer:
        return [f"{pod.address}/32" for pod in everybody if peer_is(peer, pod, namespace)]
    block = ip_network(peer["ipBlock"]["cidr"])
    if not isinstance(block, IPv4Network):
        return []  # the node's network has no other
    parts = [block]
    for cidr in map(IPv4Network, peer["ipBlock"].get("except", ())):
        parts = [
            rest
            for part in parts
            for rest in (part.address_exclude(cidr) if cidr.subnet_of(part) else [part])
        ]
    return [str(part) for part in parts]


def _rules(
    policies: list[dict[str, Any]], direction: str, pod: Pod, everybody: list[Pod]
) -> list[str] | None:
    """Return the matches that a pod's policies let pass; None where none is for it."""
    peers, flag = {"Ingress": ("from", "-s"), "Egress": ("to", "-d")}[direction]
    own = policies_for(policies, direction, pod)
    if not own:
        return None
    matches = []
    for policy in own:
        for rule in policy["spec"].get(direction.lower()) or ():
            named = rule.get(peers)
            sources = [""] if not named else [
                f"{flag} {address}"
                for peer in named
                for address in _addresses(peer, everybody, pod.namespace)
            ]  # fmt: skip
            entries = rule.get("ports")
            if entries and direction == "Egress":
                raise NotImplementedError("ports of egress: a named one is another for each pod")
            numbers = {
                number
                for number in pod.ports.values()
                if entries and any(port_is(entry, pod, number) for entry in entries)
            }
            ports = [f"-p tcp --dport {number}" for number in sorted(numbers)] if entries else [""]
            matches += [f"{source} {port}".strip() for source in sources for port in ports]
    return matches


def table(policies: list[dict[str, Any]], everybody: list[Pod]) -> str:
    """Return the rules for `iptables-restore --noflush`: what no policy lets pass is refused."""
    lines, chains = [], [f":{CHAIN} - [0:0]"]
    lines.append(f"-A {CHAIN} -m conntrack --ctstate ESTABLISHED,RELATED -j RETURN")
    for number, pod in enumerate(everybody):
        for direction, flag in (("Egress", "-s"), ("Ingress", "-d")):
            rules = _rules(policies, direction, pod, everybody)
            if rules is None:
                continue
            chain = f"SHOPPE-{direction[0]}{number}"
            chains.append(f":{chain} - [0:0]")
            lines.append(f"-A {CHAIN} {flag} {pod.address}/32 -j {chain}")
            lines += [f"-A {chain} {rule} -j RETURN".replace("  ", " ") for rule in rules]
            # A reset arrives at once; the kernel limits other replies to one per second.
            lines.append(f"-A {chain} -p tcp -j REJECT --reject-with tcp-reset")
            lines.append(f"-A {chain} -j REJECT")
    return "\n".join(["*filter", *chains, *lines, "COMMIT", ""])


class Agent:
    """Keeps the node's rules as the cluster's policies want them."""

    def __init__(self, engine: Engine, cluster: Cluster) -> None:
        self.engine, self.cluster = engine, cluster
        self._stop = threading.Event()
        self._last = ""
        self.problem = ""

    def _node(self, *words: str, **options: Any) -> str:
        return self.engine.run("exec", "-i", self.cluster.node_id, *words, **options)

    def look(self) -> None:
        """Bring the rules up to date."""
        policies = self.cluster.get("networkpolicies", "-A")["items"]
        rules = table(policies, pods(self.cluster))
        if rules != self._last:
            self._node("iptables-restore", "--noflush", stdin=rules.encode())
            if not self._last:
                self._node("iptables", "-I", "FORWARD", "1", "-j", CHAIN)
            self._last = rules

    def run(self) -> None:
        """Do so until it is stopped; what goes wrong is kept for the test."""
        while not self._stop.wait(LOOK_S):
            try:
                self.look()
            except ShoppeError as error:
                self.problem = str(error)

    def stop(self) -> None:
        """Leave the rules as they are from now on."""
        self._stop.set()

    def clear(self) -> None:
        """Let everything pass again."""
        self._node("iptables", "-D", "FORWARD", "-j", CHAIN)
        self._node("iptables", "-F", CHAIN)


@contextmanager
def enforced(engine: Engine, cluster: Cluster) -> Iterator[Agent]:
    """Have the cluster's NetworkPolicies enforced, and by nobody afterwards."""
    agent = Agent(engine, cluster)
    agent.look()
    thread = threading.Thread(target=agent.run, daemon=True, name="policies")
    thread.start()
    try:
        yield agent
    finally:
        agent.stop()
        thread.join(30)
        agent.clear()
    assert not agent.problem, agent.problem


PROBE = """
for space in $(ip netns | cut -d' ' -f1); do
  own=$(ip netns exec $space ip -4 -o address show scope global | sed 's|.* inet ||; s|/.*||')
  for target in "$@"; do
    if ip netns exec $space timeout 2 bash -c "exec 3<>/dev/tcp/$target" 2>/dev/null; then
      echo "$own $target"
    fi
  done
done
"""


def reached(
    engine: Engine, cluster: Cluster, everybody: Mapping[str, Pod], targets: set[tuple[str, int]]
) -> set[tuple[str, str, int]]:
    """Return which of the targets (name, port) each pod can open a connection to (TCP).

    It is tried from within the pods' networks, on the node, so that it is no matter what
    their images contain.
    """
    names = {pod.address: name for name, pod in everybody.items()}
    words = [f"{everybody[name].address}/{port}" for name, port in sorted(targets)]
    probe = ("exec", cluster.node_id, "bash", "-c", PROBE, "probe", *words)
    connections = set()
    for line in engine.run(*probe, timeout=300).splitlines():
        source, _, target = line.partition(" ")
        address, _, port = target.partition("/")
        if source in names:
            connections.add((names[source], names[address], int(port)))
    return connections
