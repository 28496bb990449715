"""Checks of this machine: memory, disk, cores, compilers and network."""

import os
import platform
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache as memoised
from pathlib import Path
from typing import Literal

import requests

from shoppe_ci.errors import ShoppeError
from shoppe_ci.paths import cache

GIB = 2**30
NEEDED_DISK_GIB = {"source": 25, "registry": 12}
NEEDED_MEMORY_GIB = 6
CAP_SYS_RESOURCE = 24

Source = Literal["registry", "source"]


@memoised
def registry_responds() -> bool:
    """Return whether a public container registry can be reached (5 s at most)."""
    if os.environ.get("SHOPPE_OFFLINE_REGISTRY"):
        return False
    try:
        socket.getaddrinfo("registry-1.docker.io", 443)
        response = requests.get("https://registry-1.docker.io/v2/", timeout=5)
    except (OSError, requests.RequestException):
        return False
    return response.status_code in (200, 401)


def choose_source(wish: str) -> Source:
    """Return `registry` or `source` for `--from registry|source|auto`."""
    if wish == "auto":
        return "registry" if registry_responds() else "source"
    if wish == "registry" and not registry_responds():
        raise ShoppeError(
            "--from registry: no container registry responds from this machine",
            "use --from source, or give the container engine's host access to docker.io",
        )
    return "source" if wish == "source" else "registry"


def architecture() -> str:
    """Return the processor's architecture as Go's projects name it."""
    names = {"x86_64": "amd64", "aarch64": "arm64"}
    return names.get(platform.machine(), platform.machine())


def memory_gib() -> float:
    """Return the machine's memory in GiB."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB


def free_disk_gib() -> float:
    """Return the free space in the cache's file system, in GiB."""
    return shutil.disk_usage(cache("x").parent).free / GIB


def lacks_capability(bit: int) -> bool:
    """Return whether the bounding set misses a Linux capability (its number)."""
    status = Path("/proc/self/status")
    if not status.exists():
        return False
    line = next(text for text in status.read_text().splitlines() if text.startswith("CapBnd"))
    return not int(line.split()[1], 16) >> bit & 1


def cgroup_v1() -> bool:
    """Return whether the host uses version 1 of control groups."""
    return platform.system() == "Linux" and not Path("/sys/fs/cgroup/cgroup.controllers").exists()


def ca_bundle() -> Path | None:
    """Return the CA bundle that builds need on this machine, if one is configured.

    `SHOPPE_CA_BUNDLE` names it; `SSL_CERT_FILE` counts where it is unset.
    """
    for key in ("SHOPPE_CA_BUNDLE", "SSL_CERT_FILE"):
        if named := os.environ.get(key):
            path = Path(named)
            if not path.is_file():
                raise ShoppeError(f"{key} names {named}, which is not a file", f"unset {key}")
            return path
    return None


@dataclass(frozen=True)
class Finding:
    """One line of `doctor`: a subject, whether it is in order, and the remedy."""

    subject: str
    state: Literal["ok", "warning", "missing"]
    detail: str
    remedy: str = ""


def check_memory() -> Finding:
    """Compare the machine's memory with what a facility needs."""
    have = memory_gib()
    if have >= NEEDED_MEMORY_GIB:
        return Finding("memory", "ok", f"{have:.1f} GiB")
    return Finding(
        "memory",
        "missing",
        f"{have:.1f} GiB; a facility with one user needs {NEEDED_MEMORY_GIB} GiB",
        "use a larger machine, or raise the memory of Docker's virtual machine",
    )


def check_disk(source: Source) -> Finding:
    """Compare the free disk space with what building or pulling needs."""
    have, need = free_disk_gib(), NEEDED_DISK_GIB[source]
    built = cache("stamps", "node-image").exists()
    need = 8 if built else need
    if have >= need:
        return Finding("disk", "ok", f"{have:.0f} GiB free, {need} needed")
    return Finding(
        "disk",
        "missing",
        f"{have:.0f} GiB free in {cache('x').parent}; {need} needed (--from {source})",
        "run `ci/shoppe clean`, or set SHOPPE_CACHE to a folder on a larger disk",
    )


def check_cores() -> Finding:
    """Count the processor cores."""
    count = os.cpu_count() or 1
    if count >= 2:
        return Finding("cores", "ok", str(count))
    return Finding("cores", "missing", "1; Kubernetes' own pods need 2", "use a larger machine")


def check_go(source: Source) -> Finding:
    """Find the Go compiler that building from source needs."""
    if source == "registry":
        return Finding("go", "ok", "not needed: tools come as published binaries or images")
    if go := shutil.which("go"):
        return Finding("go", "ok", go)
    return Finding(
        "go", "missing", "needed to build Kubernetes from source", "install Go 1.26: go.dev/dl"
    )


def require(findings: list[Finding]) -> None:
    """Raise one `ShoppeError` that names all missing things, if there are any."""
    bad = [finding for finding in findings if finding.state == "missing"]
    if bad:
        raise ShoppeError(
            "this machine cannot run a facility yet:\n"
            + "\n".join(f"  {finding.subject}: {finding.detail}" for finding in bad),
            "; ".join(finding.remedy for finding in bad),
        )


Check = Callable[[], Finding]
