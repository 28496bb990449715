"""Two users run the whole chain at the same time; each service knows whom it works for."""

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from agc.samples import sample
from agc.synth import write
from coffea_shoppe_contract.names import bucket_name, model_prefix, resource_name, workspace_name
from coffea_shoppe_contract.resources import USER_LABEL
from lib.fixtures import passing_user, run_code
from lib.serving import REGISTER, printed_lines
from shoppe_ci import analysis, counters, origin
from shoppe_ci.cluster import Cluster
from shoppe_ci.counters import Endpoint
from shoppe_ci.facility import User
from shoppe_ci.wait import eventually

pytestmark = pytest.mark.part("logins")

NAMES = ("fay.chains", "gus.chains")
EVENTS = 30_000
MODELS = ("agc-ttbar-even", "agc-ttbar-odd")
TRIALS = 2
MINE = f"""{REGISTER}
import json, requests
runs = mlflow.search_runs(search_all_experiments=True)["tags.mlflow.runName"]
tell(json.dumps(runs.map(lambda name: name.split()[0]).value_counts().to_dict()))
url = shoppe.connections()["servicex"] + "/servicex/transformation"
header = {{"Authorization": "Bearer " + shoppe.token("servicex")}}
asked = requests.get(url, headers=header).json()["requests"]
tell(len(asked), {{one["status"] for one in asked}})
tell(asked[0]["request_id"])
tell(len(shoppe.storage().find("servicex")))
tell(json.dumps(sorted(one.model for one in shoppe.served())))
"""
OTHERS = """
import requests
rows = np.zeros((1, 20), "float32")
url = shoppe.connections()["servicex"] + "/servicex/transformation/"
header = {"Authorization": "Bearer " + shoppe.token("servicex")}
def transformation(name):
    return requests.get(url + name, headers=header).status_code
def workspace(name):
    mlflow.set_workspace(name)
    return len(mlflow.MlflowClient().search_registered_models())
def bucket(name):
    from pyarrow.fs import FileSelector
    whole = shoppe.storage().fs.base_fs
    return len(whole.get_file_info(FileSelector(name)))
"""


def metrics(cluster: Cluster) -> Counter[tuple[str, str]]:
    """Return what the proxies of all Tritons have counted, by user and model."""
    counts: Counter[tuple[str, str]] = Counter()
    for values in counters.read(cluster, Endpoint("triton", 9090)).values():
        for (name, labels), value in values.items():
            label = dict(labels)
            if name == "shoppe_triton_requests_total" and label["protocol"] == "grpc":
                counts[label["user"], label["model"]] += int(value)
    return counts


@pytest.fixture(scope="module")
def inputs(data_origin: Cluster, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("chain") / "ttbar.root"
    write(path, sample("ttbar"), events=EVENTS, seed=11)
    entry = {"path": origin.publish(data_origin, path), "nevts": EVENTS}
    return {"ttbar": {"nominal": {"files": [entry]}}}


@pytest.fixture(scope="module")
def fay(facility: Cluster) -> Iterator[User]:
    yield from passing_user(facility, NAMES[0])


@pytest.fixture(scope="module")
def gus(facility: Cluster) -> Iterator[User]:
    yield from passing_user(facility, NAMES[1])


def owners(cluster: Cluster) -> dict[str, str]:
    """Return the owner of each Dask cluster; its pods must carry the owner's label."""
    found = {}
    for one in cluster.get("daskclusters", "-n", "shoppe-dask")["items"]:
        name, owner = one["metadata"]["name"], one["spec"]["username"]
        found[name] = owner
        label = f"gateway.dask.org/cluster={one['metadata']['labels']['gateway.dask.org/cluster']}"
        for pod in cluster.get("pods", "-n", "shoppe-dask", "-l", label)["items"]:
            told = pod["metadata"]["labels"][USER_LABEL]
            assert told == resource_name(owner)
    return found


def test_each_service_knows_whom_it_works_for(
    data_origin: Cluster, inputs: dict[str, Any], fay: User, gus: User, tmp_path: Path
) -> None:
    before, old = metrics(data_origin), owners(data_origin)

    def work(name: str) -> analysis.Outcome:
        return analysis.run_agc(
            data_origin,
            name=name,
            weights="unit",
            inputs=inputs,
            results=tmp_path / name,
            assignment="served",
        )

    seen: dict[str, str] = {}
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(work, name) for name in NAMES]
        eventually(
            lambda: seen.update(owners(data_origin)) or all(one.done() for one in running),
            "both notebooks are done",
            timeout=400,
            every=3,
        )
        outcomes = [one.result() for one in running]
    # Dask: a cluster of each one's own.
    new = Counter(owner for name, owner in seen.items() if name not in old)
    assert {name: new[name] for name in NAMES} == dict.fromkeys(NAMES, 1)
    scored = metrics(data_origin) - before
    for name, user, outcome in zip(NAMES, (fay, gus), outcomes, strict=True):
        prefix = model_prefix(name)
        # Triton: each request by its sender, to the sender's own models: what the notebook
        # counted, and the comparison of a sample that it makes before.
        counted = {use["model"]: use["requests"] for use in outcome.report["served"].values()}
        assert counted.keys() == {f"{prefix}{model}" for model in MODELS}
        mine = {model: count for (who, model), count in scored.items() if who == name}
        assert mine == {model: count + 1 for model, count in counted.items()}
        assert (
            sum(u["rows"] for u in outcome.report["served"].values())
            == (outcome.report["candidates"])
        )
        runs, asked, _, objects, served = printed_lines(run_code(user, MINE))
        # MLflow: the training and its trials, and the selection; nothing of the other's.
        assert json.loads(runs) == {"even": TRIALS, "odd": TRIALS, "training": 1, "selection": 1}
        assert asked == "1 {'Complete'}"
        assert int(objects) == 1
        assert json.loads(served) == sorted(counted)
    for service in ("deployment/shoppe-servicex", "deployment/shoppe-mlflow"):
        log = data_origin.kubectl("-n", "shoppe", "logs", service, "--all-containers")
        for name in NAMES:
            assert f" for {name}" in log, f"{service} says for whom it works"


def test_nobody_reaches_what_is_the_others(data_origin: Cluster, fay: User, gus: User) -> None:
    """After the first test: each has something in every service."""
    requests = {user.name: printed_lines(run_code(user, MINE))[2] for user in (fay, gus)}
    for user, other in ((fay, gus), (gus, fay)):
        results = []
        for whose in (other, user):
            name = whose.name
            code = (
                f"{REGISTER}{OTHERS}"
                f"tell(said(lambda: transformation('{requests[name]}')))\n"
                f"tell(said(lambda: workspace('{workspace_name(name)}')))\n"
                f"tell(said(lambda: bucket('{bucket_name(name)}')))\n"
                f"tell(said(lambda: len(infer('{model_prefix(name)}{MODELS[0]}', rows))))"
            )
            results.append(printed_lines(run_code(user, code)))
        (transformation, workspace, bucket, model), own = results
        assert transformation in ("403", "404")
        assert workspace == "0" or "PERMISSION_DENIED" in workspace
        assert "ACCESS_DENIED" in bucket
        assert "PERMISSION_DENIED" in model
        assert own[0] == "200"
        assert own[1] == str(len(MODELS))
        assert int(own[2]) >= 1
        assert own[3] == "1"
