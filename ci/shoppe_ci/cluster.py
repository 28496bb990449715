"""The kind cluster and its registry."""

import json
import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import requests
import yaml

from shoppe_ci import images, machine, nodeimage, shell, toolchain
from shoppe_ci.engine import Engine
from shoppe_ci.errors import ShoppeError
from shoppe_ci.kubectl import Kubectl
from shoppe_ci.paths import TOOLCHAIN, cache
from shoppe_ci.progress import say, step
from shoppe_ci.wait import eventually

REGISTRY = "coffea-shoppe-registry"
REGISTRY_LABEL = "coffea-shoppe=registry"
HTTP_NODE_PORT = 30080
DATA_IN_NODE = "/shoppe-data"
AUDIT_POLICY = TOOLCHAIN / "cluster" / "audit-policy.yaml"
AUDIT_POLICY_IN_NODE = "/shoppe-audit-policy.yaml"
AUDIT_IN_NODE = "/var/log/shoppe-audit"
SECONDS = len("2026-01-01T00:00:00")
"""Length of a time in UTC whose fractions of a second are cut off."""
API_SERVER = "kubernetes.io/service-name=kubernetes"
"""Selects the EndpointSlices of the API server."""
SYSTEM_NAMESPACES = ("kube-system", "local-path-storage")
"""Namespaces of a kind cluster's own pods."""
RESTART_TIMEOUT_S = 300
"""Time limit of a stopped cluster until its own pods are ready again."""
AUDIT_MIB = 100
"""Maximum size of a log file; three older ones are kept."""

PATIENT = {
    "kind": "InitConfiguration",
    "timeouts": {"controlPlaneComponentHealthCheck": "8m0s", "kubernetesAPICall": "5m0s"},
}
"""A patch of kubeadm's configuration for a machine under load."""


@dataclass(frozen=True)
class Cluster(Kubectl):
    """A cluster that this command created: its name, address and data folder."""

    name: str
    node_id: str
    http_port: int
    source: str
    forward_port: int = 0
    """A port of this machine that was free at the creation, to forward a service to."""

    @property
    def folder(self) -> Path:
        """Return the folder with the cluster's kubeconfig and state."""
        return cache("clusters", self.name)

    @property
    def kubeconfig(self) -> Path:
        """Return the path of the cluster's own kubeconfig file."""
        return self.folder / "kubeconfig"

    @property
    def data(self) -> Path:
        """Return the host's folder that the origin inside the cluster serves."""
        return self.folder / "data"

    @property
    def url(self) -> str:
        """Return the address of the facility on this machine."""
        return f"http://127.0.0.1:{self.http_port}"

    def environment(self) -> dict[str, str]:
        """Return the environment in which kubectl and helm talk to this cluster."""
        # Without HOME their cache would be in the folder in which they run.
        folder = self.kubeconfig.parent / "api-cache"
        path = toolchain.search_path()
        return {"KUBECONFIG": str(self.kubeconfig), "KUBECACHEDIR": str(folder), "PATH": path}


def _node(engine: Engine, name: str) -> str:
    """Return the id of the container that is kind's node of that name, or ''."""
    container = f"{name}-control-plane"
    if not engine.succeeds("container", "inspect", container):
        return ""
    return engine.run("container", "inspect", "-f", "{{.Id}}", container).strip()


def audited(engine: Engine, cluster: Cluster) -> list[dict[str, Any]]:
    """Return the requests of the facility's service accounts to the API server (audit.k8s.io)."""
    words = ("exec", cluster.node_id, "sh", "-c", f"cat {AUDIT_IN_NODE}/*.log")
    return [json.loads(line) for line in engine.run(*words).splitlines()]


def load(engine: Engine, name: str) -> Cluster | None:
    """Return the cluster of that name if this command created it and it still exists.

    Raises `ShoppeError` if a cluster of that name exists that this command did not create.
    """
    node = _node(engine, name)
    state = cache("clusters", name) / "state.json"
    if state.exists():
        cluster = Cluster(**json.loads(state.read_text()))
        if node and cluster.node_id == node:
            return cluster
        if node and not cluster.node_id:
            _remove(engine, name)
            return None
    if node:
        raise ShoppeError(
            f"a kind cluster {name!r} exists that this command did not create; it is not changed",
            "choose another name with --cluster NAME",
        )
    return None


def _remove(engine: Engine, name: str) -> None:
    """Delete the nodes of a cluster that is known to be ours."""
    with step(f"deleting the kind cluster {name}"):
        shell.run(
            [toolchain.program("kind"), "delete", "cluster", "--name", name],
            env={**engine.environment(), "KUBECONFIG": os.devnull},
        )


