"""A user who is deleted: within a minute nothing that was the user's is of any use."""

import base64
import json
import time
from collections.abc import Callable, Iterator

import pytest
from coffea_shoppe_contract.names import resource_name
from coffea_shoppe_contract.resources import USER_LABEL
from lib.fixtures import passing_user, remove_user, run_code
from lib.serving import serve_first
from shoppe_ci import origin
from shoppe_ci.cluster import Cluster
from shoppe_ci.facility import User
from shoppe_ci.wait import eventually

REFUSED_S = 60
"""What is promised."""
FUNCTION = "def run_query(file):\n    import time\n    time.sleep(600)\n"
EVERYTHING = """
import json, os, requests
from pathlib import Path
import coffea_shoppe as shoppe
from coffea_shoppe_contract.claims import AUDIENCES
from coffea_shoppe_contract.files import (
    IDENTITY_FOLDER, S3_BUCKET_FILE, S3_KEYS_FILE, WORKSPACE_FILE
)
from dask_gateway import Gateway
cluster = Gateway().new_cluster(shutdown_on_close=False); cluster.scale(1)
cluster.get_client().wait_for_workers(1, timeout=180)
folder, services = Path(IDENTITY_FOLDER), shoppe.connections()
tokens = {name: shoppe.token(name) for name in AUDIENCES}
asked = requests.post(services["servicex"] + "/servicex/transformation", timeout=30,
    headers={"Authorization": "Bearer " + tokens["servicex"]},
    json={"title": "long", "codegen": "python", "result-format": "parquet",
          "result-destination": "object-store", "file-list": [URL], "selection": FUNCTION})
request = asked.json()["request_id"]
told = requests.get(services["servicex"] + "/servicex/transformation/" + request, timeout=30,
    headers={"Authorization": "Bearer " + tokens["servicex"]}).json()
renewed = requests.post(services["servicex"] + "/token/refresh", timeout=30,
    headers={"Authorization": "Bearer " + tokens["servicex-refresh"]}).json()
print(json.dumps({
    "services": services, "tokens": tokens, "request": request,
    "access": renewed["access_token"], "cluster": cluster.name,
    "s3-gateway": [told["minio-endpoint"], told["minio-access-key"], told["minio-secret-key"]],
    "bucket": (folder / S3_BUCKET_FILE).read_text().strip(),
    "s3": json.loads((folder / S3_KEYS_FILE).read_text()),
    "workspace": (folder / WORKSPACE_FILE).read_text(),
    "hub": [os.environ["JUPYTERHUB_API_URL"], os.environ["JUPYTERHUB_API_TOKEN"]],
    "gateway": os.environ["DASK_GATEWAY__ADDRESS"],
}))
"""
TRY = """
import json, time
import numpy as np, requests
import tritonclient.grpc as triton
from coffea_shoppe_contract.api import STATUS_PATH, WORKSPACE_HEADER
from pyarrow.fs import FileSelector, S3FileSystem
held = json.loads(HELD)
services, tokens = held["services"], held["tokens"]
def http(url, token, method="GET", kind="Bearer", **headers):
    response = requests.request(
        method, url, headers={"Authorization": f"{kind} {token}", **headers}, timeout=10)
    assert response.ok, response.status_code
def s3(endpoint, key, secret, bucket):
    store = S3FileSystem(access_key=key, secret_key=secret, endpoint_override=endpoint,
                         scheme="http", region="us-east-1")
    store.get_file_info(FileSelector(bucket))
def grpc():
    address = services["triton-grpc"].removeprefix("grpc://")
    rows = np.zeros((1, 5), "float32")
    with triton.InferenceServerClient(address) as client:
        tensor = triton.InferInput("input__0", rows.shape, "FP32")
        tensor.set_data_from_numpy(rows)
        client.infer(MODEL, [tensor], headers={"authorization": "Bearer " + tokens["triton"]})
sx = services["servicex"]
keys = held["s3"]
CHECKS = {
    "the facility API": lambda: http(services["api"] + STATUS_PATH, tokens["api"]),
    "MLflow": lambda: http(services["mlflow"] + "/api/2.0/mlflow/users/current",
                           tokens["mlflow"], **{WORKSPACE_HEADER: held["workspace"]}),
    "ServiceX, token": lambda: http(sx + "/servicex/transformation", tokens["servicex"]),
    "ServiceX, access token": lambda: http(sx + "/servicex/transformation", held["access"]),
    "ServiceX, refresh token": lambda: http(
        sx + "/token/refresh", tokens["servicex-refresh"], "POST"),
    "ServiceX, keys of a request": lambda: s3(*held["s3-gateway"], held["request"]),
    "the object store's keys": lambda: s3(
        services["s3"].removeprefix("http://"), keys["AccessKeyId"],
        keys["SecretAccessKey"], held["bucket"]),
    "Triton over HTTP": lambda: http(
        services["triton"] + f"/v2/models/{MODEL}/ready", tokens["triton"]),
    "Triton over gRPC": grpc,
    "the hub's token of the server": lambda: http(
        held["hub"][0] + "/user", held["hub"][1], kind="token"),
    "the gateway of Dask clusters": lambda: http(
        held["gateway"] + "api/v1/clusters/", held["hub"][1], kind="jupyterhub"),
}
def refused():
    found = {}
    for name, check in CHECKS.items():
        try: check()
        except Exception as error: found[name] = f"{type(error).__name__}: {error}"[:90]
    return found
"""


