"""What pods are allowed, seen on the cluster itself."""

import re

import pytest
from coffea_shoppe_contract.resources import USER_LABEL
from lib.fixtures import run_code
from shoppe_ci import diagnostics, overload
from shoppe_ci.cluster import Cluster
from shoppe_ci.errors import ShoppeError
from shoppe_ci.facility import User


def test_both_namespaces_enforce_the_restricted_level(facility: Cluster) -> None:
    for name in ("shoppe", "shoppe-dask"):
        labels = facility.get("namespace", name)["metadata"]["labels"]
        assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_the_level_is_enforced(facility: Cluster) -> None:
    bare = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "root", "namespace": "shoppe-dask"},
        "spec": {"containers": [{"name": "c", "image": "any", "securityContext": {}}]},
    }
    with pytest.raises(ShoppeError, match="violates PodSecurity"):
        facility.apply(bare)


def test_servers_listen_at_addresses_of_ipv6_too(facility: Cluster) -> None:
    """By the kernel's list of sockets, which all containers of a pod share."""
    # kopf's port is bound to the pod's own addresses, Triton's metrics to those of one family.
    others = {("operator", 8080), ("triton", 8002)}
    heard, deaf = 0, []
    for pod in diagnostics.pods(facility):
        labels = pod["metadata"]["labels"]
        component = labels.get("app.kubernetes.io/component", "")
        ports = {
            port["containerPort"]
            for container in pod["spec"]["containers"]
            for port in container.get("ports", ())
        }
        is_serving = diagnostics.is_ready(pod) and "deletionTimestamp" not in pod["metadata"]
        if not ports or USER_LABEL in labels or not is_serving:
            continue
        where = ("-n", pod["metadata"]["namespace"], "exec", pod["metadata"]["name"])
        container = ("-c", pod["spec"]["containers"][0]["name"])
        sockets = facility.kubectl(*where, *container, "--", "cat", "/proc/net/tcp6")
        listening = {int(port, 16) for port in re.findall(r"0{32}:(\w{4}) \S+ 0A ", sockets)}
        heard += len(ports & listening)
        expected = {port for port in ports if (component, port) not in others}
        deaf += [(component, port) for port in sorted(expected - listening)]
    assert deaf == []
    assert heard >= len(overload.SERVERS)


def test_users_and_workers_are_nobody_special(ann: User, facility: Cluster) -> None:
    probe = (
        "def probe():\n"
        "    import os, pathlib\n"
        "    token = pathlib.Path('/var/run/secrets/kubernetes.io/serviceaccount').exists()\n"
        "    try:\n        pathlib.Path('/opt/x').write_text('x'); wrote = True\n"
        "    except OSError:\n        wrote = False\n"
        "    return os.getuid(), token, wrote\n"
    )
    printed = run_code(
        ann,
        f"{probe}print(probe())\n"
        "from dask_gateway import Gateway\n"
        "cluster = Gateway().new_cluster(); cluster.scale(1); client = cluster.get_client()\n"
        "client.wait_for_workers(1, timeout=180)\n"
        "print(client.submit(probe).result()); print(client.run_on_scheduler(probe))\n"
        "cluster.shutdown()",
    )
    assert printed.splitlines() == ["(1000, False, False)"] * 3
    pod = next(
        item
        for item in facility.get("pods", "-n", "shoppe")["items"]
        if item["metadata"]["labels"].get("hub.jupyter.org/username") == ann.name
        or item["metadata"]["name"].startswith(f"jupyter-{ann.name}")
    )
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert pod["spec"]["enableServiceLinks"] is False
