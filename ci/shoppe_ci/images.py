"""The facility's images: declared in images.yaml, tagged by content, built when changed."""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache as memoised
from pathlib import Path
from typing import Any

import requests
import yaml
from packageurl import PackageURL

from shoppe_ci import image_packages, machine, nodeimage, shell, toolchain
from shoppe_ci.engine import Engine, pins
from shoppe_ci.errors import ShoppeError
from shoppe_ci.paths import CHARTS, IMAGES, ROOT, TOOLCHAIN, cache
from shoppe_ci.progress import say, step

# The files of a package of the workspace; its tests are not installed.
PACKAGE_FILES = (
    *("pyproject.toml", "**/*.py", "**/py.typed"),
    *("**/*.csv", "**/*.html", "**/*.ipynb", "**/*.json"),
)
IGNORED = ("__pycache__", "tests", ".pytest_cache", ".mypy_cache", "node_modules")
EARLIER_TAGS = 2
"""Earlier contents of each image that stay in the engine."""


@dataclass(frozen=True)
class Image:
    """One entry of `images.yaml`."""

    name: str
    context: str
    target: str
    base: str = ""
    build: str = ""
    program: str = ""
    requirements: str = ""
    packages: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    published: bool = True
    needs: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        needed = tuple(name for name in (self.base, self.build) if name)
        object.__setattr__(self, "needs", needed)


@memoised
def _declaration() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((IMAGES / "images.yaml").read_text())
    return content


def registry_name() -> str:
    """Return the registry and path of published images: `ghcr.io/coffea-shoppe`."""
    return str(_declaration()["registry"])


@memoised
def declared() -> dict[str, Image]:
    """Return all images by name, in the order in which they can be built.

    Raises `ShoppeError` if an entry has an unknown key.
    """
    known = set(Image.__dataclass_fields__) - {"name", "needs"}
    declared_images = {}
    for name, entry in _declaration()["images"].items():
        if unknown := set(entry) - known:
            raise ShoppeError(
                f"images.yaml: {name} has unknown keys: {', '.join(sorted(unknown))}",
                f"the keys are {', '.join(sorted(known))}",
            )
        lists = {key: tuple(entry[key]) for key in ("packages", "values") if key in entry}
        declared_images[name] = Image(name=name, **{**entry, **lists})
    return declared_images


@memoised
def requirements(package: str) -> str:
    """Return the locked dependencies of a package (`name[extra]`), one a line with hashes."""
    match = re.fullmatch(r"([\w-]+)(?:\[([\w-]+)\])?", package)
    if match is None:
        raise ShoppeError(f"images.yaml: requirements {package!r} is not NAME or NAME[EXTRA]")
    extra = ["--extra", match[2]] if match[2] else []
    uv = os.environ.get("SHOPPE_UV", "uv")
    return shell.run(
        [uv, "export", "--quiet", "--frozen", "--no-dev", "--no-header", "--no-annotate"]
        + ["--no-emit-workspace", "--package", match[1], *extra],
        cwd=ROOT,
        what=f"exporting the locked requirements of {package}",
    )


def _files(folder: Path, patterns: tuple[str, ...] = ("**/*",)) -> list[Path]:
    """Return the relevant files, sorted, without caches and tests."""
    paths = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    return sorted(path for path in paths if not set(IGNORED) & set(path.relative_to(folder).parts))


def _context_files(image: Image) -> dict[str, Path]:
    """Return the files of the build context: path in the context → file here."""
    folder = IMAGES / image.context
    packages = {ROOT / package for package in image.packages}
    context = {}
    for path in _files(folder):
        if not any(_belongs_to(package, path, folder) for package in packages):
            context[str(path.relative_to(folder))] = path
    for package in sorted(packages):
        for path in _files(package, PACKAGE_FILES):
            context[f"packages/{package.name}/{path.relative_to(package)}"] = path
    return context


def _belongs_to(package: Path, path: Path, context: Path) -> bool:
    """Return whether a file of a context belongs to one package, and comes with it."""
    if package == context:
        return path.suffix == ".py" or path.name == "pyproject.toml"
    return path.is_relative_to(package)


