"""Models registered in MLflow are served by Triton to their owner, and to nobody else."""

from pathlib import Path

import pytest
from coffea_shoppe_contract.names import model_prefix
from lib.fixtures import run_code
from lib.serving import REGISTER, SERVE, printed_lines, serve_first
from shoppe_ci.cluster import Cluster
from shoppe_ci.facility import User
from shoppe_ci.wait import eventually

COUNT = """
import requests
def counted(model):
    address, headers = shoppe.triton()
    url = f"{shoppe.connections()['triton']}/v2/models/{model}/stats"
    stats = requests.get(url, headers=headers).json()["model_stats"][0]
    return stats["inference_stats"]["success"]["count"], stats["inference_count"]
"""
AGC = """
import json, subprocess
def run(*words):
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
from agc.samples import sample
from agc.synth import write
from pathlib import Path
write(Path("/tmp/ttbar.root"), sample("ttbar"), events=30000)
run("agc", "train", "--input", "/tmp/ttbar.root", "--trials", "1",
    "--output", "/tmp/models", "--experiment", "train")
for parity in ("even", "odd"):
    tell(shoppe.serve(f"models:/agc-ttbar-{parity}/1").ready)
common = ("agc", "run", "--input", "/tmp/ttbar.root", "--weights", "unit")
run(*common, "--models", "/tmp/models", "--output", "/tmp/local.root")
run(*common, "--served", "agc-ttbar", "--output", "/tmp/served.root")
import uproot
with uproot.open("/tmp/local_ml.root") as local, uproot.open("/tmp/served_ml.root") as served:
    names = local.keys(cycle=False)
    same = [np.array_equal(local[n].values(flow=True), served[n].values(flow=True)) for n in names]
    tell(len(names) >= 20 and all(same), sum(local[n].values().sum() for n in names) > 1000)
(one,) = [one for one in shoppe.served() if one.name == "agc-ttbar-even"]
tell(counted(one.model)[0] > 0)
tell(one.training.startswith("ttbar__nominal:"), len(one.code))
config = requests.get(f"{one.url}/config", headers=shoppe.triton()[1]).json()["parameters"]
signature = json.loads(config["mlflow.v1.signature"]["string_value"])
tell(signature["inputs"][0]["tensor-spec"]["shape"])
tell([config[f"mlflow.v1.{key}"]["string_value"] == getattr(one, key) for key in
      ("sha256", "training", "code")])
"""

KINDS = """
import gzip, json, requests, zlib
from concurrent.futures import ThreadPoolExecutor
import tritonclient.grpc as triton
def whole(name, rows):
    address, headers = shoppe.triton()
    with triton.InferenceServerClient(address) as client:
        tensor = triton.InferInput("input__0", rows.shape, "FP32")
        tensor.set_data_from_numpy(rows)
        result = client.infer(name, [tensor], headers=headers, compression_algorithm="gzip")
        return result.as_numpy("output__0")
def by_http(name, rows, coding, compress):
    # As the HTTP client of Triton does with its options for compression.
    values = {"shape": rows.shape, "datatype": "FP32", "data": rows.ravel().tolist()}
    body = json.dumps({"inputs": [{"name": "input__0", **values}]}).encode()
    headers = {"Content-Encoding": coding, "Accept-Encoding": coding, **shoppe.triton()[1]}
    url = f"{shoppe.connections()['triton']}/v2/models/{name}/infer"
    response = requests.post(url, data=compress(body), headers=headers, timeout=60)
    response.raise_for_status()
    (output,) = response.json()["outputs"]
    scores = np.array(output["data"], "float32").reshape(output["shape"])
    return response.headers.get("Content-Encoding"), scores
def log(booster, name):
    signature = infer_signature(rows, booster.predict(xgboost.DMatrix(rows)))
    with mlflow.start_run():
        logged = mlflow.xgboost.log_model(
            booster, name="model", model_format="ubj", registered_model_name=name,
            signature=signature, pip_requirements=["xgboost-cpu"])
    return f"models:/{name}/{logged.registered_model_version}"
three = np.digitize(rows[:, 0], [-0.5, 0.5])
matrix = xgboost.DMatrix(rows, three)
options = {"objective": "multi:softprob", "num_class": 3, "nthread": 1}
booster = xgboost.train(options, matrix, 20)
one = shoppe.serve(log(booster, "three"))
tell(one.method, one.outputs)
own = booster.predict(matrix)
tell(abs(whole(one.model, rows) - own).max() < 1e-6)
for coding, compress in (("gzip", gzip.compress), ("deflate", zlib.compress)):
    response_coding, scores = by_http(one.model, rows, coding, compress)
    tell(response_coding, abs(scores - own).max() < 1e-6)
# Many small requests come in batches; each gets its own rows.
starts = range(0, len(rows), 5)
with ThreadPoolExecutor(16) as pool:
    parts = list(pool.map(lambda start: whole(one.model, rows[start : start + 5]), starts))
tell(abs(np.concatenate(parts) - own).max() < 1e-6)
real = xgboost.train({"nthread": 1}, xgboost.DMatrix(rows, rows[:, 1]), 20)
one = shoppe.serve(log(real, "real"))
tell(one.method, one.outputs)
noise = np.random.default_rng(2).integers(0, 2, len(rows))
held = [(xgboost.DMatrix(rows, noise[::-1]), "held")]
early = xgboost.train({"objective": "binary:logistic"}, xgboost.DMatrix(rows, noise), 60,
                      evals=held, early_stopping_rounds=5, verbose_eval=False)
tell(said(lambda: shoppe.serve(log(early, "early"))))
cut = early[: early.best_iteration + 1]
one = shoppe.serve(log(cut, "early"))
best = early.predict(xgboost.DMatrix(rows), iteration_range=(0, early.best_iteration + 1))
tell(abs(whole(one.model, rows)[:, 1] - best).max() < 1e-6)
for name in ("three", "real", "early"): shoppe.unserve(name)
"""
PUBLISHED = """
import subprocess
from pathlib import Path
from agc.inference import LocalModels
from agc.tracking import register as register_assignment
def run(*words):
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
local = LocalModels.load(Path("published"))
some = np.random.default_rng(1).uniform(0, 300, size=(20000, 20)).astype("float32")
for parity, booster in local.boosters.items():
    with mlflow.start_run():
        version = register_assignment(booster, f"published-{parity}", metadata={})
    one = shoppe.serve(f"models:/published-{parity}/{version}")
    tell(abs(infer(one.model, some) - local(parity, some)).max())
common = ("agc", "run", "--input", "published/sample.root=ttbar", "--weights", "unit")
run(*common, "--models", "published", "--output", "/tmp/local.root")
run(*common, "--served", "published", "--output", "/tmp/served.root")
import uproot
with uproot.open("/tmp/local_ml.root") as mine, uproot.open("/tmp/served_ml.root") as theirs:
    names = mine.keys(cycle=False)
    same = [np.array_equal(mine[n].values(flow=True), theirs[n].values(flow=True)) for n in names]
    tell(len(names) >= 20 and all(same), sum(mine[n].values().sum() for n in names) > 0)
"""


