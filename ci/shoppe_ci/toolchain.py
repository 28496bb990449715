"""Programs built from pinned source, each once per version."""

import hashlib
import os
import platform
import shutil
from pathlib import Path

from shoppe_ci import shell
from shoppe_ci.engine import pins
from shoppe_ci.errors import ShoppeError
from shoppe_ci.paths import TOOLCHAIN, cache
from shoppe_ci.progress import step


def key(tool: str) -> str:
    """Return the cache key of a tool: its version and a digest of all its pins."""
    digest = hashlib.sha256(repr(sorted(pins()["go"][tool].items())).encode())
    for path in sorted((TOOLCHAIN / "go" / tool).iterdir()):
        digest.update(path.name.encode() + path.read_bytes())
    return f"{pins()['go'][tool]['version']}-{platform.machine()}-{digest.hexdigest()[:10]}"


def folder(tool: str) -> Path:
    """Return the folder with a tool's finished programs, building them if need be.

    Raises `ShoppeError` where Go is missing or the build fails.
    """
    target = cache("tools", tool, key(tool))
    if target.exists():
        return target
    pin = pins()["go"][tool]
    if shutil.which("go") is None:
        raise ShoppeError(f"building {tool} needs Go", "install Go 1.26: https://go.dev/dl")
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    flags = " ".join(["-s", "-w", *pin.get("ldflags", [])])
    with step(f"building {tool} {pin['version']} from source") as note:
        shell.run(
            [
                "go",
                "build",
                "-trimpath",
                f"-ldflags={flags}",
                "-o",
                f"{partial}/",
                *pin["packages"],
            ],
            cwd=TOOLCHAIN / "go" / tool,
            env={"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false"},
            note=note,
            what=f"building {tool}",
            remedy="check the network to the Go module proxy, then run the command again",
        )
    for built, wanted in pin.get("rename", {}).items():
        (partial / built).rename(partial / wanted)
    for old in target.parent.glob("*"):
        if old != partial:
            shutil.rmtree(old)
    partial.rename(target)
    return target


def program(name: str) -> Path:
    """Return kind, kubectl or helm: built from source and cached."""
    return folder({"kubectl": "kubernetes"}.get(name, name)) / name


def search_path() -> str:
    """Return a PATH that begins with kind, kubectl and helm."""
    tools = [folder(name) for name in ("kind", "kubernetes", "helm")]
    return os.pathsep.join([*map(str, tools), os.environ.get("PATH", "")])


def disk_use() -> dict[str, float]:
    """Return the size of each folder of the cache in GiB."""
    root = cache("x").parent
    sizes = {}
    for entry in sorted(root.iterdir()) if root.exists() else []:
        files = [entry] if entry.is_file() else entry.rglob("*")
        total = sum(path.lstat().st_size for path in files if path.is_file())
        sizes[entry.name] = total / 2**30
    return sizes
