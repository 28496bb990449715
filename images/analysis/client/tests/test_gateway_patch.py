"""The image's patch of dask-gateway's client: collecting a client as garbage blocks nothing."""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

PATCH = Path(__file__).parents[2] / "dask-gateway.patch"
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


@pytest.fixture(scope="module")
def patched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with dask-gateway's client, patched as in the image."""
    folder = tmp_path_factory.mktemp("patched")
    spec = find_spec("dask_gateway")
    assert spec is not None
    assert spec.origin is not None
    shutil.copytree(Path(spec.origin).parent, folder / "dask_gateway")
    subprocess.run(["git", "apply", str(PATCH)], cwd=folder, check=True)
    return folder


@pytest.mark.parametrize(
    "collect",
    [WHILE_ANOTHER_LOOP_STARTS, ON_ITS_OWN_LOOP],
    ids=["while another loop starts", "on its own loop"],
)
def test_a_client_that_is_collected_as_garbage_blocks_nothing(patched: Path, collect: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(patched)}
    ended = subprocess.run(
        [sys.executable, "-c", COLLECT.format(collect=collect)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    )
    assert ended.stdout.strip() == "closed"