@pytest.fixture(scope="module")
def served(ann: User) -> str:
    """A model that a user serves: its name in Triton."""
    return serve_first(ann)


def test_a_model_is_served_and_triton_counts_what_was_asked(ann: User, served: str) -> None:
    assert served == f"{model_prefix(ann.name)}bdt"
    code = (
        f"{REGISTER}{COUNT}"
        f"before = counted('{served}')\n"
        "from dask_gateway import Gateway\n"
        "cluster = Gateway().new_cluster(); cluster.scale(2); client = cluster.get_client()\n"
        "client.wait_for_workers(2, timeout=180)\n"
        f"def thrice(): return [float(infer('{served}', rows).sum()) for _ in range(3)]\n"
        "sums = [one for three in client.run(thrice).values() for one in three]\n"
        f"sums.append(float(infer('{served}', rows).sum()))\n"
        f"after = counted('{served}')\n"
        "cluster.shutdown()\n"
        "print(after[0] - before[0], after[1] - before[1], len(set(sums)))"
    )
    assert run_code(ann, code).splitlines()[-1] == "7 7000 1"
    where = (
        f"{REGISTER}import requests\n"
        f"url = shoppe.connections()['triton'] + '/v2/models/{served}/config'\n"
        "told = requests.get(url, headers=shoppe.triton()[1]).json()['parameters']\n"
        "(mine,) = [one for one in shoppe.served() if one.name == 'bdt']\n"
        "print(told['mlflow.v1.run_id']['string_value'] == mine.run,\n"
        "      told['mlflow.v1.sha256']['string_value'] == mine.sha256)"
    )
    assert run_code(ann, where).split() == ["True", "True"]


def test_two_users_with_the_same_name_do_not_meet(
    ann: User, bob: User, served: str, facility: Cluster
) -> None:
    assert printed_lines(run_code(bob, SERVE))[-1] == "0.0"
    tried = (
        f"{REGISTER}import requests\n"
        "base, token = shoppe.connections()['triton'], shoppe.triton()[1]\n"
        f"print(said(lambda: infer('{served}', rows)))\n"
        f"for path in ('models/{served}', 'models/{served}/stats', 'repository/index',\n"
        f"             'repository/models/{served}/unload'):\n"
        "    method = 'POST' if 'repo' in path else 'GET'\n"
        "    print(requests.request(method, f'{base}/v2/{path}', headers=token).status_code)\n"
        "wrong = {'authorization': 'Bearer ' + shoppe.token('mlflow')}\n"
        "for headers in ({}, wrong, token):\n"
        "    print(requests.get(f'{base}/v2', headers=headers).status_code)\n"
    )
    lines = run_code(bob, tried).splitlines()
    assert f"PERMISSION_DENIED] '{served}' is not a model of '{bob.name}'" in lines[0]
    assert lines[1:] == ["403"] * 4 + ["401", "401", "200"]
    assert run_code(ann, f"{REGISTER}print(len(infer('{served}', rows)))").strip() == "1000"


