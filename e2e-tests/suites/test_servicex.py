"""Columns delivered by the stock client in users' pods, to the user who asked alone."""

import base64
import inspect
import json
import re
import textwrap
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import numpy as np
import pyarrow.parquet as pq
import pytest
import requests
import uproot
import yaml
from coffea_shoppe_contract.claims import SERVICEX_REFRESH
from coffea_shoppe_contract.names import bucket_name
from coffea_shoppe_operator.keys import KeyRing
from lib.fixtures import forwarded, run_code
from lib.s3_clients import sums_by_client
from selenium.webdriver import Chrome
from shoppe_ci import origin
from shoppe_ci.cluster import Cluster
from shoppe_ci.errors import ShoppeError
from shoppe_ci.facility import User, password
from shoppe_ci.wait import eventually

CLIENT_S = 30
"""Within this time a client gets its response, on a busy machine, too."""
Samples = list[tuple[Path, str, str, int]]

# All query types at once: the client polls each five seconds, whatever there is to do.
DELIVER = """
import json, urllib.request
import awkward as ak, pyarrow.parquet as pq
from servicex import ProgressBarFormat, dataset, deliver, query

def run_query(file):
    import os, uproot
    import coffea_shoppe as shoppe
    print("I run in", os.uname().nodename, sorted(os.listdir("/run/secrets")))
{sums_by_client}
    print("S3:", set(sums_by_client("{bucket}", "function").values()))
    shoppe.storage().pipe_file("from-my-function", shoppe.status().user.encode())
    return uproot.open(file)["Events"].arrays(["event"], entry_stop=7)

url = "{url}"
one = dataset.FileList([url])
pattern = dataset.XRootD(url.rpartition("/")[0] + "/*.root")
jets = query.FuncADL_Uproot().FromTree("Events").Where(lambda e: e.nJet > 3)
jets = jets.Select(lambda e: {{"pt": e.Jet_pt.Where(lambda j: j > 30), "n": e.Jet_pt.Count()}})
events = query.UprootRaw({{"treename": "Events", "expressions": ["event"], "cut": "nJet > 3"}})
asked = [
    {{"Name": "raw", "Dataset": one, "Query": events}},
    {{"Name": "pattern", "Dataset": pattern, "Query": events}},
    {{"Name": "funcadl", "Dataset": one, "Query": jets}},
    {{"Name": "own", "Dataset": one, "Query": query.PythonFunction(run_query)}},
]
spec = {{"General": {{"OutputFormat": "parquet", "Delivery": "{delivery}"}}, "Sample": asked}}
got = deliver(spec, progress_bar=ProgressBarFormat.none)
for name, files in got.items():
    assert len(files) == 1, files
    path = files[0]
    if "://" in path:
        path, _ = urllib.request.urlretrieve(path)
    table = pq.read_table(path)
    print(name, table.num_rows, ",".join(table.column_names))
"""
ASK = """
import json, requests, coffea_shoppe as shoppe
base = shoppe.connections()["servicex"]
own = {"Authorization": "Bearer " + shoppe.token("servicex")}
def ask(path, method="GET", headers=own):
    return requests.request(method, base + path, headers=headers, timeout=30)
def mine():
    return ask("/servicex/transformation").json()["requests"]
"""


def deliver_code(user: User, url: str, delivery: str) -> str:
    """Return code that delivers a file by every query type."""
    source = textwrap.indent(inspect.getsource(sums_by_client), "    ")
    bucket = bucket_name(user.name)
    return DELIVER.format(url=url, delivery=delivery, sums_by_client=source, bucket=bucket)


def submitted(user: User, url: str, title: str, statement: str) -> str:
    """Submit a function that does something and gives three events; return the request."""
    source = f"def run_query(file):\n    {statement}\n    import uproot\n"
    source += "    return uproot.open(file)['Events'].arrays(['event'], entry_stop=3)\n"
    body = {
        "title": title,
        "codegen": "python",
        "result-format": "parquet",
        "result-destination": "object-store",
        "file-list": [url],
        "selection": base64.b64encode(source.encode()).decode(),
    }
    code = f"{ASK}body = {body!r}\n"
    code += "response = requests.post(base + '/servicex/transformation', json=body, headers=own)\n"
    return run_code(user, code + "print(response.json()['request_id'])").strip()


