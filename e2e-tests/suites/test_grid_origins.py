"""Origins that demand a login: read by caches that have a credential, or a sentence why not."""

import base64
import hashlib
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uproot
from lib import grid as grids
from lib.fixtures import dask_cluster, passing_user, run_code
from lib.grid import HOST, Grid, alias, grid
from shoppe_ci import counters, testing
from shoppe_ci.cluster import Cluster
from shoppe_ci.engine import Engine
from shoppe_ci.facility import User
from shoppe_ci.wait import eventually

pytestmark = [pytest.mark.part("origins"), pytest.mark.timeout(1200)]

CAS = "grid-cas"
EXPIRY = "xcache_credential_expiry_timestamp_seconds"
FAILED = "xcache_credential_renewal_failed"
ENDED, WRONG, UNUSABLE, WITHOUT = "ended", "wrong", "unusable", "without"
"""Names of the origin, and of their caches: the proxy has expired, is of another VO, is none, or
there is no cache with a credential."""
ALIASES = (ENDED, WRONG, UNUSABLE, WITHOUT)
LIFETIME_S = 120
"""Of the robot's proxies."""
PROXY_S = 240
"""Of the proxy that expires: longer than the installation takes."""
CACHES = {"gsi": f"{HOST}:{grids.GSI}", "tokens": f"{HOST}:{grids.TOKENS}"}
CACHES |= {name: f"{alias(name)}:{grids.GSI}" for name in ALIASES if name != WITHOUT}
NUMBERS = bytes(range(256)) * 4000
DIGEST = hashlib.sha256(NUMBERS).hexdigest()
READ = """
import hashlib
import coffea_shoppe as shoppe
def read(url, through_cache=True):
    from XRootD import client
    file = client.File()
    status, _ = file.open(shoppe.data_url(url) if through_cache else url)
    if not status.ok:
        return "failed " + status.message.strip()
    status, data = file.read()
    file.close()
    return hashlib.sha256(data).hexdigest() if status.ok else "failed " + status.message.strip()
"""
DELIVER = """
from servicex import ProgressBarFormat, dataset, deliver, query
import pyarrow.parquet as pq, logging
logging.getLogger("servicex").addHandler(logging.StreamHandler())
logging.getLogger("servicex").setLevel("INFO")
raw = query.UprootRaw({"treename": "Events", "expressions": ["event"]})
sample = {"Name": NAME, "Dataset": dataset.FileList(FILES), "Query": raw}
spec = {"General": {"OutputFormat": "parquet"}, "Sample": [sample]}
try:
    got = deliver(spec, progress_bar=ProgressBarFormat.none)
    for path in got[NAME]:
        print(pq.read_metadata(path).num_rows)
except Exception as error:
    print("failed:", error)
"""


def url(name: str, path: str, port: int = grids.GSI) -> str:
    """Return the address of a file at the origin of that name."""
    return f"root://{alias(name)}:{port}//{path}"


def _secret(name: str, kind: str = "Opaque", **keys: str) -> dict[str, Any]:
    data = {key.replace("__", "."): value for key, value in keys.items()}
    meta = {"name": name, "namespace": "shoppe"}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": kind,
        "metadata": meta,
        "stringData": {key.replace("_", "-"): value for key, value in data.items()},
    }


def _values() -> dict[str, Any]:
    """Return values with a cache for each origin."""
    common: dict[str, Any] = {"certificates": CAS}
    voms: dict[str, Any] = {"attributes": ["atlas"], "servers": [grids.VOMSES]}
    voms |= {"lifetime": f"0:{LIFETIME_S // 60:02d}"}
    client = {"issuer": grids.ISSUER, "scopes": [grids.SCOPE], "audience": grids.AUDIENCE}
    credentials: dict[str, dict[str, Any]] = {
        "gsi": {"secret": "grid-robot", "kind": "robot", "voms": voms},
        "tokens": {"secret": "grid-client", "kind": "client", "client": client},
        **{name: {"secret": f"grid-{name}", "kind": "proxy"} for name in (ENDED, WRONG, UNUSABLE)},
    }
    instances: list[dict[str, Any]] = [
        {"name": "xcache", "preset": "atlas"},
        *(
            {
                "name": name,
                "preset": "generic",
                "origin": CACHES[name],
                "credentials": {**common, **own},
                "persistence": {"enabled": False, "size": "1Gi"},
            }
            for name, own in credentials.items()
        ),
    ]
    named = ["xcache=root://shoppe-xcache.shoppe:1094"]
    named += [f"{name}=root://shoppe-{name}.shoppe:1094?origin={at}" for name, at in CACHES.items()]
    return {
        "xcache": {"instances": instances},
        "global": {"environment": {"SHOPPE_XCACHE": ",".join(named)}},
    }


