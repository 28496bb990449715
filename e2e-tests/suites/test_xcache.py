"""The cache: both protocols, byte for byte, and never one origin's file for another's."""

import hashlib
import uuid
from pathlib import Path

import pytest
import uproot
from lib.fixtures import run_code
from shoppe_ci import counters, origin
from shoppe_ci.cluster import Cluster
from shoppe_ci.facility import User
from shoppe_ci.wait import eventually

CACHE = counters.Endpoint("xcache", 9931)

READ = """
import hashlib
import coffea_shoppe as shoppe
from XRootD import client
def read(url):
    file = client.File()
    status, _ = file.open(url)
    if not status.ok:
        return "failed " + status.message.strip()
    status, data = file.read()
    file.close()
    return hashlib.sha256(data).hexdigest()
"""


@pytest.fixture(scope="module")
def published(data_origin: Cluster, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A file on the origin: its URL and the digest of its content."""
    path = tmp_path_factory.mktemp("data") / "numbers.bin"
    path.write_bytes(bytes(range(256)) * 4000)
    return origin.publish(data_origin, path), hashlib.sha256(path.read_bytes()).hexdigest()


def test_root_and_http_give_the_same_bytes(ann: User, published: tuple[str, str]) -> None:
    url, digest = published
    printed = run_code(
        ann,
        f"{READ}cached = shoppe.data_url({url!r})\n"
        "print(cached)\nprint(read(cached))\n"
        "import requests\n"
        "web = cached.replace('root://', 'http://', 1).replace(':1094/', ':8080/', 1)\n"
        "print(hashlib.sha256(requests.get(web).content).hexdigest())\n"
        "part = requests.get(web, headers={'Range': 'bytes=256-265'})\n"
        "print(part.status_code, list(part.content))",
    ).splitlines()
    assert printed[0].startswith("root://shoppe-xcache.")
    assert printed[1:3] == [digest, digest]
    assert printed[3] == "206 [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]"


def test_a_file_of_the_same_path_elsewhere_is_another_file(
    ann: User, published: tuple[str, str]
) -> None:
    url, digest = published
    elsewhere = url.replace(origin.ADDRESS, "root://origin.shoppe-origin.svc.cluster.local:1094")
    absent = url.replace(origin.ADDRESS, "root://nowhere.invalid:1094")
    printed = run_code(
        ann,
        f"{READ}for url in {[url, elsewhere, absent]!r}:\n    print(read(shoppe.data_url(url)))",
    ).splitlines()
    assert printed[:2] == [digest, digest]
    # A cached file of one origin is not served for another.
    assert printed[2].startswith("failed")


def test_a_changed_file_is_another_entry_by_the_name_of_its_content(
    data_origin: Cluster, ann: User, tmp_path: Path
) -> None:
    """And without a name it stays what the cache has."""
    relative = f"changing-{uuid.uuid4().hex[:8]}/numbers.bin"
    digests = []
    for version in range(2):
        content = bytes((number + version) % 256 for number in range(256)) * 4000
        path = tmp_path / f"{version}.bin"
        path.write_bytes(content)
        digests.append(hashlib.sha256(content).hexdigest())
        url = origin.replace(data_origin, path, relative)
        names = ("", "?shoppe.content=v1", "?shoppe.content=v2")[: version + 2]
        urls = [f"{url}{name}" for name in names]
        code = f"{READ}for url in {urls!r}:\n    print(read(shoppe.data_url(url)))"
        printed = run_code(ann, code).split()
        assert printed == [digests[0], digests[0], digests[-1]][: version + 2]
    # No name leads out of the cache's folder.
    bad = [f"{url}?shoppe.content={name}" for name in ("../x", "a/b", "A", "")]
    code = f"{READ}for url in {bad!r}:\n    print(read(shoppe.data_url(url))[:6])"
    assert run_code(ann, code).split() == ["failed"] * len(bad)


def test_a_prefetched_file_is_in_the_cache_as_a_whole(
    data_origin: Cluster, ann: User, tmp_path: Path
) -> None:
    path = tmp_path / "numbers.bin"
    path.write_bytes(bytes(range(256)) * 12_000)
    url = origin.replace(data_origin, path, f"prefetched-{uuid.uuid4().hex[:8]}/numbers.bin")
    absent = f"{origin.ADDRESS}//absent/numbers.bin"
    code = (
        f"fetched = shoppe.prefetch({[url, absent]!r})\n"
        f"print(fetched.files, fetched.bytes, fetched.failed[{absent!r}])"
    )
    printed = run_code(ann, f"import coffea_shoppe as shoppe\n{code}").splitlines()
    size = path.stat().st_size
    assert printed[-1] == f"1 {size} no such file"
    relative = url.removeprefix("root://").replace("//", "/", 1)
    command = ["-c", "xcache", "--", "stat", "--format=%b %B", f"/cache/{relative}"]

    def stored() -> bool:
        words = data_origin.kubectl("-n", "shoppe", "exec", "shoppe-xcache-0", *command).split()
        return int(words[0]) * int(words[1]) >= size

    eventually(stored, "the cache's volume has all blocks", timeout=30)


@pytest.mark.part("faults")
def test_prefetched_branches_are_read_without_their_origin(
    data_origin: Cluster, ann: User, samples: list[tuple[Path, str, str, int]]
) -> None:
    path = samples[0][0]
    url = origin.replace(data_origin, path, f"prefetched-{uuid.uuid4().hex[:8]}/{path.name}")
    with uproot.open(path) as file:
        expected = int(file["Events"]["event"].array(library="np").sum())
    before = counters.read(data_origin, CACHE)
    printed = run_code(
        ann,
        "import coffea_shoppe as shoppe\n"
        f"fetched = shoppe.prefetch({url!r}, ['event', 'nJet'], progress=False)\n"
        "print(fetched.files, fetched.bytes)",
    )
    files, size = map(int, printed.split())
    assert files == 1
    assert 0 < size < path.stat().st_size / 2

    def fetched_bytes() -> float:
        after = counters.read(data_origin, CACHE)
        return counters.increase(before, after, "xcache_origin_bytes_total", {})

    eventually(lambda: fetched_bytes() >= size, "the cache reports these bytes", timeout=60)
    # Next to the branches the blocks of the file's header and of its tree's description.
    assert fetched_bytes() < path.stat().st_size
    origin.scale(data_origin, 0)
    try:
        read = f"uproot.open(shoppe.data_url({url!r}))['Events']['event'].array(library='np').sum()"
        code = f"import uproot, coffea_shoppe as shoppe\nprint({read})"
        assert run_code(ann, code).split()[-1] == str(expected)
    finally:
        origin.scale(data_origin, 1)


@pytest.mark.part("faults")
def test_an_origin_that_is_down_restarts_no_cache(
    data_origin: Cluster, ann: User, tmp_path: Path
) -> None:
    before = data_origin.get("pod", "shoppe-xcache-0", "-n", "shoppe")
    origin.scale(data_origin, 0)
    try:
        url = f"{origin.ADDRESS}//never/read.bin"
        assert run_code(ann, f"{READ}print(read(shoppe.data_url({url!r})))").startswith("failed")
    finally:
        origin.scale(data_origin, 1)
    after = data_origin.get("pod", "shoppe-xcache-0", "-n", "shoppe")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert [s["restartCount"] for s in after["status"]["containerStatuses"]] == [
        s["restartCount"] for s in before["status"]["containerStatuses"]
    ]
