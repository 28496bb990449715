"""The container engine: a running Docker or Podman, or a Docker daemon that we start."""

import os
import re
import shutil
import signal
import subprocess
import tomllib
from dataclasses import dataclass
from functools import cache as memoised
from pathlib import Path
from typing import Any

from shoppe_ci import machine, shell
from shoppe_ci.errors import ShoppeError
from shoppe_ci.paths import TOOLCHAIN, cache, locked
from shoppe_ci.progress import Note, say, step
from shoppe_ci.wait import eventually

SOCKET_REFUSED = "permission denied"
DIGEST = re.compile(r"#\d+ sha256:[0-9a-f]+")
CONTAINER = re.compile(r"/docker/[0-9a-f]{64}(/.*)?")


@memoised
def pins() -> dict[str, Any]:
    """Return the toolchain's pins (`ci/toolchain/pins.toml`)."""
    return tomllib.loads((TOOLCHAIN / "pins.toml").read_text())


@dataclass(frozen=True)
class Engine:
    """A container engine that responds: its name and its client program."""

    name: str
    program: str

    def run(self, *words: str, **options: Any) -> str:
        """Run one of the engine's commands and return its output."""
        return shell.run([self.program, *words], **options)

    def build(self, *words: str, note: Note | None = None, **options: Any) -> None:
        """Build an image; `note` is called with the steps and their output."""

        def tell(line: str) -> None:
            if note and not DIGEST.fullmatch(line):
                note(line)

        self.run("build", *words, env=self.environment(), note=tell, **options)

    def succeeds(self, *words: str) -> bool:
        """Return whether one of the engine's commands exits with status 0."""
        return shell.succeeds([self.program, *words], timeout=60)

    def has_image(self, name: str) -> bool:
        """Return whether the engine's store contains an image of that name."""
        return self.succeeds("image", "inspect", name)

    def running(self, container: str) -> bool:
        """Return whether a container that exists is running."""
        state = self.run("container", "inspect", "-f", "{{.State.Running}}", container)
        return state.strip() == "true"

    def address(self, container: str) -> str:
        """Return the IP address of a container in kind's network."""
        template = "{{.NetworkSettings.Networks.kind.IPAddress}}"
        return self.run("container", "inspect", "-f", template, container).strip()

    def environment(self) -> dict[str, str]:
        """Return the environment in which kind finds the same engine."""
        folder = cache("bin", self.name)
        with locked("bin"):
            if not folder.is_symlink() or str(folder.readlink()) != self.program:
                folder.unlink(missing_ok=True)
                folder.symlink_to(self.program)
        path = f"{folder.parent}{os.pathsep}{os.environ.get('PATH', '')}"
        return {"PATH": path, "KIND_EXPERIMENTAL_PROVIDER": self.name, "DOCKER_BUILDKIT": "1"}


def _programs() -> list[Engine]:
    """Return the candidates in order of preference.

    Debian's client comes first: a newer one may lack the buildx plugin and then
    fall back to a builder without build secrets.
    """
    engines = []
    for name, path in (("docker", "/usr/bin"), ("docker", None), ("podman", None)):
        if (program := shutil.which(name, path=path)) and Engine(name, program) not in engines:
            engines.append(Engine(name, program))
    return engines


def find() -> Engine | None:
    """Return the first engine that responds, or None."""
    return next((engine for engine in _programs() if engine.succeeds("info")), None)


def check() -> machine.Finding:
    """Look for an engine that responds, and report why none does."""
    if engine := find():
        return machine.Finding("container engine", "ok", f"{engine.name} ({engine.program})")
    for engine in _programs():
        info = subprocess.run([engine.program, "info"], capture_output=True, text=True, check=False)
        if SOCKET_REFUSED in (info.stderr + info.stdout).lower():
            return machine.Finding(
                "container engine",
                "missing",
                f"{engine.name} runs, but this user may not talk to it",
                f"sudo usermod -aG docker {os.environ.get('USER', '$USER')}, then log in again",
            )
    if can_start():
        return machine.Finding("container engine", "ok", "none runs; one will be started here")
    return machine.Finding(
        "container engine",
        "missing",
        "neither Docker nor Podman responds",
        "start Docker (Docker Desktop, or `sudo systemctl start docker`)",
    )


def can_start() -> bool:
    """Return whether we may install and start an engine: root on a Debian machine."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def ensure() -> Engine:
    """Return an engine that responds; start one if there is none and we may.

    Raises `ShoppeError` with the remedy if no engine responds and none may be
    started.
    """
    if engine := find():
        return engine
    machine.require([check()])
    install_packages(pins()["debian"]["engine"])
    _start_dockerd()
    engine = find()
    if engine is None:
        raise ShoppeError(
            f"dockerd was started but does not respond; its log is {cache('logs', 'dockerd.log')}"
        )
    return engine


def install_packages(packages: list[str]) -> None:
    """Install Debian packages that are not yet installed."""
    missing = [name for name in packages if not shell.succeeds(["dpkg", "-s", name])]
    if not missing:
        return
    if not can_start():
        raise ShoppeError(
            f"needs the packages {' '.join(missing)}", f"sudo apt-get install {' '.join(missing)}"
        )
    with step(f"installing packages: {' '.join(missing)}") as note:
        apt = ["apt-get", "-o", "DPkg::Lock::Timeout=120"]
        shell.run([*apt, "update"], note=note)
        shell.run(
            [*apt, "install", "-y", "--no-install-recommends", *missing],
            env={"DEBIAN_FRONTEND": "noninteractive"},
            note=note,
            remedy="check the network to Debian's packages",
        )


def in_container_below(cgroups: str, own: str) -> bool:
    """Return whether a process is in a Docker container that was started beside us.

    Both are texts of `/proc/PID/cgroup`, `own` that of this process.  Containers that
    this process cannot have started, such as the one it may itself be in, are not below.
    """
    paths = dict(line.split(":", 2)[1:] for line in own.splitlines())
    for line in cgroups.splitlines():
        _, controllers, path = line.split(":", 2)
        base = paths.get(controllers, "").rstrip("/")
        if path.startswith(base) and CONTAINER.fullmatch(path.removeprefix(base)):
            return True
    return False


def _end_leftovers() -> None:
    """Kill processes of containers that outlived a daemon of ours.

    The next daemon does not know them and assigns their network addresses a
    second time.
    """
    own = Path("/proc/self/cgroup").read_text()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if in_container_below((process / "cgroup").read_text(), own):
                os.kill(int(process.name), signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError):
            continue


def _start_dockerd() -> None:
    """Start a Docker daemon of our own, detached from this process."""
    command = ["dockerd", "--host", "unix:///var/run/docker.sock"]
    if machine.lacks_capability(machine.CAP_SYS_RESOURCE):
        say(
            "  the machine lacks CAP_SYS_RESOURCE: containers run through ci/toolchain/runc-bounded"
        )
        # A copy: the daemon outlives this checkout.
        runtime = shutil.copy(TOOLCHAIN / "runc-bounded", cache("bin", "runc-bounded"))
        command += ["--add-runtime", f"bounded={runtime}"]
        command += ["--default-runtime", "bounded"]
    log = cache("logs", "dockerd.log")
    if log.exists():
        _end_leftovers()
    with step("starting a Docker daemon"), log.open("ab") as file:
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
        try:
            eventually(find, "dockerd responds")
        except ShoppeError as error:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise ShoppeError(f"{error.problem}; its log is {log}\n{tail}") from error
