import subprocess
from typing import Any

import pytest
from shoppe_ci import engine
from shoppe_ci.engine import Engine


def docker_failing_with(monkeypatch: pytest.MonkeyPatch, error: str, *, root: bool) -> None:
    """Let one Docker exist whose `info` fails with an error."""
    monkeypatch.setattr(engine, "_programs", lambda: [Engine("docker", "/usr/bin/docker")])
    monkeypatch.setattr(engine, "find", lambda: None)
    monkeypatch.setattr(engine, "can_start", lambda: root)

    def run(command: Any, **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", error)

    monkeypatch.setattr("shoppe_ci.engine.subprocess.run", run)


def test_a_user_without_rights_is_told_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    docker_failing_with(monkeypatch, "permission denied while trying to connect", root=False)
    finding = engine.check()
    assert finding.state == "missing"
    assert "may not talk to it" in finding.detail
    assert "usermod -aG docker" in finding.remedy


def test_an_engine_that_does_not_run_is_to_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    docker_failing_with(monkeypatch, "Cannot connect to the Docker daemon", root=False)
    finding = engine.check()
    assert finding.state == "missing"
    assert "systemctl start docker" in finding.remedy


def test_root_on_debian_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    docker_failing_with(monkeypatch, "Cannot connect to the Docker daemon", root=True)
    assert engine.check().state == "ok"


OURS = f"9:name=systemd:/\n0::/docker/{'a' * 64}/init.scope\n"


@pytest.mark.parametrize(
    ("cgroups", "own", "left"),
    [
        pytest.param(OURS, "9:name=systemd:/\n0::/\n", True, id="a container of the machine"),
        pytest.param(
            f"4:memory:/docker/{'b' * 64}/docker/{'a' * 64}\n",
            f"4:memory:/docker/{'b' * 64}\n",
            True,
            id="a container within ours",
        ),
        pytest.param(OURS, OURS, False, id="the container we are in"),
        pytest.param(OURS, f"0::/docker/{'b' * 64}\n", False, id="a container beside ours"),
        pytest.param("0::/\n", "0::/\n", False, id="no container"),
        pytest.param("0::/docker/buildkit\n", "0::/\n", False, id="a folder of Docker's"),
    ],
)
def test_only_processes_of_containers_that_we_started_are_left_over(
    cgroups: str, own: str, left: bool
) -> None:
    assert engine.in_container_below(cgroups, own) is left


def test_a_build_notes_what_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(_: Any, *, note: Any, **__: Any) -> str:
        for line in ("#9 [python 3/3] RUN uv", f"#9 sha256:{'a' * 64}", "#9 1.2 sha256:a of b"):
            note(line)
        return ""

    monkeypatch.setattr("shoppe_ci.engine.shell.run", run)
    monkeypatch.setattr(Engine, "environment", lambda _: {})
    noted: list[str] = []
    Engine("docker", "/usr/bin/docker").build("context", note=noted.append)
    assert noted == ["#9 [python 3/3] RUN uv", "#9 1.2 sha256:a of b"]
    Engine("docker", "/usr/bin/docker").build("context")
