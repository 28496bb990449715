"""A facility that is restored into an empty cluster is the one that was backed up."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from coffea_shoppe_contract.resources import API_GROUP, FACILITY_USERS, SERVED_MODELS
from lib.fixtures import run_code
from lib.serving import REGISTER, printed_lines, serve_first
from shoppe_ci import backups, origin, release
from shoppe_ci.cluster import Cluster
from shoppe_ci.errors import ShoppeError
from shoppe_ci.facility import User, password
from shoppe_ci.kubectl import Access
from shoppe_ci.wait import eventually

pytestmark = [pytest.mark.part("restore"), pytest.mark.timeout(1500)]

GONE = ("--ignore-not-found",)
ASK = """
import json, pathlib, mlflow, requests, coffea_shoppe as shoppe
def requested(path=""):
    address = shoppe.connections()["servicex"] + "/servicex/transformation" + path
    own = {{"Authorization": "Bearer " + shoppe.token("servicex")}}
    return requests.get(address, headers=own, timeout=30).json()
"""
WORK = f"""{ASK}
from servicex import ProgressBarFormat, dataset, deliver, query
pathlib.Path.home().joinpath("notes.txt").write_text("a file")
mlflow.set_experiment("restore")
with mlflow.start_run() as run: mlflow.log_text("an artifact", "notes/artifact.txt")
with shoppe.storage().open("restore/object", "wb") as file: file.write(b"an object")
columns = {{{{"treename": "Events", "expressions": ["event"], "cut": "nJet > 5"}}}}
selection = query.UprootRaw(columns)
sample = {{{{"Name": "one", "Dataset": dataset.FileList(["{{url}}"]), "Query": selection}}}}
spec = {{{{"General": {{{{"OutputFormat": "parquet"}}}}, "Sample": [sample]}}}}
deliver(spec, progress_bar=ProgressBarFormat.none)
print(">", run.info.run_id, requested()["requests"][0]["request_id"])
"""
LOOK = f"""{ASK}
{{register}}
tell(pathlib.Path.home().joinpath("notes.txt").read_text())
tell(mlflow.artifacts.load_text("runs:/{{run}}/notes/artifact.txt"))
tell(shoppe.storage().cat_file("restore/object").decode())
tell(requested()["requests"][0]["request_id"], len(requested("/{{request}}/results")["results"]))
booster = mlflow.xgboost.load_model("models:/bdt@prod")
tell(abs(infer("{{model}}", rows) - booster.inplace_predict(rows)).max())
"""


def wipe(cluster: Cluster) -> None:
    """Remove the release and everything that it leaves."""
    release.uninstall(cluster)
    for kind in (FACILITY_USERS, SERVED_MODELS):
        name = f"{kind}.{API_GROUP}"
        for resource in cluster.get(name, "-n", "shoppe")["items"]:
            words = ("-n", "shoppe", "patch", name, resource["metadata"]["name"], "--type=merge")
            cluster.kubectl(*words, "-p", '{"metadata": {"finalizers": null}}')
    cluster.kubectl("delete", "namespace", "shoppe", "shoppe-dask", *GONE, "--timeout=300s")
    listed = cluster.get("crd")["items"]
    groups = (API_GROUP, "gateway.dask.org", "traefik.io")
    names = [item["metadata"]["name"] for item in listed if item["spec"]["group"] in groups]
    cluster.kubectl("delete", "crd", *names, *GONE, "--timeout=120s")


@dataclass(frozen=True)
class Before:
    """What a user had, and the backup that was made then."""

    folder: Path
    token: str
    """Of the hub."""
    run: str
    request: str
    model: str
    secret: str
    """The hub's password for users."""


@pytest.fixture(scope="module")
def before(
    data_origin: Cluster,
    ann: User,
    samples: list[tuple[Path, str, str, int]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Before:
    """The facility as it was backed up; it is gone then."""
    model = serve_first(ann)
    url = origin.publish(data_origin, samples[0][0])
    run, request = printed_lines(run_code(ann, WORK.format(url=url)))[-1].split()
    token = ann.hub("POST", f"/users/{ann.name}/tokens", json={"note": "kept"}).json()["token"]
    facility = backups.Facility(Access(data_origin.kubeconfig), "shoppe", "shoppe")
    folder = tmp_path_factory.mktemp("backups")
    backup = backups.create(facility, folder, keep=1)
    secret = password(data_origin)
    wipe(data_origin)
    return Before(backup, token, run, request, model, secret)


def test_a_backup_is_whole_and_private(before: Before) -> None:
    outcome = backups.check(before.folder)
    assert {"databases/mlflow", "databases/servicex", "hub.sqlite"} <= outcome.files.keys()
    assert "volumes/shoppe-objectstore" in outcome.files
    assert outcome.left_out == []
    assert before.folder.stat().st_mode & 0o077 == 0


def test_a_backup_is_refused_where_it_cannot_be_restored(
    before: Before, data_origin: Cluster, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(before.folder, damaged)
    (damaged / "databases" / "mlflow").write_bytes(b"")
    with pytest.raises(ShoppeError, match="databases/mlflow is missing, or is not what"):
        backups.restore(Access(data_origin.kubeconfig), damaged, release.UMBRELLA)
    assert not data_origin.get("namespace", "shoppe", "--ignore-not-found")


def test_users_find_what_they_had(
    before: Before, data_origin: Cluster, figure: Callable[[str], None]
) -> None:
    start = time.monotonic()
    access = Access(data_origin.kubeconfig)
    backups.restore(access, before.folder, release.UMBRELLA)
    size = sum(path.stat().st_size for path in before.folder.rglob("*") if path.is_file()) / 1e6
    figure(f"restored in {time.monotonic() - start:.0f} s, from {size:.0f} MB")
    assert password(data_origin) == before.secret
    user = User.with_token(data_origin.url, before.token)
    assert user.name.startswith("ann")
    user.login(before.secret)
    user.spawn()
    look = LOOK.format(
        register=REGISTER, run=before.run, request=before.request, model=before.model
    )
    model_is_served(user, before.model)
    *found, request, difference = printed_lines(run_code(user, look))
    assert found == ["a file", "an artifact", "an object"]
    assert request == f"{before.request} 1"
    assert float(difference) == 0.0
    with pytest.raises(ShoppeError, match="there is a release 'shoppe'"):
        backups.restore(access, before.folder, release.UMBRELLA)


def model_is_served(user: User, name: str) -> None:
    """Wait until Triton has the model again."""
    code = f"{REGISTER}\ntell(said(lambda: infer('{name}', rows).size))"
    eventually(
        lambda: printed_lines(run_code(user, code)) == ["1000"],
        "the restored model is served",
        timeout=180,
        every=5,
    )