def _save(cluster: Cluster) -> None:
    (cluster.folder / "state.json").write_text(json.dumps(asdict(cluster)))


def free_port() -> int:
    """Return a free port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _audit() -> str:
    """Return a JSON patch of kubeadm's configuration with the audit policy and its log."""
    arguments = {
        "audit-policy-file": AUDIT_POLICY_IN_NODE,
        "audit-log-path": f"{AUDIT_IN_NODE}/audit.log",
        "audit-log-maxsize": str(AUDIT_MIB),
        "audit-log-maxbackup": "3",
    }
    mounted = [
        {"name": name, "hostPath": path, "mountPath": path, "pathType": kind, "readOnly": fixed}
        for name, path, kind, fixed in (
            ("audit-policy", AUDIT_POLICY_IN_NODE, "File", True),
            ("audit-log", AUDIT_IN_NODE, "DirectoryOrCreate", False),
        )
    ]
    patches: list[dict[str, Any]] = [
        {"op": "add", "path": "/apiServer/extraArgs/-", "value": {"name": name, "value": value}}
        for name, value in arguments.items()
    ]
    patches.append({"op": "add", "path": "/apiServer/extraVolumes", "value": mounted})
    return json.dumps(patches)


def configuration(*, source: str, port: int, data: Path) -> dict[str, Any]:
    """Return the kind configuration for this machine."""
    kubelet: dict[str, Any] = {"kind": "KubeletConfiguration", "syncFrequency": "10s"}
    if machine.cgroup_v1():
        kubelet["failCgroupV1"] = False
    cri: dict[str, Any] = {}
    gates: dict[str, bool] = {}
    if machine.lacks_capability(machine.CAP_SYS_RESOURCE):
        cri["restrict_oom_score_adj"] = "true"
        gates["KubeletInUserNamespace"] = True
    plugin = 'plugins."io.containerd.grpc.v1.cri"'
    patch = f'[{plugin}.registry]\n  config_path = "/etc/containerd/certs.d"\n'
    patch += f"[{plugin}]\n" + "".join(f"  {key} = {value}\n" for key, value in cri.items())
    return {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "networking": {"disableDefaultCNI": source == "source"},
        "featureGates": gates,
        "containerdConfigPatches": [patch],
        "nodes": [
            {
                "role": "control-plane",
                "kubeadmConfigPatches": [yaml.safe_dump(kubelet), yaml.safe_dump(PATIENT)],
                "kubeadmConfigPatchesJSON6902": [
                    {
                        "group": "kubeadm.k8s.io",
                        "version": "v1beta4",
                        "kind": "ClusterConfiguration",
                        "patch": _audit(),
                    }
                ],
                "extraMounts": [
                    {"hostPath": str(here), "containerPath": there, "readOnly": True}
                    for here, there in (
                        (data, DATA_IN_NODE),
                        (AUDIT_POLICY, AUDIT_POLICY_IN_NODE),
                    )
                ],
                "extraPortMappings": [
                    {
                        "containerPort": HTTP_NODE_PORT,
                        "hostPort": port,
                        "listenAddress": "127.0.0.1",
                    }
                ],
            }
        ],
    }


def ensure(engine: Engine, name: str, source: str) -> Cluster:
    """Return the running cluster of that name, created if it does not exist."""
    existing = load(engine, name)
    if existing:
        if not engine.running(existing.node_id):
            with step(f"starting the stopped cluster {name}"):
                engine.run("start", existing.node_id)
        # An engine that starts may have restarted the node, too.
        wait_restarted(engine, existing)
        return existing
    image = nodeimage.ensure(engine, source)
    folder = cache("clusters", name)
    (folder / "data").mkdir(parents=True, exist_ok=True)
    port, forward_port = free_port(), free_port()
    config = folder / "kind.yaml"
    config.write_text(yaml.safe_dump(configuration(source=source, port=port, data=folder / "data")))
    kubeconfig = folder / "kubeconfig"
    kubeconfig.unlink(missing_ok=True)
    # Without a node's id this marks a cluster whose creation may have been interrupted.
    _save(Cluster(name, "", port, source, forward_port))
    with step(f"creating the kind cluster {name}") as note:
        create = [str(toolchain.program("kind")), "create", "cluster", "--name", name]
        shell.run(
            [*create, "--image", image, "--config", str(config), "--kubeconfig", str(kubeconfig)]
            + ["--wait", "300s"],
            env=engine.environment(),
            note=note,
            remedy="`ci/shoppe doctor` lists what this machine lacks",
        )
    cluster = Cluster(name, _node(engine, name), port, source, forward_port)
    _save(cluster)
    return cluster


