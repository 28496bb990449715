"""An upgrade to the next release while users work: nothing is lost or done twice."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from coffea_shoppe_contract.resources import API_GROUP, FACILITY_USERS
from lib import next_release
from lib.fixtures import run_code
from lib.serving import REGISTER, printed_lines, serve_first
from shoppe_ci import origin, overload, release, testing
from shoppe_ci.cluster import Cluster
from shoppe_ci.engine import Engine
from shoppe_ci.facility import User
from shoppe_ci.wait import eventually

pytestmark = [pytest.mark.part("upgrades"), pytest.mark.timeout(1500)]

QUIET_S = 45
"""Users work as long before the upgrade, and after it."""
LONGEST_S = 120
"""No service is away for longer, on a small machine which replaces all pods at once."""
STOP = "stop-working"
"""A file in the user's home that ends the work."""
WORK = """
import json, pathlib, threading, time, traceback
import mlflow, pyarrow.parquet as pq, coffea_shoppe as shoppe
from dask_gateway import Gateway
from servicex import ProgressBarFormat, dataset, deliver, query
{register}
stop = pathlib.Path.home() / "{stop}"
done, problems = dict.fromkeys(["dask", "mlflow", "servicex", "store", "triton"], 0), {{}}

def repeat(name, once):
    number = 0
    while not stop.exists():
        try:
            once(number)
            done[name] += 1
        except Exception as error:
            at = traceback.extract_tb(error.__traceback__)[-1]
            problem = f"{{number}}: {{at.filename}}:{{at.lineno}}: {{error!r}}"[:500]
            problems.setdefault(name, []).append(problem)
            if len(problems[name]) > 20: return
        number += 1
        time.sleep(0.3)

def square(number):
    import time
    time.sleep(1)
    return number * number

cluster = Gateway().new_cluster()
cluster.scale(2)
client = cluster.get_client()
kept = client.submit(square, 1000)
kept.result()
def dask(number):
    numbers = range(8 * number, 8 * number + 8)
    assert client.gather(client.map(square, numbers)) == [n * n for n in numbers]
    assert kept.result() == 1000000

mlflow.set_experiment("upgrade")
tracking = mlflow.MlflowClient()
with mlflow.start_run() as active: run = active.info.run_id
def log(number): tracking.log_metric(run, "number", number, step=number)

def columns(number):
    cut = f"(nJet > 3) & (event >= {{number}})"
    selection = query.UprootRaw({{"treename": "Events", "expressions": ["event"], "cut": cut}})
    sample = {{"Name": "one", "Dataset": dataset.FileList(["{url}"]), "Query": selection}}
    general = {{"OutputFormat": "parquet", "Delivery": "LocalCache"}}
    spec = {{"General": general, "Sample": [sample]}}
    (path,) = deliver(spec, progress_bar=ProgressBarFormat.none)["one"]
    events = pq.read_table(path)["event"].to_numpy()
    assert len(events) and events.min() >= number, len(events)

store, bucket = shoppe.storage(), None
def keep(number):
    name = f"upgrade/{{number}}"
    with store.open(name, "wb") as file: file.write(str(number).encode())
    with store.open(name, "rb") as file: assert file.read() == str(number).encode()

expected = None
def score(number):
    global expected
    scores = infer("{model}", rows)
    if expected is None: expected = scores
    assert abs(scores - expected).max() == 0.0

works = {{"dask": dask, "mlflow": log, "servicex": columns, "store": keep, "triton": score}}
threads = [threading.Thread(target=repeat, args=item) for item in works.items()]
for thread in threads: thread.start()
for thread in threads: thread.join()
steps = [metric.step for metric in tracking.get_metric_history(run, "number")]
names = cluster.name, [report.name for report in Gateway().list_clusters()]
client.close(); cluster.shutdown()
tell(json.dumps({{"done": done, "problems": problems, "steps": steps, "clusters": names,
                  "stored": len(store.ls("upgrade"))}}))
"""


@dataclass(frozen=True)
class Objects:
    """What an upgrade must keep, or must renew."""

    secrets: dict[str, dict[str, str]]
    """Those that were generated."""
    claims: dict[str, str]
    images: dict[str, set[str]]
    """Of the containers of each Deployment and StatefulSet."""
    dumps: set[str]


@dataclass(frozen=True)
class Outcome:
    """The facility before and after the upgrade, and what its users saw meanwhile."""

    before: Objects
    after: Objects
    uses: dict[str, overload.Use]
    work: dict[str, Any]
    kept: str
    """What a user's kernel, started before, then has in a variable."""


def put(user: User, name: str, content: str) -> None:
    """Write a file in a user's home."""
    body = {"type": "file", "format": "text", "content": content}
    user.server("PUT", f"/api/contents/{name}", json=body)


