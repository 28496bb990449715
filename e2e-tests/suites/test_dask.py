"""Dask clusters: as many as a user may have, and seen by nobody else."""

from collections.abc import Callable, Iterator

import pytest
import requests
from lib.fixtures import run_code
from shoppe_ci import counters
from shoppe_ci.cluster import Cluster
from shoppe_ci.counters import Endpoint
from shoppe_ci.facility import User
from shoppe_ci.wait import eventually

NEW = "from dask_gateway import Gateway; cluster = Gateway().new_cluster()\n"


def test_a_cluster_needs_no_more_than_the_import(ann: User, facility: Cluster) -> None:
    def clusters(event: str) -> float:
        reading = counters.read(facility, Endpoint("gateway", 9090))
        return counters.total(reading, "shoppe_gateway_clusters_total", {"event": event})

    events = ("created", "stopped")
    before = {event: clusters(event) for event in events}
    printed = run_code(
        ann,
        f"{NEW}cluster.scale(2); client = cluster.get_client()\n"
        "client.wait_for_workers(2, timeout=180)\n"
        "import socket\n"
        "print(len(set(client.run(socket.gethostname).values())))\n"
        "cluster.shutdown()",
    )
    assert printed.split() == ["2"]
    eventually(
        lambda: all(clusters(event) > before[event] for event in events),
        "the gateway has counted the cluster and its end",
    )


def test_one_cluster_too_many_is_refused_with_the_reason(bob: User) -> None:
    printed = run_code(
        bob,
        "from dask_gateway import Gateway\n"
        "gateway = Gateway(); clusters = [gateway.new_cluster() for _ in range(2)]\n"
        "try:\n    gateway.new_cluster()\n"
        "except Exception as error:\n    print(error)\n"
        "for cluster in clusters:\n    cluster.shutdown()",
    )
    assert "2 of at most 2 Dask clusters" in printed
    assert "stop_cluster" in printed


def test_a_forgotten_gateway_does_not_hang_the_others(ann: User) -> None:
    # Garbage is collected on any thread, the client's own one among them.
    printed = run_code(
        ann,
        "import gc, threading\n"
        "from dask_gateway import Gateway\n"
        "gateway = Gateway(); gateway.list_clusters()\n"
        "gc.disable(); lost = Gateway(); lost.list_clusters(); lost.itself = lost; del lost\n"
        "done = threading.Event()\n"
        "gateway.loop.add_callback(lambda: (gc.collect(), done.set()))\n"
        "print(done.wait(20) and gateway.list_clusters())",
        fresh=True,
    )
    assert printed.strip() == "[]"


def test_workers_stop_at_the_users_limit(bob: User, facility: Cluster) -> None:
    # Eight cores a user; workers of four cores: two of them, whatever is asked.
    printed = run_code(
        bob,
        "from dask_gateway import Gateway\n"
        "import time\n"
        "cluster = Gateway().new_cluster(worker_cores=4, shutdown_on_close=False)\n"
        "cluster.scale(5)\n"
        "client = cluster.get_client(); client.wait_for_workers(2, timeout=180)\n"
        "time.sleep(8)  # time enough for a third\n"
        "print(client.scheduler_info()['n_workers'], cluster.name)\n"
        "client.close()",
    )
    count, name = printed.split()
    namespace, _, short = name.partition(".")
    pods = facility.get("pods", "-n", namespace, "-l", f"gateway.dask.org/cluster={short}")
    workers = [p for p in pods["items"] if p["metadata"]["name"].startswith("dask-worker")]
    assert (int(count), len(workers)) == (2, 2)
    run_code(bob, f"from dask_gateway import Gateway; Gateway().stop_cluster({name!r})")


