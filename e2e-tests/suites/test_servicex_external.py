"""ServiceX with a PostgreSQL and an S3 store that are not the facility's, and one that is full."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import requests
import yaml
from lib.fixtures import forwarded
from lib.second_servicex import VOLUME_MIB, second_servicex, stored
from servicex import ProgressBarFormat, dataset, deliver, query
from shoppe_ci import origin
from shoppe_ci.cluster import Cluster, free_port
from shoppe_ci.paths import ROOT
from shoppe_ci.wait import eventually

NAME = "external"
CODEGEN = ROOT / "images" / "servicex" / "tests" / "added" / "columns.py"
"""A code generator that is not in the image: one file, and one value."""
Get = Callable[..., list[str]]


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
    values = {
        "app": {"auth": False},
        "objectStore": {"publicURL": f"127.0.0.1:{s3_port}"},
        "transformer": {"attempts": 2},
        "codeGen": {"columns": {"source": CODEGEN.read_text()}},
    }
    folder = tmp_path_factory.mktemp("client")
    config = folder / "servicex.yaml"
    url = f"http://127.0.0.1:{api_port}/services/servicex"
    endpoints = [{"name": NAME, "endpoint": url}]
    config.write_text(
        yaml.safe_dump({"api_endpoints": endpoints, "cache_path": str(folder / "cache")})
    )

    def ask(title: str, file: str, selection: Any, **more: str) -> list[str]:
        sample = {"Name": title, "Dataset": dataset.FileList([file]), "Query": selection, **more}
        spec = {"General": {"OutputFormat": "parquet"}, "Sample": [sample]}
        (files,) = deliver(
            spec, config_path=str(config), progress_bar=ProgressBarFormat.none
        ).values()
        return list(files)

    ports = {api_port: 5000, s3_port: 7000}
    with (
        second_servicex(facility, NAME, values),
        forwarded(facility, NAME, f"{NAME}-servicex", ports),
    ):
        yield ask


@pytest.fixture(scope="module")
def file(data_origin: Cluster, samples: list[tuple[Path, str, str, int]]) -> tuple[str, int]:
    """A small file, and its events."""
    path, _, _, events = next(sample for sample in samples if sample[1] == "wjets")
    return origin.publish(data_origin, path), events


def test_columns_from_an_external_store_and_database(
    get: Get, file: tuple[str, int], facility: Cluster
) -> None:
    url, events = file
    raw = query.UprootRaw({"treename": "Events", "expressions": ["event"]})
    (path,) = get("small", url, raw)
    assert pq.read_metadata(path).num_rows == events
    (result,) = stored(facility, NAME)
    folder, name = result.removeprefix("user/").split("/")
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
    for request in requests.get(url, timeout=20).json()["requests"]:
        assert requests.delete(f"{url}/{request['request_id']}", timeout=20).ok
    eventually(lambda: not stored(facility, NAME), "no object is left", timeout=30)
    assert requests.get(url, timeout=20).json() == {"requests": []}
