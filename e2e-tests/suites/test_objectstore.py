"""Each user has a bucket, finds it without an address, and nobody else gets in."""

import base64
import inspect
import json
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from coffea_shoppe_contract.files import S3_KEYS_FILE
from coffea_shoppe_contract.names import (
    bucket_name,
    resource_name,
    secret_name,
    service_name,
    workspace_name,
)
from coffea_shoppe_contract.resources import FACILITY_USERS
from lib.fixtures import new_user, passing_user, remove_user, run_code
from lib.s3_clients import sums_by_client
from shoppe_ci import counters
from shoppe_ci.cluster import Cluster
from shoppe_ci.counters import Endpoint
from shoppe_ci.facility import User
from shoppe_ci.wait import eventually

WRITE = (
    "import coffea_shoppe as shoppe\n"
    "mine = shoppe.storage()\n"
    "with mine.open('folder/numbers.txt', 'wb') as file: file.write(b'1 2 3')\n"
    "print(mine.find(''), mine.cat('folder/numbers.txt'))\n"
)
# What any client of S3 does with the files that its environment names.
LOOK = (
    "import pyarrow.fs as fs, coffea_shoppe as shoppe\n"
    "REFUSED = 'ACCESS_DENIED', 'INVALID_ACCESS_KEY_ID', 'SIGNATURE_DOES_NOT_MATCH'\n"
    "def refused(error):\n"
    "    return any(code in str(error) for code in REFUSED)\n"
    "def store(**keys):\n"
    "    there = shoppe.connections()['s3'].partition('://')[2]\n"
    "    keys |= {'endpoint_override': there, 'scheme': 'http', 'region': 'us-east-1'}\n"
    "    return fs.S3FileSystem(**keys)\n"
    "def look(bucket, **keys):\n"
    "    try:\n"
    "        found = store(**keys).get_file_info(fs.FileSelector(bucket, recursive=True))\n"
    "        print(sorted(one.path for one in found if one.is_file))\n"
    "    except OSError as error:\n"
    "        print('refused' if refused(error) else error)\n"
)

LOG = """
import mlflow
with mlflow.start_run(): mlflow.log_text("hello", "hello.txt")
mlflow.MlflowClient().create_registered_model("mine")
"""
ASK = """
import requests, coffea_shoppe as shoppe
where = shoppe.connections()
paths = dict(mlflow="/api/2.0/mlflow/users/current", servicex="/servicex", triton="/v2")
for service, token in zip(("mlflow", "servicex", "triton"), {tokens}):
    url = where[service] + paths[service]
    print(requests.get(url, headers=dict(Authorization="Bearer " + token)).status_code)
"""
ARTIFACTS = f"{service_name('mlflow')}/workspaces"
MODELS = "import mlflow; print([m.name for m in mlflow.MlflowClient().search_registered_models()])"


@pytest.fixture(scope="module")
def ann(facility: Cluster) -> Iterator[User]:
    yield from passing_user(facility, "ann.stores")


@pytest.fixture(scope="module")
def bob(facility: Cluster) -> Iterator[User]:
    yield from passing_user(facility, "bob.stores")


def _in_store(facility: Cluster, *words: str) -> str:
    """Run a command in the store's pod."""
    pod = ("exec", "shoppe-objectstore-0", "-c", "objectstore", "--")
    return facility.kubectl("-n", "shoppe", *pod, *words)


def _folders(facility: Cluster, bucket: str = "") -> list[str]:
    """Return the buckets' folders, or those in a bucket: objects are plain files."""
    return _in_store(facility, "ls", f"/data/objects/{bucket}").split()


def key_of(facility: Cluster, user: User) -> dict[str, str]:
    """Return what the user's Secret says of the present key."""
    name = secret_name(user.name)
    text = facility.get("secret", "-n", "shoppe", name)["data"][S3_KEYS_FILE]
    found: dict[str, str] = json.loads(base64.b64decode(text))
    return found


def key_arguments(facility: Cluster, user: User) -> str:
    """Return the arguments by which a client has the user's present key."""
    key = key_of(facility, user)
    return f"access_key={key['AccessKeyId']!r}, secret_key={key['SecretAccessKey']!r}"