@pytest.fixture
def leaver(facility: Cluster) -> Iterator[User]:
    yield from passing_user(facility, "leo.leaver")


def stopped(facility: Cluster, resource: str, request: str) -> dict[str, Callable[[], bool]]:
    """Return what must not run any more for a user, and how that is seen."""
    label = f"{USER_LABEL}={resource}"

    def none(kind: str, namespace: str, *words: str) -> bool:
        return not facility.get(kind, "-n", namespace, *words)["items"]

    def canceled() -> bool:
        query = f"select status from requests where id = '{request}'"  # noqa: S608  (ours)
        psql = ("psql", "-h", "/run/postgresql", "-U", "postgres", "-d", "servicex", "-Atc", query)
        where = ("-n", "shoppe", "exec", "shoppe-postgresql-0", "-c", "postgresql", "--")
        printed = facility.kubectl(*where, *psql)
        return printed.strip().splitlines()[-1:] in ([], ["Canceled"])

    return {
        "the notebook's pod": lambda: none("pods", "shoppe", "-l", label),
        "the Dask cluster's and the transformer's pods": lambda: none(
            "pods", "shoppe-dask", "-l", label
        ),
        "the running transform": canceled,
        "the served model": lambda: none("servedmodels", "shoppe", "-l", label),
        "the NetworkPolicy": lambda: none("networkpolicies", "shoppe-dask", "-l", label),
        "the Secrets": lambda: all(
            not facility.get(
                "secret", f"shoppe-user-{resource}", "-n", namespace, "--ignore-not-found"
            )
            for namespace in ("shoppe", "shoppe-dask")
        ),
    }


def test_whatever_a_deleted_user_held_is_refused_within_a_minute(
    data_origin: Cluster,
    samples: list[tuple],  # type: ignore[type-arg]
    leaver: User,
    bob: User,
    figure: Callable[[str], None],
) -> None:
    model = serve_first(leaver)
    resource = resource_name(leaver.name)
    url = origin.publish(data_origin, samples[0][0])
    function = base64.b64encode(FUNCTION.encode()).decode()
    code = f"URL, FUNCTION = {url!r}, {function!r}\n{EVERYTHING}"
    held = run_code(leaver, code).splitlines()[-1]
    trying = f"HELD, MODEL = {held!r}, {model!r}\n{TRY}"
    own = ("pods", "-n", "shoppe-dask", "-l", "app.kubernetes.io/component=transformer")
    eventually(lambda: data_origin.get(*own)["items"], "the function runs", timeout=90)
    good = f"{trying}print(json.dumps([list(CHECKS), refused()]))"
    checked, refused = json.loads(run_code(bob, good).splitlines()[-1])
    assert refused == {}, "all is good before"
    running = stopped(data_origin, resource, json.loads(held)["request"])
    assert [what for what, gone in running.items() if gone()] == []

    start = time.time()
    # Watched from the start: the deletion ends with the last of what must end.
    remove_user(data_origin, leaver.name, data="keep", wait=False)
    watching = (
        f"{trying}start, seen = {start!r}, {{}}\n"
        "while len(seen) < len(CHECKS) and time.time() < start + 90:\n"
        "    for name, why in refused().items():\n"
        "        seen.setdefault(name, (time.time() - start, why))\n"
        "    time.sleep(0.5)\n"
        "print(json.dumps([seen, refused()]))"
    )
    seen, still = json.loads(run_code(bob, watching).splitlines()[-1])
    gone: dict[str, float] = {}
    for what, is_gone in running.items():
        eventually(is_gone, f"{what} is gone", timeout=max(start + REFUSED_S - time.time(), 1))
        gone[what] = time.time() - start
    for name, (seconds, why) in sorted(seen.items(), key=lambda row: row[1]):
        figure(f"{seconds:5.1f} s after the deletion refused: {name} ({why})")
    for what, seconds in gone.items():
        figure(f"{seconds:5.1f} s after the deletion gone: {what}")
    assert sorted(still) == sorted(checked), "and nothing is good again"
    assert max(seconds for seconds, _ in seen.values()) < REFUSED_S