@pytest.fixture
def few_pods(facility: Cluster) -> Iterator[Callable[[int], None]]:
    """Let Kubernetes refuse all but so many pods in the clusters' namespace."""
    present = len(facility.get("pods", "-n", "shoppe-dask")["items"])

    def allow(count: int) -> None:
        facility.apply(
            {
                "apiVersion": "v1",
                "kind": "ResourceQuota",
                "metadata": {"name": "few-pods", "namespace": "shoppe-dask"},
                "spec": {"hard": {"pods": str(present + count)}},
            }
        )

    yield allow
    facility.kubectl("-n", "shoppe-dask", "delete", "resourcequota", "few-pods")


@pytest.mark.part("faults")
def test_a_scheduler_that_kubernetes_refuses_is_told(
    ann: User, few_pods: Callable[[int], None]
) -> None:
    few_pods(0)
    printed = run_code(
        ann,
        "from dask_gateway import Gateway\n"
        "try:\n    Gateway().new_cluster()\n"
        "except Exception as error:\n    print(error)",
    )
    assert "refused the scheduler's pod" in printed
    assert "exceeded quota: few-pods" in printed


@pytest.mark.part("faults")
def test_workers_that_kubernetes_refuses_are_told(
    ann: User, few_pods: Callable[[int], None]
) -> None:
    few_pods(2)
    printed = run_code(
        ann,
        f"{NEW}cluster.scale(1); client = cluster.get_client()\n"
        "client.wait_for_workers(1, timeout=180)\n"
        "import time\n"
        "deadline = time.monotonic() + 60\n"
        "while time.monotonic() < deadline:\n"
        "    try:\n        cluster.scale(2)\n"
        "    except Exception as error:\n        print(error); break\n"
        "    time.sleep(2)\n"
        "cluster.shutdown()",
    )
    assert "refused a worker's pod" in printed
    assert "exceeded quota: few-pods" in printed


@pytest.mark.parametrize(
    ("options", "reason"),
    [("worker_cores=99", "99"), ("image='evil/image:1'", "is not offered here")],
)
def test_what_is_not_offered_is_refused(ann: User, options: str, reason: str) -> None:
    printed = run_code(
        ann,
        "from dask_gateway import Gateway\n"
        f"try:\n    Gateway().new_cluster({options})\n"
        "except Exception as error:\n    print(error)",
    )
    assert reason in printed


def test_dashboards_are_for_the_owner_alone(ann: User, bob: User, facility: Cluster) -> None:
    # It must outlive the kernel that makes it.
    lasting = NEW.replace("new_cluster()", "new_cluster(shutdown_on_close=False)")
    code = f"{lasting}print(cluster.name, cluster.dashboard_link)"
    name, link = run_code(ann, code, fresh=True).split()
    base = link.removesuffix("/status")
    # The owner, through the user's own server: as JupyterLab's extension asks.
    plots = ann.session.get(f"{facility.url}{base}/individual-plots.json", timeout=60)
    assert plots.status_code == 200
    assert plots.json()
    page = ann.session.get(f"{facility.url}{link}", timeout=60)
    assert "bokeh" in page.text.lower()
    # Nobody through the gateway without a token, and nobody else with one.
    direct = f"{facility.url}/services/dask-gateway/clusters/{name}/status"
    assert requests.get(direct, timeout=30).status_code == 401
    try:
        code = (
            "import os, requests\n"
            "address = os.environ['DASK_GATEWAY__ADDRESS'].rstrip('/')\n"
            f"url = address + '/clusters/{name}/status'\n"
            "token = os.environ['JUPYTERHUB_API_TOKEN']\n"
            "for headers in ({}, {'Authorization': 'token ' + token}):\n"
            "    print(requests.get(url, headers=headers).status_code)"
        )
        assert run_code(bob, code).split() == ["401", "403"]
        assert run_code(ann, code).split() == ["401", "200"]
        # The stranger's own API sees no cluster of the user's.
        listing = "from dask_gateway import Gateway; print(len(Gateway().list_clusters()))"
        assert run_code(bob, listing).split() == ["0"]
        assert run_code(ann, listing).split() == ["1"]
    finally:
        run_code(ann, f"from dask_gateway import Gateway; Gateway().stop_cluster({name!r})")