def expire_keys(facility: Cluster, user: User) -> None:
    """Have the operator think that the user's keys are to be changed, and wait until they are."""
    name, before = secret_name(user.name), key_arguments(facility, user)
    long_ago = datetime.fromtimestamp(0, UTC).isoformat()
    text = json.dumps(
        key_of(facility, user) | {"Expiration": long_ago, "ExpirationBefore": long_ago}
    )
    data = {S3_KEYS_FILE: base64.b64encode(text.encode()).decode()}
    facility.kubectl("-n", "shoppe", "patch", "secret", name, "-p", json.dumps({"data": data}))
    eventually(
        lambda: key_arguments(facility, user) != before,
        "the user's keys are changed",
        timeout=60,
        every=1,
    )


def test_a_notebook_and_a_worker_use_the_same_bucket(ann: User, facility: Cluster) -> None:
    """They find it by `storage()`, and by each client of S3 without an option."""
    bucket = bucket_name(ann.name)
    printed = run_code(
        ann,
        f"{WRITE}"
        "from dask_gateway import Gateway\n"
        "cluster = Gateway().new_cluster(); cluster.scale(1); client = cluster.get_client()\n"
        "client.wait_for_workers(1, timeout=180)\n"
        "print(client.submit(lambda: shoppe.storage().cat('folder/numbers.txt')).result())\n"
        f"{inspect.getsource(sums_by_client)}\n"
        f"print(set(sums_by_client({bucket!r}, 'notebook').values()))\n"
        f"print(set(client.submit(sums_by_client, {bucket!r}, 'worker').result().values()))\n"
        "cluster.shutdown()\n",
    )
    numbers = "['folder/numbers.txt'] b'1 2 3'"
    assert printed.splitlines() == [numbers, "b'1 2 3'", "{6}", "{6}"]
    path = f"/data/objects/{bucket_name(ann.name)}/folder/numbers.txt"
    assert _in_store(facility, "cat", path) == "1 2 3"


def test_many_uploads_in_a_row_all_arrive(ann: User) -> None:
    code = (
        "import coffea_shoppe as shoppe\n"
        "mine = shoppe.storage()\n"
        "for number in range(200):\n"
        "    with mine.open(f'many/{number}', 'wb') as file: file.write(b'x' * number)\n"
        "sizes = [mine.info(f'many/{number}')['size'] for number in range(200)]\n"
        "print(sizes == list(range(200)))"
    )
    assert run_code(ann, code).strip() == "True"


def test_a_standard_client_finds_the_keys_in_its_environment_and_is_counted(
    ann: User, facility: Cluster
) -> None:
    def written() -> float:
        reading = counters.read(facility, Endpoint("objectstore", 9090))
        return counters.total(reading, "objectstore_bytes_total", {"direction": "written"})

    before = written()
    run_code(ann, WRITE)
    eventually(lambda: written() >= before + len("1 2 3"), "the store has counted the object")
    bucket = bucket_name(ann.name)
    assert f"'{bucket}/folder/numbers.txt'" in run_code(ann, f"{LOOK}look('{bucket}')")


def test_another_user_s_bucket_is_refused(ann: User, bob: User) -> None:
    run_code(ann, WRITE)
    theirs, own = bucket_name(ann.name), bucket_name(bob.name)
    tried = (
        f"{LOOK}look('{theirs}')\n"
        f"try:\n    store().open_output_stream('{theirs}/x').close(); print('wrote')\n"
        "except OSError as error: print('refused' if refused(error) else error)\n"
        f"look('{theirs}', anonymous=True)\n"
        f"look('{own}')\n"
    )
    assert run_code(bob, tried).splitlines() == ["refused", "refused", "refused", "[]"]


def test_keys_take_turns(ann: User, bob: User, facility: Cluster) -> None:
    run_code(ann, WRITE)
    bucket = bucket_name(ann.name)
    keys = [key_arguments(facility, ann)]
    for _ in range(2):
        expire_keys(facility, ann)
        keys.append(key_arguments(facility, ann))
    looks = "".join(f"look('{bucket}', {key})\n" for key in keys)
    # The store keeps what it knows of an account for five seconds.
    eventually(
        lambda: (
            [line[:9] for line in run_code(bob, LOOK + looks).splitlines()]
            == ["refused", f"['{bucket}"[:9], f"['{bucket}"[:9]]
        ),
        "the first key is refused, and the two after it are not",
        timeout=30,
        every=2,
    )


