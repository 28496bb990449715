"""Replicas of Triton are one to their users: even, replaced unnoticed, as many as needed."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from lib.fixtures import passing_user, run_code
from lib.serving import REGISTER, printed_lines, serve_first
from shoppe_ci import release, testing
from shoppe_ci.cluster import Cluster
from shoppe_ci.facility import User
from shoppe_ci.testing import with_values
from shoppe_ci.wait import eventually

pytestmark = pytest.mark.part("load")

TRITON = "deployment/shoppe-triton"
LOAD = """
import json, sys, threading, time
from pathlib import Path
import numpy as np, tritonclient.grpc as triton
import coffea_shoppe as shoppe
from agc.inference import ServedModels
model, way, threads, rows = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
rows = np.random.default_rng(7).normal(size=(rows, 5)).astype("float32")
stop, failures, sums, slowest = Path("stop"), [], [], [0.0]
patient = ServedModels({"even": model}, shoppe.triton)
def stock(client):
    tensor = triton.InferInput("input__0", rows.shape, "FP32")
    tensor.set_data_from_numpy(rows)
    result = client.infer(model, [tensor], headers=shoppe.triton()[1])
    return result.as_numpy("output__0")[:, -1]
def work():
    with triton.InferenceServerClient(shoppe.triton()[0]) as client:
        while not stop.exists():
            start = time.monotonic()
            try:
                scores = stock(client) if way == "stock" else patient("even", rows)
                sums.append(float(scores.sum()))
            except Exception as error:
                failures.append(str(error))
            slowest[0] = max(slowest[0], time.monotonic() - start)
every = [threading.Thread(target=work) for _ in range(threads)]
for one in every: one.start()
for one in every: one.join()
told = {"requests": len(sums), "sums": len(set(sums)), "failures": failures, "slowest": slowest[0]}
Path("told.json").write_text(json.dumps(told))
"""


@pytest.fixture(scope="module")
def replicated(facility: Cluster) -> Iterator[Cluster]:
    """The facility with two replicas; with one again afterwards."""
    with with_values(facility, {"triton": {"replicas": 2}}):
        yield facility


@pytest.fixture(scope="module")
def cat(replicated: Cluster) -> Iterator[User]:
    yield from passing_user(replicated, "cat.serves")


@pytest.fixture(scope="module")
def served(cat: User) -> str:
    return serve_first(cat)


def pods(cluster: Cluster) -> list[str]:
    label = "app.kubernetes.io/component=triton"
    found = cluster.get("pods", "-n", "shoppe", "-l", label)["items"]
    return [one["metadata"]["name"] for one in found if "deletionTimestamp" not in one["metadata"]]


@contextmanager
def load(user: User, model: str, *, way: str, threads: int, rows: int) -> Iterator[dict[str, Any]]:
    """Ask for scores meanwhile; what came of it is there afterwards."""
    found: dict[str, Any] = {}
    start = (
        "import subprocess, pathlib\n"
        "for name in ('stop', 'told.json'): pathlib.Path(name).unlink(missing_ok=True)\n"
        f"pathlib.Path('load.py').write_text({LOAD!r})\n"
        f"words = ['python', 'load.py', {model!r}, {way!r}, '{threads}', '{rows}']\n"
        "subprocess.Popen(words, stderr=open('load.log', 'w'), start_new_session=True)"
    )
    end = (
        "import pathlib, time\n"
        "pathlib.Path('stop').touch()\n"
        "for _ in range(120):\n"
        "    if pathlib.Path('told.json').exists(): break\n"
        "    time.sleep(1)\n"
        "else: raise RuntimeError(pathlib.Path('load.log').read_text())\n"
        "print(pathlib.Path('told.json').read_text())"
    )
    run_code(user, start)
    try:
        yield found
    finally:
        found.update(json.loads(run_code(user, end).splitlines()[-1]))


def test_one_connection_reaches_all_replicas_evenly(cat: User, served: str) -> None:
    code = (
        f"{REGISTER}import requests, tritonclient.grpc as triton\n"
        "def counts():\n"
        f"    url = shoppe.connections()['triton'] + '/v2/models/{served}/stats'\n"
        "    found = requests.get(url, headers=shoppe.triton()[1]).json()['model_stats']\n"
        "    return [int(one['inference_stats']['success'].get('count', 0)) for one in found]\n"
        "before = counts()\n"
        "address, headers = shoppe.triton()\n"
        "with triton.InferenceServerClient(address) as client:\n"
        "    for _ in range(200):\n"
        "        tensor = triton.InferInput('input__0', rows.shape, 'FP32')\n"
        "        tensor.set_data_from_numpy(rows)\n"
        f"        client.infer('{served}', [tensor], headers=headers)\n"
        "tell(*(new - old for new, old in zip(sorted(counts()), sorted(before))))\n"
        f"tell(shoppe.counts('{served}').requests == sum(counts()))"
    )
    each, summed = printed_lines(run_code(cat, code))
    assert [int(one) for one in each.split()] == [100, 100]
    assert summed == "True"


def test_no_request_fails_while_replicas_are_replaced(
    cat: User, served: str, replicated: Cluster
) -> None:
    old = set(pods(replicated))
    with load(cat, served, way="stock", threads=4, rows=200) as found:
        replicated.kubectl("-n", "shoppe", "rollout", "restart", TRITON)
        words = ("-n", "shoppe", "rollout", "status", TRITON, "--timeout=240s")
        replicated.kubectl(*words)
    assert old.isdisjoint(pods(replicated))
    assert found["failures"] == []
    assert found["requests"] > 200
    assert found["sums"] == 1
    print(f"requests while replicas were replaced: {found}")


def test_a_killed_replica_costs_the_analysis_no_request(
    cat: User, served: str, replicated: Cluster
) -> None:
    with load(cat, served, way="patient", threads=4, rows=200) as found:
        for _ in range(2):
            victim = pods(replicated)[0]
            replicated.kubectl(
                *("-n", "shoppe", "delete", "pod", victim, "--grace-period=0", "--force")
            )
            release.wait_ready(replicated)
    assert found["failures"] == []
    assert found["requests"] > 200
    assert found["sums"] == 1
    print(f"requests while replicas were killed: {found}")


def test_replicas_come_while_requests_wait(cat: User, served: str, replicated: Cluster) -> None:
    rule = {"enabled": True, "minReplicas": 1, "maxReplicas": 3, "queueMilliseconds": 5}
    testing.install(replicated, {"triton": {"autoscaling": rule}})

    def wanted() -> int:
        return int(
            replicated.get("deployment", "-n", "shoppe", "shoppe-triton")["spec"]["replicas"]
        )

    before = wanted()
    assert before < rule["maxReplicas"]
    with load(cat, served, way="stock", threads=8, rows=20_000) as found:
        eventually(lambda: wanted() > before, "one more replica is asked for", timeout=120)
        release.wait_ready(replicated)
    assert found["failures"] == []
    assert len(pods(replicated)) == before + 1