@pytest.fixture(scope="module")
def url(data_origin: Cluster, samples: Samples) -> str:
    path = next(path for path, process, variation, _ in samples if process == "wjets")
    return origin.publish(data_origin, path)


@pytest.fixture(scope="module")
def delivered(ann: User, url: str) -> dict[str, str]:
    """What the client printed of each sample, downloaded."""
    printed = run_code(ann, deliver_code(ann, url, "LocalCache"))
    return dict(line.split(" ", 1) for line in printed.splitlines() if line)


def test_every_query_type_is_delivered(delivered: dict[str, str]) -> None:
    rows, columns = delivered["raw"].split()
    assert columns == "event"
    assert delivered["pattern"] == delivered["raw"]
    assert delivered["funcadl"] == f"{rows} pt,n"
    assert delivered["own"] == "7 event"


@pytest.mark.usefixtures("delivered")
def test_a_function_of_one_s_own_finds_the_tokens_and_the_bucket(ann: User) -> None:
    look = "import coffea_shoppe as shoppe; print(shoppe.storage().cat('from-my-function'))"
    assert run_code(ann, look).strip() == str(ann.name.encode())


def test_the_same_again_is_there_at_once_by_address(
    delivered: dict[str, str], ann: User, url: str
) -> None:
    code = deliver_code(ann, url, "URLs").replace(
        "deliver(spec,", "deliver(spec, ignore_local_cache=True,"
    )
    printed = run_code(ann, code)
    assert dict(line.split(" ", 1) for line in printed.splitlines() if line) == delivered
    told = f"{ASK}print([[one['title'], one['files-completed']] for one in mine()][:4])\n"
    told += "log = ask('/transformation-request/' + mine()[0]['request_id'] + '/log').text\n"
    assert sorted(json.loads(run_code(ann, told).replace("'", '"'))) == [
        ["funcadl", 1],
        ["own", 1],
        ["pattern", 1],
        ["raw", 1],
    ]


def test_a_user_s_function_runs_in_a_pod_of_that_user_without_a_service_s_secrets(
    delivered: dict[str, str], ann: User
) -> None:
    code = f"{ASK}found = next(one for one in mine() if one['title'] == 'own')\n"
    code += "print(ask('/transformation-request/' + found['request_id'] + '/log').text)\n"
    log = run_code(ann, code)
    assert "by servicex-" in log, "a pod of the request's own"
    assert "I run in servicex-" in log
    assert "['transformer']" in log, "the key to its own request, and nothing of a service"
    assert "S3: {6}" in log, "clients of S3 work without an option"


def test_results_are_files_below_the_user_s_folder_and_objects_of_the_user(
    delivered: dict[str, str], ann: User, facility: Cluster
) -> None:
    code = "import coffea_shoppe as shoppe\n"
    code += "print(*(path for path in shoppe.storage().find('servicex')), sep='\\n')"
    names = run_code(ann, code).split()
    # Two of the four requests are the same, and share their result.
    assert len(names) >= 3
    pod = ("-n", "shoppe", "exec", "shoppe-objectstore-0", "-c", "objectstore", "--")
    path = f"/data/objects/{bucket_name(ann.name)}/{names[0]}"
    assert facility.kubectl(*pod, "head", "-c4", path) == "PAR1"


OTHERS = """
import botocore.session
from botocore.config import Config
target = {target}
for path in ("", "/results", "/cancel"):
    print(ask("/servicex/transformation/" + target["request_id"] + path).status_code)
print(ask("/servicex/transformation/" + target["request_id"], "DELETE").status_code)
print(ask("/transformation-request/" + target["request_id"] + "/log").status_code)
def bucket(keys):
    client = botocore.session.get_session().create_client(
        "s3", endpoint_url="http://" + target["minio-endpoint"], region_name="us-east-1",
        aws_access_key_id=keys["minio-access-key"], aws_secret_access_key=keys["minio-secret-key"],
        config=Config(s3={{"addressing_style": "path"}}))
    try:
        held = client.list_objects_v2(Bucket=target["request_id"])["Contents"]
        client.get_object(Bucket=target["request_id"], Key=held[0]["Key"])["Body"].read()
        return 200
    except Exception as error:
        return error.response["ResponseMetadata"]["HTTPStatusCode"]
"""


