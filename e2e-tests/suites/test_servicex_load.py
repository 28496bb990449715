"""Many requests at once, and what is killed in the middle of them."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from coffea_shoppe_contract.names import bucket_name
from lib.fixtures import passing_user, run_code
from shoppe_ci import origin
from shoppe_ci.cluster import Cluster
from shoppe_ci.facility import User
from shoppe_ci.wait import eventually

pytestmark = pytest.mark.part("load")

USERS, REQUESTS = 5, 380
CAP = 2
"""Of shared transformers: the chart's default."""
STATUS_S = 5
END_S = 900

# Each request has an expression of its own, so that none has another's result.
REQUESTED = """
import json, time
from concurrent.futures import ThreadPoolExecutor
import requests, coffea_shoppe as shoppe
base = shoppe.connections()["servicex"]
def ask(method, path, **more):
    headers = {{"Authorization": "Bearer " + shoppe.token("servicex")}}
    return requests.request(method, base + path, headers=headers, timeout=60, **more)
def submit(number):
    query = [{{"treename": "Events", "expressions": ["event", "nJet + %d" % number]}}]
    body = {{"title": "{tag}%d" % number, "codegen": "uproot-raw", "result-format": "parquet",
             "result-destination": "object-store", "file-list": {files},
             "selection": json.dumps(query)}}
    response = ask("POST", "/servicex/transformation", json=body)
    assert response.status_code == 200, response.text
    return response.json()["request_id"]
"""
STEADY = """
once = ask
def ask(*arguments, **more):
    for _ in range(200):
        try:
            response = once(*arguments, **more)
            if response.status_code < 500: return response
        except requests.RequestException: pass
        time.sleep(1)
    raise TimeoutError("ServiceX did not respond to any of 200 requests")
"""
SUBMIT = """
with ThreadPoolExecutor(20) as pool:
    asked = list(pool.map(submit, range({first}, {first} + {count})))
"""
WATCH = """
slowest, ended, end = 0.0, {{}}, time.time() + {end}
while len(ended) < len(asked) and time.time() < end:
    for one in asked:
        if one in ended: continue
        began = time.time()
        found = ask("GET", "/servicex/transformation/" + one).json()
        slowest = max(slowest, time.time() - began)
        if found["status"] not in ("Running", "Lookup"): ended[one] = (time.time(), found["status"])
    time.sleep(1)
print(json.dumps(dict(asked=asked, slowest=slowest, ended=list(ended.values()))))
"""


@pytest.fixture(scope="module")
def url(data_origin: Cluster, samples: list[tuple[Path, str, str, int]]) -> tuple[str, int]:
    """A small file, and its events."""
    path, _, _, events = next(one for one in samples if one[1] == "wjets")
    return origin.publish(data_origin, path), events


@pytest.fixture(scope="module")
def users(facility: Cluster) -> Iterator[list[User]]:
    made = [passing_user(facility, f"load{number}") for number in range(USERS)]
    with ThreadPoolExecutor(USERS) as pool:
        yield list(pool.map(next, made))
        for done in [pool.submit(next, one, None) for one in made]:
            done.result()


def transformers(facility: Cluster) -> int:
    selector = "app.kubernetes.io/component=transformer"
    return len(facility.get("pods", "-A", "-l", selector)["items"])