def wait_restarted(engine: Engine, cluster: Cluster) -> None:
    """Wait until a cluster's own pods, DNS and volumes among them, are ready since its last start.

    Until the kubelet has restarted them, the API server has their state of before.  Until its
    own address of before has expired, pods may reach another cluster's API server there.
    """
    started = engine.run("inspect", "-f", "{{.State.StartedAt}}", cluster.node_id)[:SECONDS]

    def ready() -> bool:
        endpoints = cluster.get("endpointslices", "-n", "default", "-l", API_SERVER)["items"]
        addresses = [a for s in endpoints for e in s["endpoints"] or [] for a in e["addresses"]]
        pods = [pod for n in SYSTEM_NAMESPACES for pod in cluster.get("pods", "-n", n)["items"]]
        return bool(len(addresses) == 1 and pods and all(ready_since(p, started) for p in pods))

    eventually(
        ready,
        f"the pods in {' and '.join(SYSTEM_NAMESPACES)} of {cluster.name} are ready again",
        timeout=RESTART_TIMEOUT_S,
    )


def ready_since(pod: dict[str, Any], started: str) -> bool:
    """Return whether all containers of a pod, if it did not end, are ready and started since.

    `started` is a time in UTC as Kubernetes writes it, without its `Z`.
    """
    if pod["status"].get("phase") == "Succeeded":
        return True
    containers = pod["status"].get("containerStatuses", [])
    return bool(containers) and all(
        container["ready"]
        and container["state"].get("running", {}).get("startedAt", "")[:SECONDS] >= started
        for container in containers
    )


def delete(engine: Engine, name: str) -> bool:
    """Delete the cluster of that name if this command created it; return whether there was one."""
    if load(engine, name) is None:
        return False
    _remove(engine, name)
    for file in ("state.json", "kubeconfig", "kind.yaml"):
        (cache("clusters", name) / file).unlink(missing_ok=True)
    return True


def ensure_registry(engine: Engine) -> int:
    """Run the registry that all our clusters share and return its port on this machine.

    It is in kind's network only, which is there once a first cluster is.  A registry
    that does not respond is recreated; its images stay, in a volume: an engine
    that was killed may restart it with an address that something else has taken.
    """
    if not engine.succeeds("container", "inspect", REGISTRY):
        _create_registry(engine)
    labels = engine.run(
        "container", "inspect", "-f", "{{index .Config.Labels `coffea-shoppe`}}", REGISTRY
    )
    if labels.strip() != "registry":
        raise ShoppeError(
            f"a container {REGISTRY!r} exists that this command did not create",
            f"remove or rename it: {engine.name} rename {REGISTRY} other",
        )
    for _ in range(2):
        try:
            return _reach_registry(engine)
        except ShoppeError as error:
            say(f"  {error.problem.splitlines()[0]}: it is recreated")
            _replace_registry(engine)
    return _reach_registry(engine)


def _replace_registry(engine: Engine) -> None:
    """Recreate the registry, the new one first: it must not get the address of the old one."""
    old = f"{REGISTRY}-old"
    if engine.succeeds("container", "inspect", old):
        engine.run("rm", "--force", old)
    engine.run("rename", REGISTRY, old)
    _create_registry(engine)
    engine.run("rm", "--force", old)


def _create_registry(engine: Engine) -> None:
    image = images.registry_image(engine)
    with step("starting the registry beside the cluster"):
        engine.run(
            *["run", "-d", "--restart=unless-stopped", "--name", REGISTRY, "--network", "kind"],
            *["--label", REGISTRY_LABEL, "-p", f"127.0.0.1:{free_port()}:5000"],
            *["-v", f"{REGISTRY}:/var/lib/registry", image],
        )


def _reach_registry(engine: Engine) -> int:
    """Start the registry if it is stopped; return the port at which it responds here."""
    if not engine.running(REGISTRY):
        engine.run("start", REGISTRY)
    port = int(engine.run("port", REGISTRY, "5000/tcp").split(":")[-1])
    eventually(
        lambda: requests.get(f"http://127.0.0.1:{port}/v2/", timeout=5).ok,
        f"the registry responds on port {port}",
        timeout=30,
    )
    return port


def connect_registry(engine: Engine, cluster: Cluster, host: str = "") -> None:
    """Configure the node to pull what is at a host, our images' without one, here instead."""
    host = host or images.registry_name().split("/")[0]
    hosts = f'server = "https://{host}"\n[host."http://{REGISTRY}:5000"]\n'
    hosts += '  capabilities = ["pull", "resolve"]\n'
    folder = f"/etc/containerd/certs.d/{host}"
    write = f"mkdir -p {folder} && cat > {folder}/hosts.toml"
    engine.run("exec", "-i", cluster.node_id, "sh", "-c", write, stdin=hosts.encode())