def test_others_get_403_where_the_owner_gets_200(
    delivered: dict[str, str], ann: User, bob: User, url: str
) -> None:
    shown = f"{ASK}import json; found = [one for one in mine() if one['title'] == 'raw']\n"
    target = json.loads(run_code(ann, shown + "print(json.dumps(found[-1]))"))
    # Bob has a request of his own, whose keys are good.
    assert "raw" in run_code(bob, deliver_code(bob, url, "URLs"))
    tried = ASK + OTHERS.format(target=target)
    theirs = run_code(bob, tried + "print(bucket(mine()[0]))").split()
    assert theirs == ["403"] * 6
    owner = tried.replace('"/results", "/cancel"', '"/results"').replace('"DELETE"', '"GET"')
    assert run_code(ann, owner + "print(bucket(target))").split() == ["200"] * 5
    assert run_code(bob, f"{ASK}print(ask('/servicex', headers={{}}).status_code)").strip() == "401"


def test_a_delivery_is_priced_before_it_is_asked_for(
    delivered: dict[str, str], ann: User, url: str
) -> None:
    code = (
        "import coffea_shoppe as shoppe\n"
        "from servicex import query\n"
        "asked = {'treename': 'Events', 'expressions': ['event'], 'cut': 'nJet > 3'}\n"
        f"print(shoppe.estimate(['{url}'], query.UprootRaw(asked)))\n"
        "try: shoppe.estimate(['/etc/passwd'], query.UprootRaw(asked))\n"
        "except shoppe.FacilityError as error: print(error)\n"
    )
    known, refused = run_code(ann, code).splitlines()
    assert known.startswith("1 files, ")
    assert "transformed by this query" in known
    assert "give root:// or https://" in refused


def test_requests_have_pages_within_the_user_s_own_server(
    delivered: dict[str, str], ann: User, bob: User
) -> None:
    root = "/servicex/transformation-request"
    listed = ann.server("GET", root).text
    request = re.search(r'transformation-request/([0-9a-f-]{36})">own<', listed)
    assert request
    page = ann.server("GET", f"{root}/{request[1]}").text
    assert "I run in servicex-" in page, "the log is on the page"
    assert "1 of 1 done" in page
    assert request[1] not in bob.server("GET", root).text
    with pytest.raises(ShoppeError, match="403"):
        bob.server("GET", f"{root}/{request[1]}")
    anybody = requests.get(f"{ann.url}{ann.server_path}{root}", timeout=20)
    assert "/hub/login" in anybody.url, "the hub asks who it is"


def test_a_running_request_is_canceled_in_a_browser(
    ann: User, url: str, facility: Cluster, browser: Chrome
) -> None:
    submitted(ann, url, "held up", "import time; time.sleep(300)")
    browser.get(f"{facility.url}/hub/login")
    browser.find_element("name", "username").send_keys(ann.name)
    browser.find_element("name", "password").send_keys(password(facility))
    browser.find_element("id", "login_submit").click()
    eventually(lambda: "/hub/login" not in browser.current_url, "the login is over", timeout=30)
    browser.get(f"{facility.url}{ann.server_path}/servicex/transformation-request")
    browser.find_element("link text", "held up").click()
    assert "Running" in browser.find_element("tag name", "h1").text
    browser.find_element("xpath", "//button[text()='Cancel']").click()
    eventually(
        lambda: "Canceled" in browser.find_element("tag name", "h1").text,
        "the page says that the request is canceled",
        timeout=20,
    )
    assert "canceled by its user" in browser.find_element("class name", "reason").text
    browser.find_element("link text", "All requests").click()
    assert browser.find_element("tag name", "h1").text == f"Requests of {ann.name}"


@pytest.fixture
def gateway(facility: Cluster) -> Iterator[None]:
    """The S3 gateway at a port of this machine."""
    with forwarded(facility, "shoppe", "shoppe-servicex", {facility.forward_port: 7000}):
        yield