@pytest.mark.part("faults")
def test_a_store_that_was_away_is_reported_and_mended(ann: User, facility: Cluster) -> None:
    resource = resource_name(ann.name)

    def conditions() -> dict[str, str]:
        found = facility.get(FACILITY_USERS, "-n", "shoppe", resource)["status"]["conditions"]
        return {one["type"]: one["status"] for one in found}

    cat = "cat.stores"
    run_code(new_user(facility, cat), WRITE)
    scale = ("-n", "shoppe", "scale", "statefulset", "shoppe-objectstore")
    facility.kubectl(*scale, "--replicas=0")
    try:
        eventually(
            lambda: conditions()["Ready"] == "True" and conditions()["ObjectStore"] == "False",
            "the user's resource tells that the store is away",
            timeout=120,
            every=2,
        )
        words = ("-n", "shoppe", "delete", FACILITY_USERS, resource_name(cat))
        facility.kubectl(*words, "--wait=false")
        eventually(
            lambda: (
                "Removing the user cannot be removed yet: the object store" in reason(facility, cat)
            ),
            "the deleted user's resource tells why it is still there",
            timeout=60,
            every=2,
        )
    finally:
        facility.kubectl(*scale, "--replicas=1")
    eventually(
        lambda: conditions()["ObjectStore"] == "True",
        "the user's resource tells that the store is back",
        timeout=120,
        every=2,
    )
    assert "b'1 2 3'" in run_code(ann, WRITE)
    eventually(lambda: not reason(facility, cat), "the deleted user is gone", timeout=60, every=2)


def reason(facility: Cluster, user: str) -> str:
    """Return why a user is not ready, or ready; '' where there is no such user."""
    where = ("-n", "shoppe", "--ignore-not-found", resource_name(user))
    found = facility.get(FACILITY_USERS, *where)
    ready = found["status"]["conditions"][0] if found else None
    return f"{ready['reason']} {ready['message']}" if ready else ""


def test_keys_of_a_deleted_user_are_refused_and_the_data_kept_or_removed(
    ann: User, bob: User, facility: Cluster
) -> None:
    run_code(ann, WRITE + LOG)
    run_code(bob, LOG)
    bucket = bucket_name(ann.name)
    look = f"{LOOK}look('{bucket}', {key_arguments(facility, ann)})"
    assert "numbers.txt" in run_code(bob, look), "the keys work wherever they are"
    show = "import coffea_shoppe as shoppe\n"
    show += "print(*map(shoppe.token, ('mlflow', 'servicex', 'triton')))"
    ask = ASK.format(tokens=run_code(ann, show).split())
    assert run_code(bob, ask).split() == ["200"] * 3, "and so do the tokens"
    remove_user(facility, ann.name, data="keep")
    eventually(
        lambda: (
            run_code(bob, look).strip() == "refused" and run_code(bob, ask).split() == ["401"] * 3
        ),
        "keys and tokens of a deleted user are refused",
        timeout=60,
        every=2,
    )
    assert bucket in _folders(facility)
    ann.stop()  # the hub learns of the stopped pod only in a while
    # The same person comes back to the same data, with other keys.
    again = new_user(facility, ann.name)
    assert "numbers.txt" in run_code(again, f"{LOOK}look('{bucket}')")
    assert run_code(again, MODELS).strip() == "['mine']"
    assert run_code(bob, look).strip() == "refused"
    again.stop()
    remove_user(facility, ann.name, data="remove")
    eventually(
        lambda: (
            not facility.get(
                FACILITY_USERS,
                "-n",
                "shoppe",
                "--ignore-not-found",
                resource_name(ann.name),
            )
        ),
        "the removed user is gone",
        timeout=60,
        every=2,
    )
    assert bucket not in _folders(facility)
    assert bucket_name(bob.name) in _folders(facility)
    workspaces = _folders(facility, ARTIFACTS)
    assert workspace_name(ann.name) not in workspaces
    assert workspace_name(bob.name) in workspaces
    for once_more in passing_user(facility, ann.name):
        assert run_code(once_more, MODELS).strip() == "[]"