@pytest.fixture(scope="module")
def services(facility: Cluster, engine: Engine, tmp_path_factory: Any) -> Iterator[Grid]:
    """A grid with a file at each origin, and a facility whose caches have credentials for it."""
    numbers = tmp_path_factory.mktemp("grid") / "numbers.bin"
    numbers.write_bytes(NUMBERS)
    with grid(engine, facility, ALIASES) as running:
        for folder in ("atlas", "wlcg"):
            running.publish(numbers, f"{folder}/numbers.bin")
        authorities = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": CAS, "namespace": "shoppe"},
            "data": grids.certificates(running),
        }
        robot = {"tls__crt": running.read("robot.pem"), "tls__key": running.read("robot.key")}
        made = [
            authorities,
            _secret("grid-robot", "kubernetes.io/tls", **robot),
            _secret("grid-client", client_id=grids.CLIENT, client_secret=running.secret),
            _secret(f"grid-{ENDED}", proxy=running.proxy("atlas", PROXY_S)),
            _secret(f"grid-{WRONG}", proxy=running.proxy("cms", 3600)),
            _secret(f"grid-{UNUSABLE}", proxy="none"),
        ]
        facility.apply(*made)
        try:
            with testing.with_values(facility, _values()):
                yield running
        finally:
            for resource in made:
                words = (resource["kind"], resource["metadata"]["name"], "--ignore-not-found")
                facility.kubectl("-n", "shoppe", "delete", *words)


@pytest.fixture(scope="module")
def rhea(facility: Cluster, services: Grid) -> Iterator[User]:
    """A user whose server started after the caches were there."""
    yield from passing_user(facility, "rhea.reader")


def metrics(facility: Cluster, cache: str) -> dict[str, float]:
    """Return what a cache's exporter has of its credential, by metric."""
    (samples,) = counters.read(facility, counters.Endpoint(cache, 9931)).values()
    return {
        name: value for (name, _), value in samples.items() if name.startswith("xcache_credential_")
    }


def test_users_and_their_workers_read_what_demands_a_login(rhea: User) -> None:
    urls = [url("grid", "atlas/numbers.bin"), url("grid", "wlcg/numbers.bin", grids.TOKENS)]
    code = f"{READ}for url in {urls!r}:\n    print(read(url))"
    assert run_code(rhea, code).split() == [DIGEST] * 2
    # Only caches have a credential.
    direct = f"{READ}for url in {urls!r}:\n    print(read(url, through_cache=False))"
    assert run_code(rhea, direct).count("failed [FATAL] Auth failed") == 2
    with dask_cluster(rhea, workers=1) as (name, _):
        worker = (
            f"{READ}from dask_gateway import Gateway\n"
            f"with Gateway().connect({name!r}) as cluster, cluster.get_client() as client:\n"
            f"    print(*client.gather(client.map(read, {urls!r})))"
        )
        assert run_code(rhea, worker).split() == [DIGEST] * 2


def test_columns_of_what_demands_a_login_are_delivered(
    rhea: User, services: Grid, samples: list[tuple[Path, str, str, int]]
) -> None:
    path, _, _, events = next(sample for sample in samples if sample[1] == "wjets")
    for folder in ("atlas", "wlcg"):
        services.publish(path, f"{folder}/{path.name}")
    files = [
        url("grid", f"atlas/{path.name}"),
        url("grid", f"wlcg/{path.name}", grids.TOKENS),
    ]
    code = DELIVER.replace("NAME", "'both'").replace("FILES", repr(files))
    with uproot.open(path) as file:
        assert file["Events"].num_entries == events
    printed = run_code(rhea, code)
    assert [line for line in printed.splitlines() if line.isdecimal()] == [str(events)] * 2


SENTENCES = {
    WRONG: f"{CACHES[WRONG]} refuses the facility's credential, which may be revoked",
    UNUSABLE: f"the facility has no usable credential for {CACHES[UNUSABLE]}",
    WITHOUT: "its origin demands a login, and the facility's cache has no credential for it",
    ENDED: f"the facility's credential for {CACHES[ENDED]} expired at 20",
}


