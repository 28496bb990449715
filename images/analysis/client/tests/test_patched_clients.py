"""The image's patches of clients.

dask-gateway's: collecting a client as garbage blocks nothing.  ServiceX': a request that failed
ends in an error, whoever looks at its status first.  fsspec-xrootd's: a file whose origin the cache
could not log in to fails with the cause.
"""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ANALYSIS = Path(__file__).parents[2]
PATCHES = {
    "dask-gateway.patch": "dask_gateway",
    "fsspec-xrootd.patch": "fsspec_xrootd",
    "servicex.patch": "servicex",
}
COLLECT = """
import gc
from dask_gateway import Gateway
from distributed.utils import LoopRunner

gateway = Gateway("http://127.0.0.1:9")
runner, gateway.itself = gateway._loop_runner, gateway
thread, loop = runner._loop_thread, runner.loop
del gateway
{collect}
thread.join(30)
print("open" if loop.asyncio_loop.is_running() else "closed")
"""
WHILE_ANOTHER_LOOP_STARTS = "with LoopRunner._lock: gc.collect()"
ON_ITS_OWN_LOOP = "loop.add_callback(gc.collect)"


FAILED_REQUEST = """
import asyncio
import json
import logging
import sys
from unittest.mock import AsyncMock, MagicMock

from servicex.configuration import Configuration
from servicex.dataset_identifier import FileListDataset
from servicex.models import TransformStatus
from servicex.query_cache import QueryCache
from servicex.query_core import DONE_STATUS, GenericQueryStringGenerator, Query

logging.disable()
status = TransformStatus.model_validate(json.loads(sys.argv[2]))


class AtOnce(Query):
    # The download looks at the status in the same turn of the loop as the listener.
    async def download_files(self, *arguments):
        while not (self.current_status and self.current_status.status in DONE_STATUS):
            await asyncio.sleep(0)
        return [f"file-{number}" for number in range(self.current_status.files_completed)]


async def deliver():
    server = MagicMock()
    server.get_code_generators_async = AsyncMock(return_value={"uproot-raw": ""})
    server.submit_transform = AsyncMock(return_value=status.request_id)
    server.get_transform_status = AsyncMock(return_value=status)
    configuration = Configuration(cache_path=sys.argv[1], api_endpoints=[])
    cache = QueryCache(configuration)
    query = AtOnce(
        dataset_identifier=FileListDataset(["root://a"]), title="t", codegen="uproot-raw",
        sx_adapter=server, config=configuration, query_cache=cache,
        query_string_generator=GenericQueryStringGenerator("[]", "uproot-raw"),
    )
    try:
        result = await query.submit_and_download(False, MagicMock())
    except Exception as error:
        print(error)
    else:
        print(len(result.file_list), "files without an error")
    print(len(cache.cached_queries()), "in the cache")


asyncio.run(deliver())
"""
STATUS = {
    "request_id": "r", "did": "d", "did_id": 1, "title": "t", "selection": "[]",
    "tree-name": None, "image": "i", "result-destination": "object-store",
    "result-format": "parquet", "generated-code-cm": "", "status": "Fatal", "app-version": "1",
    "submit-time": "2026-01-01T00:00:00Z", "files": 2, "files-completed": 1, "files-failed": 0,
    "minio-endpoint": "s:9000", "minio-secured": False, "minio-access-key": "k",
    "minio-secret-key": "s",
}  # fmt: skip


LOGIN = """
import sys
from unittest.mock import patch

import fsspec
from coffea_shoppe_contract import origin_logins
from XRootD import client
from XRootD.client.responses import XRootDStatus

number = int(sys.argv[1])
origin_logins.login_failure = lambda url: f"{url}: the credential has expired"
fields = {"status": 1, "code": 400, "errno": number, "ok": False, "error": True, "fatal": False}
failed = XRootDStatus({**fields, "shellcode": 54, "message": f"[ERROR] [{number}] no"})


def refuse(self, url, *_, callback=None, **__):
    if callback is None:
        return failed, None
    callback(failed, None, None)
    return XRootDStatus({**fields, "ok": True, "status": 0, "message": ""})


with patch.object(client.File, "open", refuse):
    caches = fsspec.filesystem("root", hostid="cache:1094")
    opened = fsspec.open("root://cache:1094//store/f.root")
    for read in (opened.open, lambda: caches.cat_file("/store/f.root", 0, 1)):
        try:
            read()
        except OSError as error:
            print(error)
"""


def installed(package: str) -> Path:
    """Return the folder of a package, as it was published."""
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


@pytest.fixture(scope="module")
def patched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the clients, patched as in the image."""
    folder = tmp_path_factory.mktemp("patched")
    for patch, package in PATCHES.items():
        shutil.copytree(installed(package), folder / package)
        subprocess.run(["git", "apply", str(ANALYSIS / patch)], cwd=folder, check=True)
    return folder


def outcome(packages: Path, code: str, *arguments: str) -> list[str]:
    """Return the lines that a program prints which finds packages in a folder first."""
    ended = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | {"PYTHONPATH": str(packages)},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


def test_a_request_that_failed_is_an_error(patched: Path, tmp_path: Path) -> None:
    status = json.dumps(STATUS)
    lines = outcome(patched, FAILED_REQUEST, str(tmp_path), status)
    assert lines == ['Fatal issue in ServiceX server for request "t" ', "0 in the cache"]
    # Without the patch it is none; if this fails, the published client needs it no longer.
    published = installed("servicex").parent
    lines = outcome(published, FAILED_REQUEST, str(tmp_path / "published"), status)
    assert lines == ["1 files without an error", "1 in the cache"]


def test_a_file_that_a_cache_may_not_read_fails_with_the_cause(patched: Path) -> None:
    texts = ["File did not open properly", "Failed to open file"]
    url = "root://cache:1094//store/f.root"
    lines = ([f"{text}: [ERROR] [3030] no", f"{url}: the credential has expired"] for text in texts)
    assert outcome(patched, LOGIN, "3030") == [line for pair in lines for line in pair]
    # Another error is as it was published.
    published = outcome(installed("fsspec_xrootd").parent, LOGIN, "3011")
    assert outcome(patched, LOGIN, "3011") == published
    assert published[-1] == "Failed to open file: [ERROR] [3011] no"


@pytest.mark.parametrize(
    "collect",
    [WHILE_ANOTHER_LOOP_STARTS, ON_ITS_OWN_LOOP],
    ids=["while another loop starts", "on its own loop"],
)
def test_a_client_that_is_collected_as_garbage_blocks_nothing(patched: Path, collect: str) -> None:
    assert outcome(patched, COLLECT.format(collect=collect)) == ["closed"]
