"""With tokens of five minutes, and keys of ten, a kernel that is used for twelve has no failure."""

from collections.abc import Iterator

import pytest
from lib.fixtures import passing_user, run_code
from lib.serving import REGISTER, printed_lines, serve_first
from shoppe_ci.cluster import Cluster
from shoppe_ci.facility import User
from shoppe_ci.testing import with_values

pytestmark = pytest.mark.part("logins")

LIFETIME_S, KEY_LIFETIME_S, MINUTES = 300, 600, 12
USE = f"""{REGISTER}
import base64, json, time
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit
from coffea_shoppe_contract.files import IDENTITY_FOLDER, S3_BUCKET_FILE, S3_KEYS_FILE
from dask_gateway import Gateway
from pyarrow.fs import S3FileSystem
import requests
cluster = Gateway().new_cluster(); cluster.scale(1); client = cluster.get_client()
client.wait_for_workers(1, timeout=180)
model = shoppe.served()[0].model
session = requests.Session()
def lives():
    said = json.loads(base64.urlsafe_b64decode(shoppe.token("api").split(".")[1] + "=="))
    return said["exp"] - said["iat"], said["exp"] - time.time(), said["exp"]
def servicex():
    url = shoppe.connections()["servicex"] + "/servicex/transformation"
    header = {{"Authorization": "Bearer " + shoppe.token("servicex")}}
    session.get(url, headers=header).raise_for_status()
# Made once, and kept: keys change under them.
mine = shoppe.storage()
stock = S3FileSystem(endpoint_override=urlsplit(shoppe.connections()["s3"]).netloc, scheme="http")
name = Path(IDENTITY_FOLDER, S3_BUCKET_FILE).read_text()
def bucket():
    stock.get_file_info(f"{{name}}/use.txt")
    with mine.open("use.txt", "w") as file: file.write("used")
    assert mine.cat("use.txt") == b"used"
def gateway():
    # Its response is cached for a while: each time a new gateway.
    assert Gateway().list_clusters()
ways = {{
    "api": lambda: shoppe.status(),
    "mlflow": lambda: mlflow.search_experiments(),
    "triton": lambda: infer(model, rows),
    "servicex": servicex,
    "bucket": bucket,
    "dask-gateway": gateway,
    "worker": lambda: client.submit(lambda: shoppe.status().user, pure=False).result(60),
}}
failures, done, tokens, left, keys = Counter(), Counter(), set(), [], set()
end = time.time() + {MINUTES} * 60
while time.time() < end:
    for name, way in ways.items():
        try: way()
        except Exception as error: failures[f"{{name}}: {{type(error).__name__}}: {{error}}"] += 1
        else: done[name] += 1
    life, rest, expiry = lives()
    tokens.add(expiry); left.append(rest)
    keys.add(json.loads(Path(IDENTITY_FOLDER, S3_KEYS_FILE).read_text())["Expiration"])
    time.sleep(3)
cluster.shutdown()
tell(dict(failures))
tell(min(done.values()), len(ways) == len(done), len(tokens), life, int(min(left)), len(keys))
"""


@pytest.fixture(scope="module")
def facility_with_short_tokens(facility: Cluster) -> Iterator[Cluster]:
    """The facility with tokens of five minutes; as it was afterwards."""
    short = {
        "tokens": {"lifetimeSeconds": LIFETIME_S},
        "objectStore": {"keyLifetimeSeconds": KEY_LIFETIME_S},
    }
    with with_values(facility, {"operator": short}):
        yield facility


@pytest.fixture(scope="module")
def eve(facility_with_short_tokens: Cluster) -> Iterator[User]:
    yield from passing_user(facility_with_short_tokens, "eve.stays")


@pytest.mark.timeout(1500)
def test_a_kernel_outlives_its_tokens_unnoticed(eve: User) -> None:
    serve_first(eve)
    failures, figures = printed_lines(run_code(eve, USE, timeout=MINUTES * 60 + 400))
    print(f"12 minutes with tokens of {LIFETIME_S} s: {figures}")
    assert failures == "{}"
    rounds, complete, tokens, life, least, keys = figures.split()
    assert complete == "True"
    assert int(rounds) > 20
    assert int(tokens) >= 4
    assert int(life) == LIFETIME_S
    assert int(keys) >= 3, "the first one is void by then"
    assert int(least) > 10, "a token was still good when its successor arrived"
