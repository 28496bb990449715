"""Each user has a workspace of MLflow, finds it without an address, and nobody else gets in."""

from collections.abc import Iterator

import pytest
from coffea_shoppe_contract import MLFLOW_PATH
from coffea_shoppe_contract.names import workspace_name
from lib.fixtures import passing_user, run_code
from shoppe_ci.cluster import Cluster
from shoppe_ci.errors import ShoppeError
from shoppe_ci.facility import User
from shoppe_ci.wait import eventually

LOG = """
import mlflow
mlflow.set_experiment("agc")
with mlflow.start_run() as run:
    mlflow.log_param("trees", 100)
    mlflow.log_metric("auc", 0.9)
    mlflow.log_text("hello", "notes/hello.txt")
mlflow.MlflowClient().create_registered_model("bdt")
print(run.info.run_id, run.info.artifact_uri)
"""
READ = """
import mlflow
client = mlflow.MlflowClient()
for experiment in client.search_experiments():
    for run in client.search_runs([experiment.experiment_id]):
        text = mlflow.artifacts.load_text(run.info.artifact_uri + "/notes/hello.txt")
        print(experiment.name, run.data.params, run.data.metrics, text)
print([model.name for model in client.search_registered_models()])
"""
ASK = """
import os, requests, coffea_shoppe as shoppe
base = os.environ["MLFLOW_TRACKING_URI"] + "/api/"
mine = {"Authorization": "Bearer " + shoppe.token("mlflow")}
def ask(method, path, headers, **body):
    options = {"params": body} if method == "GET" else {"json": body}
    print(requests.request(method, base + path, headers=headers, **options).status_code)
"""
SEARCH = '"GET", "2.0/mlflow/experiments/search"'
TRAIN = """
import subprocess
def run(*words):
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
from agc.samples import sample
from agc.synth import write
from pathlib import Path
write(Path("/tmp/ttbar.root"), sample("ttbar"), events=30000)
print(run("agc", "train", "--input", "/tmp/ttbar.root", "--trials", "2",
          "--output", "/tmp/models", "--experiment", "train"))
import mlflow, numpy, xgboost
from agc.inference import LocalModels
from pathlib import Path
local = LocalModels.load(Path("/tmp/models"))
rows = numpy.random.default_rng(1).normal(size=(1000, 20)).astype("float32")
for parity in ("even", "odd"):
    held = mlflow.xgboost.load_model(f"models:/agc-ttbar-{parity}/1")
    print(abs(held.inplace_predict(rows) - local(parity, rows)).max())
runs = mlflow.search_runs(experiment_names=["train"], output_format="list")
print(len(runs), sum("mlflow.parentRunId" in run.data.tags for run in runs))
"""


@pytest.fixture(scope="module")
def ann(facility: Cluster) -> Iterator[User]:
    yield from passing_user(facility, "ann.tracks@example.org")


@pytest.fixture(scope="module")
def bob(facility: Cluster) -> Iterator[User]:
    yield from passing_user(facility, "bob.tracks")


@pytest.fixture(scope="module")
def logged(ann: User) -> str:
    """The run of a user, who has an experiment and a model; its id."""
    run, uri = run_code(ann, LOG).split()[-2:]
    workspace = workspace_name(ann.name)
    assert uri == f"mlflow-artifacts:/workspaces/{workspace}/{uri.split('/')[3]}/{run}/artifacts"
    return run


def test_a_notebook_logs_without_an_address_and_its_artifacts_are_objects(
    ann: User, logged: str, facility: Cluster
) -> None:
    lines = run_code(ann, READ).splitlines()
    assert lines == ["agc {'trees': '100'} {'auc': 0.9} hello", "['bdt']"]
    found = facility.kubectl(
        *("-n", "shoppe", "exec", "shoppe-objectstore-0", "-c", "objectstore", "--"),
        *("find", "/data/objects/service-mlflow", "-path", f"*{logged}*", "-type", "f"),
    )
    assert f"/workspaces/{workspace_name(ann.name)}/" in found
    assert found.strip().endswith(f"{logged}/artifacts/notes/hello.txt")


@pytest.mark.usefixtures("logged")
def test_two_users_with_the_same_names_do_not_meet(ann: User, bob: User) -> None:
    run_code(bob, LOG.replace("hello", "mine"))
    assert run_code(ann, READ).splitlines()[0].endswith(" hello")
    theirs = workspace_name(ann.name)
    there = f"mine | {{'X-MLFLOW-WORKSPACE': '{theirs}'}}"
    change = f"{ASK}ask('POST', '2.0/mlflow/experiments/create', {there}, name='theft')"
    assert run_code(bob, change).split() == ["403"]
    assert run_code(ann, change).split() == ["200"]
    look = (
        "import os, mlflow\n"
        f"mlflow.set_workspace('{theirs}')\n"
        "try: print(mlflow.MlflowClient().search_registered_models())\n"
        "except mlflow.MlflowException as error: print('refused')"
    )
    assert run_code(bob, look, fresh=True).strip() in ("[]", "refused")
    assert "bdt" in run_code(ann, look, fresh=True)
    # What is shared may be read, and nothing more, until it is taken back.
    share = f"import coffea_shoppe as shoppe\nshoppe.{{}}_runs({bob.name!r})"
    run_code(ann, share.format("share"))
    theirs_too = READ.replace("client =", f"mlflow.set_workspace('{theirs}'); client =")
    assert run_code(bob, theirs_too, fresh=True) == run_code(ann, READ)
    assert run_code(bob, change).split() == ["403"]
    run_code(ann, share.format("unshare"))
    assert run_code(bob, look, fresh=True).strip() in ("[]", "refused")