@pytest.mark.usefixtures("gateway")
def test_a_client_outside_comes_in_by_the_proxy(
    delivered: dict[str, str], ann: User, url: str, facility: Cluster, tmp_path: Path
) -> None:
    from servicex import ProgressBarFormat, dataset, deliver, query

    told = yaml.safe_load(run_code(ann, "print(open('/servicex.yaml').read())"))
    told["api_endpoints"][0]["endpoint"] = f"{facility.url}/services/servicex"
    config = tmp_path / "servicex.yaml"
    config.write_text(yaml.safe_dump({**told, "cache_path": str(tmp_path / "cache")}))
    one = dataset.FileList([url])
    raw = query.UprootRaw({"treename": "Events", "expressions": ["event"], "cut": "nJet > 3"})
    jets = query.FuncADL_Uproot().FromTree("Events").Where(lambda e: e.nJet > 3)
    own = "def run_query(file):\n    import uproot\n"
    own += "    return uproot.open(file)['Events'].arrays(['event'], entry_stop=7)\n"
    asked = {
        "raw": raw,
        "funcadl": jets.Select(lambda e: {"pt": e.Jet_pt, "n": e.Jet_pt.Count()}),
        "own": query.PythonFunction(own),
    }
    samples = [{"Name": name, "Dataset": one, "Query": query} for name, query in asked.items()]
    spec = {"General": {"OutputFormat": "parquet"}, "Sample": samples}
    found = deliver(spec, config_path=str(config), progress_bar=ProgressBarFormat.none)
    assert found.keys() == asked.keys()
    for name, files in found.items():
        rows = pq.read_metadata(files[0]).num_rows
        assert str(rows) == delivered[name].split()[0], name
    refused = requests.get(f"{facility.url}/services/servicex/servicex", timeout=20)
    assert refused.status_code == 401


WRONG = """
from concurrent.futures import ThreadPoolExecutor
from servicex import ProgressBarFormat, dataset, deliver, query
url, truncated = "{url}", "{truncated}"
def raw(tree, *columns):
    return query.UprootRaw({{"treename": tree, "expressions": list(columns)}})
def files(*paths): return dataset.FileList(list(paths))
event = raw("Events", "event")
asked = [
    {{"Name": "tree", "Dataset": files(url), "Query": raw("Event", "x")}},
    {{"Name": "branch", "Dataset": files(url), "Query": raw("Events", "evnt")}},
    {{"Name": "file", "Dataset": files(url + "x"), "Query": event}},
    {{"Name": "truncated", "Dataset": files(url, truncated), "Query": event}},
    {{"Name": "empty", "Dataset": dataset.XRootD(url + "x*"), "Query": event}},
    {{"Name": "none", "Dataset": files(), "Query": event}},
    {{"Name": "twice", "Dataset": files(url, url), "Query": event}},
    {{"Name": "query", "Dataset": files(url), "Query": raw("Events", "event +")}},
    {{"Name": "source", "Dataset": files(url),
      "Query": query.PythonFunction("def run_query(f):\\n  return 1 +\\n")}},
    {{"Name": "codegen", "Dataset": files(url), "Query": event, "Codegen": "cmssw-5-3-32"}},
    {{"Name": "good", "Dataset": files(url), "Query": event}},
]
def get(one):
    spec = {{"General": {{"OutputFormat": "parquet"}}, "Sample": [one]}}
    try:
        (got,) = deliver(spec, progress_bar=ProgressBarFormat.none).values()
        return str(len(list(got)))
    except BaseException as error:
        told = []
        while error is not None:
            told.append(str(error).strip())
            error = error.__cause__
        return " ".join(" ".join(told).split())
# The client polls each five seconds, whatever there is to do.
with ThreadPoolExecutor(len(asked)) as pool:
    for one, told in zip(asked, pool.map(get, asked)):
        print(one["Name"], told)
"""


def test_what_goes_wrong_ends_in_the_client_s_output(
    ann: User, url: str, data_origin: Cluster, samples: Samples, tmp_path: Path
) -> None:
    whole = next(path for path, process, _, _ in samples if process == "wjets")
    part = tmp_path / "truncated.root"
    part.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    code = WRONG.format(url=url, truncated=origin.publish(data_origin, part))
    printed = run_code(ann, code)
    lines = dict(line.split(" ", 1) for line in printed.splitlines() if " " in line)
    told = {
        "tree": "has no tree 'Event'; is it 'Events'?",
        "branch": "has no branch 'evnt'; is it 'event",
        "file": "x: no such file",
        "truncated": "1 of 2 files failed; BadFile: ",
        "empty": "has no files",
        "none": "the file-list is empty",
        "twice": "name each file once",
        "query": "'event +'",
        "source": "line 2 of your function",
        "codegen": "cmssw-5-3-32",
        "good": "1",
    }
    assert {name: text for name, text in told.items() if text not in lines.get(name, "")} == {}, (
        printed
    )


def write_numbers(path: Path, first: int) -> Path:
    """Write a tree of numbers in a file whose size does not depend on them."""
    with uproot.recreate(path, compression=None) as file:
        file["Events"] = {"number": np.arange(first, first + 1000, dtype="i4")}
    return path


