"""The command `local`: the service of a laptop, with its transformers as child processes."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "coffea_shoppe_servicex.main", "local"]
TRANSFORMERS = 2


def transformers(pid: int) -> list[int]:
    """Return the child processes of a process."""
    children = (path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/children"))
    return [int(child) for listed in children for child in listed]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[tuple["subprocess.Popen[str]", list[int]]]:
    """The command at a free port, and its transformers; none of them is left."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [f"--port={port}", f"--transformers={TRANSFORMERS}", f"--folder={tmp_path / 'state'}"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [*COMMAND, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )
    started: list[int] = []
    try:
        assert process.stdout
        for line in process.stdout:
            if "Uvicorn running" in line:
                break
        started = transformers(process.pid)
        yield process, started
    finally:
        process.kill()
        process.wait()
        for pid in started:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_transformers_end_with_the_command(
    service: tuple["subprocess.Popen[str]", list[int]], sent: signal.Signals
) -> None:
    process, started = service
    assert len(started) == TRANSFORMERS
    assert all(Path(f"/proc/{pid}").exists() for pid in started)
    process.send_signal(sent)
    process.wait(60)
    assert [pid for pid in started if Path(f"/proc/{pid}").exists()] == []