def test_a_version_of_a_model_names_nothing_of_another_s(ann: User, bob: User, logged: str) -> None:
    workspace = workspace_name(ann.name)
    found = run_code(ann, f"import mlflow; print(mlflow.get_run('{logged}').info.artifact_uri)")
    path = found.split()[-1].removeprefix("mlflow-artifacts:")
    assert path.startswith(f"/workspaces/{workspace}/")
    own = run_code(bob, LOG.replace('"bdt"', '"thief"').replace('"agc"', '"own"')).split()[-2:]
    code = (
        f"{ASK}mine['X-MLFLOW-WORKSPACE'] = '{workspace_name(bob.name)}'\n"
        "def create(source, **more):\n"
        "    ask('POST', '2.0/mlflow/model-versions/create', mine, name='thief',\n"
        "        source=source, **more)\n"
        f"create('s3://service-mlflow{path}')\n"
        f"create('mlflow-artifacts:{path}', run_id='{logged}')\n"
        f"create('mlflow-artifacts:{path}', run_id='{own[0]}')\n"
        f"create('runs:/{logged}/', run_id='{logged}')\n"
        f"create('{own[1]}', run_id='{own[0]}')\n"
        "ask('GET', '2.0/mlflow/users/list', mine)\n"
    )
    *refused, taken, listed = run_code(bob, code).split()
    assert set(refused) <= {"400", "403"}
    assert len(refused) == 4
    assert (taken, listed) == ("200", "403")


def test_only_tokens_for_mlflow_are_accepted_and_users_are_not_made_here(bob: User) -> None:
    tried = (
        f"{ASK}ask({SEARCH}, {{}}, max_results=5)\n"
        "wrong = {'Authorization': 'Bearer ' + shoppe.token('servicex')}\n"
        f"ask({SEARCH}, wrong, max_results=5)\n"
        f"ask({SEARCH}, {{'Authorization': 'Basic YWRtaW46YWRtaW4='}}, max_results=5)\n"
        f"workspace = {{'X-MLFLOW-WORKSPACE': '{workspace_name(bob.name)}'}}\n"
        f"ask({SEARCH}, mine | workspace, max_results=5)\n"
        "ask('POST', '2.0/mlflow/users/create', mine, username='x', password='a' * 20)\n"
        "ask('PATCH', '2.0/mlflow/users/update-admin', mine, username='x', is_admin=True)\n"
        "ask('GET', '2.0/mlflow/users/current', mine)\n"
    )
    assert run_code(bob, tried).split() == ["401", "401", "401", "200", "403", "403", "200"]


@pytest.mark.usefixtures("logged")
def test_the_pages_are_their_user_s_behind_the_hub_s_login(
    ann: User, bob: User, facility: Cluster
) -> None:
    base = f"{facility.url}{ann.server_path}/{MLFLOW_PATH}/"
    page = ann.session.get(base, timeout=60)
    assert page.status_code == 200
    assert "<title>MLflow</title>" in page.text
    search = f"{base}ajax-api/2.0/mlflow/experiments/search"
    own = ann.session.post(search, json={"max_results": 10}, timeout=60)
    assert "agc" in {entry["name"] for entry in own.json()["experiments"]}
    # As a page of another site would have a browser do.
    forged = {"Origin": "https://evil.example.org"}
    response = ann.session.post(search, json={"max_results": 10}, headers=forged, timeout=60)
    assert response.status_code == 403
    same = {"Origin": facility.url}
    response = ann.session.post(search, json={"max_results": 10}, headers=same, timeout=60)
    assert response.status_code == 200
    assert "<title>MLflow</title>" not in bob.session.get(base, timeout=60).text


def test_a_training_is_logged_and_its_models_come_back_the_same(bob: User) -> None:
    lines = run_code(bob, TRAIN).splitlines()
    assert "registered as agc-ttbar-even, version 1" in lines
    even, odd, runs = lines[-3:]
    assert (float(even), float(odd)) == (0.0, 0.0)
    # Two trials of each parity below the training itself.
    assert runs == "5 4"


@pytest.mark.part("faults")
@pytest.mark.usefixtures("logged")
def test_a_killed_database_and_a_killed_mlflow_lose_nothing(ann: User, facility: Cluster) -> None:
    facility.kubectl(
        *("-n", "shoppe", "delete", "pod", "--grace-period=0", "--force", "--wait=false"),
        *("-l", "app.kubernetes.io/component in (postgresql, mlflow)"),
    )

    def back() -> bool:
        try:
            return "hello" in run_code(ann, READ)
        except ShoppeError:
            return False

    eventually(back, "MLflow responds again, with what was there", timeout=240, every=3)