def test_none_is_lost_and_every_user_advances(
    users: list[User], url: tuple[str, int], facility: Cluster
) -> None:
    each = REQUESTS // USERS
    requested = REQUESTED.format(tag="load", files=[url[0]])
    code = requested + SUBMIT.format(first=0, count=each) + WATCH.format(end=END_S)
    began, most = time.time(), 0
    with ThreadPoolExecutor(USERS) as pool:
        running = [pool.submit(run_code, user, code) for user in users]
        while not all(one.done() for one in running):
            most = max(most, transformers(facility))
            time.sleep(1)
        told = [json.loads(one.result().splitlines()[-1]) for one in running]
    statuses = [status for one in told for _, status in one["ended"]]
    assert statuses == ["Complete"] * REQUESTS
    slowest = max(one["slowest"] for one in told)
    ends = [sorted(moment for moment, _ in one["ended"]) for one in told]
    first = min(one[-1] for one in ends)
    least = min(sum(moment <= first for moment in one) for one in ends)
    print(
        f"\n{REQUESTS} requests of {USERS} users ended in {max(map(max, ends)) - began:.0f} s; "
        f"at most {most} transformers; slowest status {slowest:.2f} s; when the first user was "
        f"done, the last had {least} of {each}"
    )
    assert most <= CAP
    assert slowest < STATUS_S
    assert least >= each / 2


CHECK = """
import pyarrow.parquet as pq
import io
found = {{}}
for number, one in enumerate(asked, {first}):
    status = ask("GET", "/servicex/transformation/" + one).json()
    results = ask("GET", "/servicex/transformation/" + one + "/results").json()["results"]
    names = [row["s3-object-name"] for row in results]
    held = sorted(path.rsplit("/", 1)[1] for path in shoppe.storage().find("servicex/" + one))
    rows = []
    for name in names:
        table = pq.read_table(io.BytesIO(shoppe.storage().cat("servicex/" + one + "/" + name)))
        column = table.column("nJet + %d" % number).to_pylist()
        rows.append((table.num_rows, min(column) - number))
    found[one] = [status["status"], sorted(names) == held, len(set(names)) == len(names), rows]
print(json.dumps(found))
"""


def kill(facility: Cluster, workload: str, container: str) -> None:
    """Kill every process of a container, as a node that runs out of memory would."""
    where = ("-n", "shoppe", "exec", workload, "-c", container, "--")
    facility.kubectl(*where, "sh", "-c", "kill -9 -1 || true")


def killed(facility: Cluster, stop: Future[Any]) -> int:
    """Kill one thing after the other until the requests have ended; return how many."""
    pods = "app.kubernetes.io/component=transformer"
    count = 0
    while not stop.done():
        for what in ("transformer", "api", "transformer", "postgresql"):
            if stop.done():
                break
            if what == "transformer":
                facility.kubectl(
                    *("-n", "shoppe", "delete", "pods", "-l", pods),
                    *("--grace-period=0", "--force", "--wait=false"),
                )
            elif what == "api":
                kill(facility, "deployment/shoppe-servicex", "api")
            else:
                kill(facility, "shoppe-postgresql-0", "postgresql")
            count += 1
            time.sleep(8)
        if count >= 8:
            break
    return count


def test_kill_9_in_the_middle_loses_nothing_and_leaves_nothing(
    users: list[User], url: tuple[str, int], facility: Cluster
) -> None:
    user, count = users[0], 100
    requested = REQUESTED.format(tag="chaos", files=[url[0]])
    submit = SUBMIT.format(first=1000, count=count)
    code = requested + STEADY + submit + WATCH.format(end=END_S) + CHECK.format(first=1000)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run_code, user, code)
        eventually(
            lambda: running.done() or transformers(facility) > 1,
            "the requests are under way",
            timeout=120,
            every=1,
        )
        kills = killed(facility, running)
        lines = running.result().splitlines()
    assert kills >= 4
    told, found = json.loads(lines[-2]), json.loads(lines[-1])
    assert [status for _, status in told["ended"]] == ["Complete"] * count
    assert list(found.values()) == [["Complete", True, True, [[url[1], 0]]]] * count
    folder = f"/data/objects/{bucket_name(user.name)}/servicex"
    pod = ("-n", "shoppe", "exec", "shoppe-objectstore-0", "-c", "objectstore", "--")
    held = facility.kubectl(*pod, "ls", folder).split()
    assert set(told["asked"]) <= set(held)
    print(f"\n{count} requests ended in spite of {kills} kills")
