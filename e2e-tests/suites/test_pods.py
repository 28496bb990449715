"""What pods are allowed, seen on the cluster itself."""

import pytest
from lib.fixtures import run_code
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