NUMBERS = """
import awkward as ak
from servicex import ProgressBarFormat, dataset, deliver, query
def numbers(url, form="parquet"):
    asked = query.UprootRaw({{"treename": "Events", "expressions": ["number"]}})
    sample = {{"Name": "numbers", "Dataset": dataset.FileList([url]), "Query": asked}}
    spec = {{"General": {{"OutputFormat": form}}, "Sample": [sample]}}
    ((path,),) = deliver(
        spec, progress_bar=ProgressBarFormat.none, ignore_local_cache=True
    ).values()
    if form == "parquet":
        return int(ak.from_parquet(path)["number"][0])
    import uproot
    with uproot.open(path) as file:
        return int(file[file.keys()[0]]["number"].array()[0])
print({call})
latest = max(mine(), key=lambda request: request["submit-time"])
print(latest["status"], latest["remarks"])
"""


def first_number(user: User, url: str, form: str = "parquet") -> tuple[int, str]:
    """Deliver numbers; return the first one, and the request's status with its remarks."""
    call = f"numbers({url!r}, {form!r})"
    number, status = run_code(user, ASK + NUMBERS.format(call=call)).strip().splitlines()
    return int(number), status.strip()


def test_a_file_that_was_overwritten_is_delivered_as_it_is(
    ann: User, data_origin: Cluster, tmp_path: Path
) -> None:
    """Neither a stored result nor the cache's content takes its place."""
    relative = f"changing-{uuid.uuid4().hex[:8]}/numbers.root"
    first, second = (write_numbers(tmp_path / f"{n}.root", n) for n in (100, 700))
    assert first.stat().st_size == second.stat().st_size
    url = origin.replace(data_origin, first, relative)
    assert first_number(ann, url) == (100, "Complete")
    assert first_number(ann, url) == (100, "Complete")
    # XRootD gives whole seconds.
    eventually(
        lambda: time.time() > (data_origin.data / relative).stat().st_mtime + 1,
        "the second of the first file is over",
        timeout=5,
    )
    assert origin.replace(data_origin, second, relative) == url
    assert first_number(ann, url) == (700, "Complete")


AWAY = "origin-of-changes"


@pytest.mark.part("faults")
def test_files_of_an_origin_that_is_away_are_delivered_as_they_were(
    ann: User, data_origin: Cluster, tmp_path: Path
) -> None:
    relative = f"away-{uuid.uuid4().hex[:8]}/numbers.root"
    replaced = origin.replace(data_origin, write_numbers(tmp_path / "a.root", 100), relative)
    origin.install(data_origin, name=AWAY)
    try:
        url = replaced.replace(origin.ADDRESS, origin.address(AWAY))
        assert first_number(ann, url) == (100, "Complete")
        origin.scale(data_origin, 0, name=AWAY)
        number, status = first_number(ann, url)
        assert number == 100
        assert "1 of 1 files are taken as they were at" in status
        # Another request of the same columns is read from the cache.
        number, status = first_number(ann, url, "root-ttree")
        assert number == 100
        assert "1 of 1 files are taken as they were at" in status
        origin.scale(data_origin, 1, name=AWAY)
        assert first_number(ann, url) == (100, "Complete")
    finally:
        origin.scale(data_origin, 0, name=AWAY)


def signed(facility: Cluster, said: dict[str, Any]) -> str:
    """Return a token as the operator would have signed it."""
    held = facility.get("secret", "-n", "shoppe", "shoppe-identity-keys")["data"]
    ring = KeyRing.load({name: base64.b64decode(key) for name, key in held.items()})
    return ring.keys[-1].sign(said)


EXPIRED = """
import os
from servicex import ProgressBarFormat, dataset, deliver, query
tokens = {tokens}
for name, token in tokens.items():
    headers = {{"Authorization": "Bearer " + token}}
    response = ask("/servicex", headers=headers)
    print(name, response.status_code, response.json().get("message", ""))
with open("servicex.yaml", "w") as file:
    endpoint = {{"name": "here", "endpoint": base, "token": {refresh!r}}}
    json.dump({{"api_endpoints": [endpoint]}}, file)
event = query.UprootRaw({{"treename": "Events", "expressions": ["event"]}})
asked = [{{"Name": "late", "Dataset": dataset.FileList(["{url}"]), "Query": event}}]
try:
    deliver({{"Sample": asked}}, config_path="servicex.yaml", progress_bar=ProgressBarFormat.none)
    print("client no error")
except BaseException as error:
    print("client", error)
finally:
    os.remove("servicex.yaml")
"""