@pytest.mark.parametrize("name", SENTENCES)
def test_a_user_reads_why_a_file_cannot_be_read(
    facility: Cluster, rhea: User, services: Grid, name: str
) -> None:
    if name == ENDED:
        end = metrics(facility, ENDED)[EXPIRY]
        time.sleep(max(end - time.time() + 2, 0))
    file = url(name, "atlas/numbers.bin")
    prefetch = (
        "import coffea_shoppe as shoppe\n"
        f"print(shoppe.prefetch({file!r}, progress=False).failed[{file!r}])"
    )
    assert run_code(rhea, prefetch).splitlines()[-1].startswith(SENTENCES[name])
    opened = (
        "import uproot, coffea_shoppe as shoppe\n"
        f"try:\n    uproot.open(shoppe.data_url({file!r}))\n"
        "except OSError as error:\n    print(error)"
    )
    assert SENTENCES[name] in run_code(rhea, opened)
    code = DELIVER.replace("NAME", repr(name)).replace("FILES", repr([file]))
    shown = " ".join(run_code(rhea, code).split())
    assert f"LoginFailed: {file}: {SENTENCES[name]}" in shown


def test_credentials_are_renewed_while_they_are_in_use(
    facility: Cluster, rhea: User, services: Grid, tmp_path: Path
) -> None:
    ends: dict[str, set[float]] = {"gsi": set(), "tokens": set()}
    path = tmp_path / "numbers.bin"
    path.write_bytes(NUMBERS)
    deadline, reads = time.monotonic() + 600, 0
    while min(map(len, ends.values())) < 4:
        assert time.monotonic() < deadline, f"renewals within ten minutes: {ends}"
        for cache in ends:
            ends[cache].add(metrics(facility, cache)[EXPIRY])
            # The cache logs in again, with what it has now.
            services.restart(cache)
        new = f"renewed-{reads}.bin"
        urls = [url("grid", f"atlas/{new}"), url("grid", f"wlcg/{new}", grids.TOKENS)]
        for folder in ("atlas", "wlcg"):
            services.publish(path, f"{folder}/{new}")
        code = f"{READ}for url in {urls!r}:\n    print(read(url))"
        assert run_code(rhea, code).split() == [DIGEST] * 2, f"read {reads}, {ends}"
        reads += 1
        time.sleep(10)
    assert {metrics(facility, cache)[FAILED] for cache in ends} == {0}
    pods = facility.get("pods", "-n", "shoppe", "-l", "app.kubernetes.io/name=xcache")["items"]
    restarts = [c["restartCount"] for pod in pods for c in pod["status"]["containerStatuses"]]
    assert set(restarts) == {0}


def test_a_robot_that_left_its_vo_is_in_metrics_and_log(
    facility: Cluster, rhea: User, services: Grid
) -> None:
    services.leave_vo()
    eventually(
        lambda: metrics(facility, "gsi")[FAILED] == 1,
        "the metric says that the renewal failed",
        timeout=LIFETIME_S + 30,
    )
    log = facility.kubectl("-n", "shoppe", "logs", "shoppe-gsi-0", "-c", "credentials", "--tail=1")
    start = f"the facility's credential for {CACHES['gsi']} was not renewed: voms-proxy-init: "
    assert start in log
    assert "User unknown to this VO" in log


def test_no_secret_is_seen_where_it_does_not_belong(facility: Cluster, services: Grid) -> None:
    robot = services.read("robot.key").splitlines()[1:-1]
    hidden = {*robot, services.secret, base64.b64encode(services.secret.encode()).decode()}
    pods = [f"shoppe-{name}-0" for name in CACHES]
    for pod in pods:
        texts = [
            facility.kubectl("-n", "shoppe", "logs", pod, "--all-containers", "--tail=-1"),
            json.dumps(facility.get("pod", pod, "-n", "shoppe")),
        ]
        for container in ("xcache", "exporter", "credentials"):
            command = "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ | tr '\\0' '\\n'"
            words = ("-n", "shoppe", "exec", pod, "-c", container, "--", "sh", "-c", command)
            texts.append(facility.kubectl(*words))
        for text in texts:
            assert not [secret for secret in hidden if secret in text], pod
            assert "PRIVATE KEY" not in text
            assert not re.search(r"eyJ[\w-]{10,}\.eyJ[\w-]{10,}", text), "a token"
    # The cache reads its credential, and never the robot's key.
    inside = ("-n", "shoppe", "exec", "shoppe-gsi-0", "-c", "xcache", "--")
    folders = facility.kubectl(*inside, "ls", "-n", "/run", "/tmp")  # noqa: S108  (the pod's own)
    assert "credentials" in folders
    assert "tls.key" not in folders
    mode = facility.kubectl(*inside, "stat", "-c", "%a", "/run/credentials/credential")
    assert mode.strip() == "600"
