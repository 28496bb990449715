"""A demonstration that is killed at any step continues when it is run again."""

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from agc import histograms
from shoppe_ci import cluster as clusters
from shoppe_ci.engine import Engine
from shoppe_ci.paths import ROOT

pytestmark = [pytest.mark.part("chaos"), pytest.mark.timeout(1800)]

NAME = "coffea-shoppe-interrupted"
STEP_S = 300
# Each is killed two seconds after it has begun, in turn.
STEPS = (
    "creating the kind cluster",
    "pulling image",
    "helm upgrade",
    "starting the origin",
    "logging in",
    "running agc-ttbar.ipynb",
)


@pytest.fixture
def results(engine: Engine, tmp_path: Path) -> Iterator[Path]:
    """A folder for results; the cluster of these tests is removed at the end."""
    clusters.delete(engine, NAME)
    yield tmp_path
    clusters.delete(engine, NAME)


def demo(results: Path) -> "subprocess.Popen[str]":
    """Start the demonstration in a process group of its own."""
    command = [str(ROOT / "ci" / "shoppe"), "demo", "--cluster", NAME, "--results", str(results)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def kill_in(process: "subprocess.Popen[str]", step: str) -> list[str]:
    """Kill the demonstration within a step; return what it printed."""
    printed = []
    guard = threading.Timer(STEP_S, os.killpg, (process.pid, signal.SIGKILL))
    guard.start()
    assert process.stdout
    for line in process.stdout:
        printed.append(line)
        if line.startswith(f"▸ {step}"):
            blow = threading.Timer(2, os.killpg, (process.pid, signal.SIGKILL))
            blow.start()
    process.wait()
    guard.cancel()
    return printed


def test_a_demo_killed_at_every_step_continues(results: Path) -> None:
    for step in STEPS:
        process = demo(results)
        printed = "".join(kill_in(process, step))
        assert f"▸ {step}" in printed, printed
        assert process.returncode == -signal.SIGKILL, printed
    process = demo(results)
    printed, _ = process.communicate(timeout=600)
    assert process.returncode == 0, printed
    assert "creating the kind cluster" not in printed, "what was done is not done again"
    assert len(histograms.load(results / "histograms.root")) > 0