def test_an_expired_token_is_told_from_a_good_one(ann: User, url: str, facility: Cluster) -> None:
    token = run_code(ann, "import coffea_shoppe as s; print(s.token('servicex'))").strip()
    said = jwt.decode(token, options={"verify_signature": False})
    late = {**said, "iat": said["iat"] - 7200, "exp": int(time.time()) - 60}
    tokens = {"good": signed(facility, said), "expired": signed(facility, late)}
    refresh = signed(facility, {**late, "aud": SERVICEX_REFRESH})
    code = EXPIRED.format(tokens=tokens, refresh=refresh, url=url)
    printed = run_code(ann, ASK + code)
    lines = dict(line.split(" ", 1) for line in printed.splitlines())
    assert lines["good"] == "200 "
    assert lines["expired"].startswith("401 ")
    assert "expired" in lines["expired"]
    assert "access token request rejected [401" in lines["client"]


MANY = 10_000
"""Files that are not there: each is worked on, and fails."""
LARGE = """
import time
body = {{"title": "large", "codegen": "uproot-raw", "result-format": "parquet",
        "result-destination": "object-store", "selection": json.dumps(
            [{{"treename": "Events", "expressions": ["event"]}}]),
        "file-list": ["{url}" + str(number) for number in range({count})]}}
def timed(call):
    began = time.time()
    return call(), time.time() - began
response, submit = timed(lambda: requests.post(
    base + "/servicex/transformation", json=body, headers=own, timeout=60))
path = "/servicex/transformation/" + response.json()["request_id"]
end = time.time() + 180
while ask(path).json()["files-failed"] < 20 and time.time() < end:
    time.sleep(0.2)
found, status = timed(lambda: ask(path).json())
canceled, cancel = timed(lambda: ask(path + "/cancel"))
last = ask(path).json()
time.sleep(3)
print(json.dumps(dict(submit=submit, status=status, cancel=cancel, worked=found["files-failed"],
    files=found["files"], code=canceled.status_code, last=last, later=ask(path).json())))
"""


def test_a_request_of_ten_thousand_files_is_canceled_amid_them(
    ann: User, url: str, facility: Cluster
) -> None:
    asked = "select deadlocks from pg_stat_database where datname = 'servicex'"
    psql = ("exec", "-n", "shoppe", "shoppe-postgresql-0", "-c", "postgresql", "--", "psql")

    def deadlocks() -> int:
        return int(facility.kubectl(*psql, "-U", "postgres", "-tAc", asked))

    before = deadlocks()
    code = LARGE.format(url=f"{url}.absent", count=MANY)
    told = json.loads(run_code(ann, f"{ASK}{code}"))
    assert told["files"] == MANY
    assert 20 <= told["worked"] < MANY
    assert max(told["submit"], told["status"], told["cancel"]) < CLIENT_S
    assert told["code"] == 200
    assert told["last"]["status"] == told["later"]["status"] == "Canceled"
    assert told["later"]["files-failed"] == told["last"]["files-failed"], "none is worked on"
    assert deadlocks() == before


@pytest.mark.part("faults")
def test_a_killed_transformer_loses_nothing(ann: User, url: str, facility: Cluster) -> None:
    """Its file is taken back once the lease has run out, and given to another."""
    slow = "import time; time.sleep(8)"
    request = submitted(ann, url, "held", slow)

    def pods() -> list[str]:
        selector = f"coffea-shoppe.dev/servicex-request={request}"
        held = facility.get("pods", "-n", "shoppe-dask", "-l", selector)["items"]
        return [pod["metadata"]["name"] for pod in held if pod["status"].get("phase") == "Running"]

    eventually(pods, "the transformer of the request runs", timeout=60, every=1)
    first = pods()[0]
    words = ("-n", "shoppe-dask", "delete", "pod", first, "--grace-period=0", "--force")
    facility.kubectl(*words)
    look = f"{ASK}found = ask('/servicex/transformation/{request}').json()\n"
    look += "print(found['status'], found['files-completed'], found['files-failed'])"
    eventually(
        lambda: run_code(ann, look).strip() == "Complete 1 0",
        "the request ends all the same",
        timeout=180,
        every=5,
    )
