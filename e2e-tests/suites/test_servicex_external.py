"""ServiceX with a PostgreSQL and an S3 store that are not the facility's, and one that is full."""

import logging
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import requests
import yaml
from lib.fixtures import forwarded
from servicex import ProgressBarFormat, dataset, deliver, query
from shoppe_ci import images, origin, release
from shoppe_ci.cluster import Cluster, free_port
from shoppe_ci.paths import CHARTS, ROOT
from shoppe_ci.wait import eventually

NAME = "external"
VOLUME_MIB = 32
"""Of the store."""
KEYS = {"root-access-key": f"AK{secrets.token_hex(8)}", "root-secret-key": secrets.token_hex(20)}
CREDENTIALS = f"""[default]
aws_access_key_id = {KEYS["root-access-key"]}
aws_secret_access_key = {KEYS["root-secret-key"]}
"""
CODEGEN = ROOT / "images" / "servicex" / "tests" / "added" / "columns.py"
"""A code generator that is not in the image: one file, and one value."""
Get = Callable[..., list[str]]


def store() -> list[dict[str, Any]]:
    """Return a small S3 store with the bucket `columns`, in memory."""
    image = images.values()["objectstore"]["image"]
    secure = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    common = {
        "image": f"{image['name']}:{image['tag']}",
        "securityContext": secure,
        "volumeMounts": [{"name": name, "mountPath": f"/{name}"} for name in ("data", "tmp")],
    }
    folders = ["mkdir", "-p", "/data/objects/columns", "/data/accounts"]
    serve = ["versitygw", "--port=:7070", "--region=eu-north-9", "--iam-dir=/data/accounts"]
    names = {"ROOT_ACCESS_KEY": "root-access-key", "ROOT_SECRET_KEY": "root-secret-key"}
    container = {
        **common,
        "name": "store",
        "args": [*serve, "--quiet", "posix", "/data/objects"],
        "env": [
            {"name": name, "valueFrom": {"secretKeyRef": {"name": "store", "key": key}}}
            for name, key in names.items()
        ],
    }
    memory = {"medium": "Memory", "sizeLimit": f"{VOLUME_MIB}Mi"}
    metadata = {"name": "store", "namespace": NAME, "labels": {"app": "store"}}
    user = {"runAsNonRoot": True, "runAsUser": 1000, "fsGroup": 1000}
    secret = {**KEYS, "aws-credentials": CREDENTIALS}
    return [
        {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": secret},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"selector": {"app": "store"}, "ports": [{"port": 7070}]},
        },
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": metadata,
            "spec": {
                "automountServiceAccountToken": False,
                "securityContext": {**user, "seccompProfile": {"type": "RuntimeDefault"}},
                "initContainers": [{**common, "name": "folders", "args": folders}],
                "containers": [container],
                "volumes": [{"name": "data", "emptyDir": memory}, {"name": "tmp", "emptyDir": {}}],
            },
        },
    ]


@pytest.fixture(scope="module")
def api_port() -> int:
    """The port of this machine at which the API of that ServiceX responds."""
    return free_port()


@pytest.fixture(scope="module")
def get(
    facility: Cluster, api_port: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Get]:
    """A stock client of that ServiceX: asks for one sample, returns its files."""
    s3_port = free_port()
    release.ensure_namespace(facility, NAME)
    facility.apply(*store())
    databases = {"databases": ["columns"]}
    release.install(facility, CHARTS / "postgresql", databases, name=f"{NAME}-db", namespace=NAME)
    values = {
        "app": {"auth": False},
        "postgres": {
            "existingDatabaseSecret": f"{NAME}-db-postgresql-columns",
            "service": "columns",
        },
        "objectStore": {
            "endpoint": f"http://store.{NAME}:7070",
            "region": "eu-north-9",
            "bucket": "columns",
            "existingSecret": "store",
            "publicURL": f"127.0.0.1:{s3_port}",
        },
        "transformer": {"attempts": 2},
        "codeGen": {"columns": {"source": CODEGEN.read_text()}},
    }
    release.install(facility, CHARTS / "servicex", values, name=NAME, namespace=NAME)
    folder = tmp_path_factory.mktemp("client")
    config = folder / "servicex.yaml"
    url = f"http://127.0.0.1:{api_port}/services/servicex"
    told = {"api_endpoints": [{"name": NAME, "endpoint": url}], "cache_path": str(folder / "cache")}
    config.write_text(yaml.safe_dump(told))

    def ask(title: str, file: str, asked: Any, **more: str) -> list[str]:
        sample = {"Name": title, "Dataset": dataset.FileList([file]), "Query": asked, **more}
        spec = {"General": {"OutputFormat": "parquet"}, "Sample": [sample]}
        (found,) = deliver(
            spec, config_path=str(config), progress_bar=ProgressBarFormat.none
        ).values()
        return list(found)

    ports = {api_port: 5000, s3_port: 7000}
    with forwarded(facility, NAME, f"{NAME}-servicex", ports):
        yield ask
    for one in (NAME, f"{NAME}-db"):
        release.uninstall(facility, name=one, namespace=NAME)
    facility.kubectl("delete", "namespace", NAME, "--wait=false")