def test_versions_change_roll_back_and_break_as_the_status_tells(ann: User, served: str) -> None:
    code = (
        f"{REGISTER}"
        "second, version = register(2)\n"
        "mlflow.MlflowClient().set_registered_model_alias('bdt', 'prod', version)\n"
        "tell(shoppe.serve('models:/bdt@prod').version)\n"
        f"tell(abs(infer('{served}', rows) - second.inplace_predict(rows)).max())\n"
        "tell(shoppe.serve('models:/bdt/1').version)\n"
        f"back = infer('{served}', rows)\n"
        "tell(abs(back - second.inplace_predict(rows)).max() > 0)\n"
        "tell(said(lambda: shoppe.serve('models:/bdt/99')))\n"
        "import mlflow.pyfunc\n"
        "class Mine(mlflow.pyfunc.PythonModel):\n"
        "    def predict(self, context, model_input, params=None): return model_input\n"
        "with mlflow.start_run():\n"
        "    mlflow.pyfunc.log_model(name='model', python_model=Mine(), pip_requirements=[],\n"
        "                            registered_model_name='code')\n"
        "tell(said(lambda: shoppe.serve('models:/code/1')))\n"
        "tell(said(lambda: shoppe.serve('bdt')))\n"
        f"tell(said(lambda: infer('{served}', rows[:, :3].copy())))\n"
        "shoppe.unserve('code')\n"
        f"tell((infer('{served}', rows) == back).all())\n"
    )
    lines = printed_lines(run_code(ann, code))
    new, same, old, other, missing, foreign, wrong, shape, still = lines
    assert (new, float(same), old, other) == ("2", 0.0, "1", "True")
    assert "version 1 is still served" in missing
    assert "only XGBoost models can be served" in foreign
    assert "should match pattern" in wrong
    assert "unexpected shape for input 'input__0'" in shape
    assert still == "True"


@pytest.mark.part("faults")
def test_a_restarted_triton_serves_what_it_did(ann: User, served: str, facility: Cluster) -> None:
    facility.kubectl(
        *("-n", "shoppe", "delete", "pod", "--grace-period=0", "--force", "--wait=false"),
        *("-l", "app.kubernetes.io/component=triton"),
    )
    code = f"{REGISTER}print(said(lambda: len(infer('{served}', rows))))"
    eventually(
        lambda: run_code(ann, code).strip() == "1000",
        "Triton serves the model again",
        timeout=120,
        every=2,
    )


def test_each_kind_of_model_is_served_correctly_or_refused(bob: User) -> None:
    lines = printed_lines(run_code(bob, f"{REGISTER}{KINDS}"))
    three, same, zipped, deflated, apart, real, early, cut = lines
    assert (three, same, apart) == ("predict_proba 3", "True", "True")
    assert (zipped, deflated) == ("gzip True", "deflate True")
    assert real == "predict 1"
    assert "training stopped early" in early
    assert cut == "True"


def test_the_analysis_scores_the_same_locally_and_by_triton(bob: User) -> None:
    lines = printed_lines(run_code(bob, f"{REGISTER}{COUNT}{AGC}"))
    same = ["True", "True", "True True", "True"]
    assert lines == [*same, "True 64", "[-1, 20]", "[True, True, True]"]


@pytest.mark.reference
def test_published_models_and_the_real_sample_score_the_same_by_triton(
    bob: User, reference_data: Path
) -> None:
    for parity in ("even", "odd"):
        name = f"model_{parity}.json"
        bob.upload(reference_data / "agc" / name, f"published/{name}")
    bob.upload(reference_data / "NanoAODv5_sample.root", "published/sample.root")
    even, odd, same = printed_lines(run_code(bob, f"{REGISTER}{PUBLISHED}"))
    assert (float(even), float(odd), same) == (0.0, 0.0, "True True")


def test_what_is_no_longer_served_is_gone(ann: User, served: str) -> None:
    code = (
        f"{REGISTER}import time\n"
        "shoppe.unserve('bdt')\n"
        "for _ in range(60):\n"
        f"    told = said(lambda: infer('{served}', rows))\n"
        "    if isinstance(told, str): break\n"
        "    time.sleep(1)\n"
        "print(told); print(shoppe.served()); print(said(lambda: shoppe.unserve('bdt')))"
    )
    told, listed, again = run_code(ann, code).splitlines()[-3:]
    assert "is not found" in told or "unknown model" in told
    assert listed == "[]"
    assert "no model" in again