@memoised
def tag(name: str) -> str:
    """Return an image's content hash: of its files, its locked requirements, and its bases.

    The packages in Debian's archive at that time are not part of it.
    """
    image = declared()[name]
    digest = hashlib.sha256(f"{image.target}\n".encode())
    for needed in image.needs:
        digest.update(f"{needed}:{tag(needed)}\n".encode())
    if image.requirements:
        digest.update(requirements(image.requirements).encode())
    if image.program:
        digest.update(toolchain.key(image.program).encode())
    for relative, path in sorted(_context_files(image).items()):
        mode = "x" if os.access(path, os.X_OK) else "-"
        digest.update(f"{relative} {mode}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def reference(name: str) -> str:
    """Return an image's full name, as a pod names it."""
    return f"{registry_name()}/{name}:{tag(name)}"


def build(engine: Engine, name: str, source: str) -> str:
    """Return an image's full name, built first if its content changed."""
    image = declared()[name]
    full = reference(name)
    if engine.has_image(full):
        return full
    arguments = []
    for key, needed in (("BASE", image.base), ("BUILD", image.build)):
        if needed:
            arguments += ["--build-arg", f"{key}={build(engine, needed, source)}"]
    if not image.needs:
        arguments += ["--build-arg", f"ROOT={_root(engine, source)}"]
    if image.program:
        arguments += ["--build-arg", f"PROGRAM={_program(engine, image.program, source)}"]
    secret = []
    if bundle := machine.ca_bundle():
        secret = ["--secret", f"id=ca,src={bundle.resolve()}"]
    with tempfile.TemporaryDirectory(dir=cache("build", "x").parent) as text:
        context = Path(text)
        for relative, path in _context_files(image).items():
            (context / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, context / relative)
        if image.requirements:
            (context / "requirements.txt").write_text(requirements(image.requirements))
        with step(f"building image {name}", tag(name)) as note:
            engine.build(
                *["--target", image.target, *arguments, *secret, "-t", full, text],
                note=note,
                what=f"building image {name}",
                remedy="check the network to the package registries, then run the command again",
            )
    _forget_old(engine, name)
    return full


def _forget_old(engine: Engine, name: str) -> None:
    """Remove the tags of earlier contents of an image, but for the newest.

    Another checkout may build on those at the same time.
    """
    repository = f"{registry_name()}/{name}"
    newest_first = engine.run("images", "--format", "{{.Repository}}:{{.Tag}}", repository).split()
    for old in [tag for tag in newest_first if tag != reference(name)][EARLIER_TAGS:]:
        engine.succeeds("rmi", old)


def _root(engine: Engine, source: str) -> str:
    """Return the operating system's image that the base starts from."""
    if source == "source":
        return nodeimage.root_file_system(engine)
    return f"docker.io/library/debian:{pins()['debian']['suite']}-slim"


def _program(engine: Engine, tool: str, source: str) -> str:
    """Return an image with a pinned program in /usr/local/bin."""
    if source == "registry":
        return f"{pins()['program-images'][tool]}:{toolchain.version(tool)}"
    name = f"{nodeimage.LOCAL}/{tool}:{toolchain.key(tool)}"
    if not engine.has_image(name):
        nodeimage.static_image(engine, name, toolchain.folder(tool) / tool)
    return name


def registry_image(engine: Engine) -> str:
    """Return the name of the local registry's image, built from our base."""
    base = next((full for full in (reference("base"),) if engine.has_image(full)), None) or build(
        engine, "base", machine.choose_source("auto")
    )
    name = f"{nodeimage.LOCAL}/registry:{tag('base')}"
    if not engine.has_image(name):
        with step("building the registry's image") as note:
            folder = str(TOOLCHAIN / "registry")
            engine.build("--build-arg", f"BASE={base}", "-t", name, folder, note=note)
    return name


def manifest(name: str, port: int) -> bytes | None:
    """Return an image's manifest in the local registry; None if the registry lacks it."""
    repository, _, version = reference(name).partition("/")[2].partition(":")
    url = f"http://127.0.0.1:{port}/v2/{repository}/manifests/{version}"
    kinds = "application/vnd.docker.distribution.manifest.v2+json"
    response = requests.get(url, headers={"Accept": kinds}, timeout=20)
    return response.content if response.ok else None


def push(engine: Engine, name: str, port: int) -> None:
    """Push an image to the local registry, unless it is there."""
    if manifest(name, port) is not None:
        return
    with step(f"pushing image {name}") as note:
        push_reference(engine, reference(name), port, note=note)


def push_reference(
    engine: Engine, full: str, port: int, *, note: Callable[[str], None] | None = None
) -> None:
    """Push an image of the engine, under its name, to the local registry."""
    local = f"127.0.0.1:{port}/{full.partition('/')[2]}"
    engine.run("tag", full, local)
    plain = ["--tls-verify=false"] if engine.name == "podman" else []
    engine.run("push", *plain, local, note=note)
    engine.run("rmi", local)


def values() -> dict[str, dict[str, Any]]:
    """Return, for each chart, the values that name its images by their present hashes."""
    by_chart: dict[str, dict[str, Any]] = {}
    for name, image in declared().items():
        for reference in image.values:
            chart, _, key = reference.partition(":")
            level = by_chart.setdefault(chart, {})
            for part in key.split("."):
                level = level.setdefault(part, {})
            level.update({"name": f"{registry_name()}/{name}", "tag": tag(name)})
    return by_chart


def _lookup(content: dict[str, Any], key: str) -> dict[str, Any]:
    for part in key.split("."):
        content = content[part]
    return content


def stale_pins() -> list[str]:
    """Return the charts' values whose image tag is not the present hash."""
    stale = []
    for name, image in declared().items():
        for reference in image.values:
            chart, _, key = reference.partition(":")
            content = yaml.safe_load((CHARTS / chart / "values.yaml").read_text())
            entry = _lookup(content, key)
            if entry != {**entry, "name": f"{registry_name()}/{name}", "tag": tag(name)}:
                stale.append(f"{chart}/values.yaml: {key}.tag is {entry['tag']}, not {tag(name)}")
    return stale


def pin() -> None:
    """Write the present hashes into the charts' values files."""
    for name, image in declared().items():
        for reference in image.values:
            path = CHARTS / reference.partition(":")[0] / "values.yaml"
            text = path.read_text()
            pinned = with_tag(text, f"{registry_name()}/{name}", tag(name))
            if pinned != text:
                path.write_text(pinned)
                say(f"  {reference}.tag: {tag(name)}")


def with_tag(values: str, image: str, content_hash: str) -> str:
    """Return the text of a values file with another tag of an image.

    The key `tag` follows `name`, with comments in between.  Raises `ShoppeError` where it
    does not, instead of leaving an old tag.
    """
    pattern = rf"(name: {re.escape(image)}\n(?:[ ]*#.*\n)*[ ]+tag: )\S+"
    pinned, count = re.subn(pattern, rf'\g<1>"{content_hash}"', values)
    if not count:
        raise ShoppeError(f"no key `tag` follows `name: {image}`", "write it below the name")
    return pinned


def sbom(engine: Engine, name: str, folder: Path) -> Path:
    """Write the packages in an image as CycloneDX JSON.

    They are those of Debian, Python and Node, and the modules of Go programs.
    """
    program = Path(image_packages.__file__).read_bytes()
    options = ["run", "--rm", "--network", "none", "--entrypoint", "python3", "-i"]
    listed = json.loads(engine.run(*options, reference(name), "-I", "-", stdin=program))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.cdx.json"
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": name, "version": tag(name)}},
        "components": [component(*package) for package in listed],
    }
    path.write_text(json.dumps(document, indent=1))
    return path


def component(kind: str, namespace: str, name: str, version: str) -> dict[str, str]:
    """Return a package as a component of CycloneDX, with its package URL."""
    url = PackageURL(kind, namespace or None, name, version).to_string()
    full = f"{namespace}/{name}" if namespace and kind != "deb" else name
    return {"type": "library", "bom-ref": url, "name": full, "version": version, "purl": url}