def start(user: User, name: str, code: str) -> None:
    """Run code in the background of a user's pod; it goes on when connections break."""
    put(user, f"{name}.py", code)
    command = f"{{sys.executable}} {name}.py > {name}.out 2>&1; mv {name}.out {name}.txt"
    options = "shell=True, start_new_session=True, cwd=pathlib.Path.home()"
    run_code(user, f"import pathlib, subprocess, sys\nsubprocess.Popen(f'{command}', {options})")


def printed(user: User, name: str) -> str:
    """Return what such code has printed, when it has ended."""

    def ended() -> bool:
        entries = user.server("GET", "/api/contents").json()["content"]
        return f"{name}.txt" in {entry["name"] for entry in entries}

    eventually(ended, f"{name}.py has ended", timeout=300, every=3)
    file = user.server("GET", f"/api/contents/{name}.txt?content=1").json()
    return str(file["content"]).strip()


def _objects(facility: Cluster) -> Objects:
    secrets = facility.get("secrets", "-n", "shoppe", "-l", "app.kubernetes.io/instance=shoppe")
    generated = [
        item
        for item in secrets["items"]
        if "meta.helm.sh/release-name" not in item["metadata"].get("annotations", {})
    ]
    claims = facility.get("pvc", "-A")["items"]
    listed = ("-n", "shoppe", "exec", "shoppe-postgresql-0", "-c", "postgresql", "--")
    return Objects(
        secrets={item["metadata"]["name"]: item["data"] for item in generated},
        claims={item["metadata"]["name"]: item["metadata"]["uid"] for item in claims},
        images={
            item["metadata"]["name"]: {
                container["image"]
                for kind in ("containers", "initContainers")
                for container in item["spec"]["template"]["spec"].get(kind, ())
            }
            for item in release.workloads(facility, "shoppe")
        },
        dumps=set(facility.kubectl(*listed, "ls", "-1", "/backup").split()),
    )


@pytest.fixture(scope="module")
def chart(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The next release, whose images are in the registry."""
    folder = tmp_path_factory.mktemp("next")
    next_release.push_images(engine, folder / "images")
    return next_release.package(folder)


@pytest.fixture(scope="module")
def outcome(
    chart: Path,
    ann: User,
    bob: User,
    data_origin: Cluster,
    samples: list[tuple[Path, str, str, int]],
) -> Outcome:
    facility = data_origin
    url = origin.publish(facility, samples[0][0])
    model = serve_first(bob)
    code = WORK.format(register=REGISTER, stop=STOP, url=url, model=model)
    run_code(ann, "kept = 42")
    before = _objects(facility)
    start(bob, "work", code)
    start(ann, "uses", overload.probe_code(overload.hosts(url), 3600, until=STOP))
    eventually(
        lambda: facility.get("daskclusters", "-n", "shoppe-dask")["items"],
        "the user has a Dask cluster",
    )
    time.sleep(QUIET_S)
    testing.install(facility, chart=chart)
    time.sleep(QUIET_S)
    for user in (ann, bob):
        put(user, STOP, "")
    uses, work = overload.uses(printed(ann, "uses")), printed(bob, "work")
    # The facility stays on the next release: its databases are migrated.
    return Outcome(
        before,
        _objects(facility),
        uses,
        json.loads(printed_lines(work)[-1]),
        run_code(ann, "print(kept)").strip(),
    )


def test_every_deployment_is_of_the_next_release(outcome: Outcome) -> None:
    names = {name for images in outcome.after.images.values() for name in images}
    assert all(name.endswith(next_release.SUFFIX) for name in names), names


def test_secrets_and_claims_stay_and_databases_are_dumped(outcome: Outcome) -> None:
    for name, data in outcome.before.secrets.items():
        assert outcome.after.secrets[name] == data, name
    assert outcome.before.claims.items() <= outcome.after.claims.items()
    assert len(outcome.after.dumps - outcome.before.dumps) == 2


def test_the_custom_resource_has_the_new_field(outcome: Outcome, facility: Cluster) -> None:
    assert outcome
    (version,) = facility.get("crd", f"{FACILITY_USERS}.{API_GROUP}")["spec"]["versions"]
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    assert next_release.FIELD in spec["properties"]


def test_no_kernel_ends(outcome: Outcome) -> None:
    assert outcome.kept == "42"


def test_no_user_loses_work(outcome: Outcome, figure: Callable[[str], None]) -> None:
    figure(f"done during the upgrade: {outcome.work['done']}")
    assert outcome.work["problems"] == {}
    assert min(outcome.work["done"].values()) > 3
    assert outcome.work["steps"] == list(range(outcome.work["done"]["mlflow"]))
    assert outcome.work["stored"] == outcome.work["done"]["store"]
    own, listed = outcome.work["clusters"]
    assert own in listed


def test_every_service_is_back_in_time(outcome: Outcome, figure: Callable[[str], None]) -> None:
    for name, use in outcome.uses.items():
        figure(
            f"{name}: interrupted for {use.interruption:.1f} s at most, {len(use.problems)} errors"
        )
    longest = {name: use.interruption for name, use in outcome.uses.items()}
    assert max(longest.values()) < LONGEST_S, longest