@pytest.fixture(scope="module")
def file(data_origin: Cluster, samples: list[tuple[Path, str, str, int]]) -> tuple[str, int]:
    """A small file, and its events."""
    path, _, _, events = next(one for one in samples if one[1] == "wjets")
    return origin.publish(data_origin, path), events


def objects(facility: Cluster) -> list[str]:
    where = ("-n", NAME, "exec", "store", "-c", "store", "--")
    return facility.kubectl(*where, "find", "/data/objects/columns", "-name", "*.parquet").split()


def test_columns_from_an_external_store_and_database(
    get: Get, file: tuple[str, int], facility: Cluster
) -> None:
    url, events = file
    raw = query.UprootRaw({"treename": "Events", "expressions": ["event"]})
    (path,) = get("small", url, raw)
    assert pq.read_metadata(path).num_rows == events
    (held,) = objects(facility)
    folder, name = held.removeprefix("/data/objects/columns/user/").split("/")
    assert len(folder) == 36, "the request"
    assert name.endswith(".parquet")


def test_a_code_generator_is_added_by_one_file_and_one_value(
    get: Get, file: tuple[str, int], api_port: int
) -> None:
    url, events = file
    (path,) = get("added", url, "Events: nJet, event", Codegen="columns")
    metadata = pq.read_metadata(path)
    assert metadata.num_rows == events
    assert metadata.schema.names == ["nJet", "event"]
    api = f"http://127.0.0.1:{api_port}/services/servicex/servicex"
    body = {"codegen": "columns", "file-list": [url]}
    # The API has the file, too: it refuses what can never work, and estimates the rest.
    wrong = requests.post(f"{api}/transformation", json={**body, "selection": "x"}, timeout=20)
    assert (wrong.status_code, "TREE: BRANCH" in wrong.json()["message"]) == (400, True)
    good = {**body, "selection": "Events: nJet"}
    assert requests.post(f"{api}/estimate", json=good, timeout=60).json()["events"] == events


LARGE = f"""
def run_query(file):
    import numpy, awkward
    numbers = numpy.random.default_rng(1).random({2 * VOLUME_MIB} * 2**20 // 8)
    return awkward.Array({{"x": numbers}})
"""


def test_a_full_store_is_told_and_keeps_nobody_from_going_on(
    get: Get, file: tuple[str, int], facility: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    url, events = file
    with caplog.at_level(logging.INFO), pytest.raises(Exception, match="request"):
        get("large", url, query.PythonFunction(LARGE))
    shown = " ".join(caplog.text.split())
    assert "CannotStore: the object store is full; delete results that you do not need" in shown
    other = query.UprootRaw({"treename": "Events", "expressions": ["event", "nJet"]})
    (path,) = get("another", url, other)
    assert pq.read_metadata(path).num_rows == events


def test_results_go_from_the_store_with_their_request(
    get: Get, api_port: int, facility: Cluster
) -> None:
    url = f"http://127.0.0.1:{api_port}/services/servicex/servicex/transformation"
    for one in requests.get(url, timeout=20).json()["requests"]:
        assert requests.delete(f"{url}/{one['request_id']}", timeout=20).ok
    eventually(lambda: not objects(facility), "no object is left", timeout=30)
    assert requests.get(url, timeout=20).json() == {"requests": []}
