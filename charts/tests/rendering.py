"""Charts rendered as their users would, and what stands in the result."""

import base64
import json
import os
import subprocess
import tempfile
import zlib
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml
from lib import api_schemas
from shoppe_ci import catalogue, paths, toolchain

CHARTS = Path(__file__).parents[1]
UNUSED_S = 3 * 24 * 3600
"""Time after which the renderings of a chart that no run has used are removed."""
RELEASE, NAMESPACE = "shoppe", "facility"

Manifest = dict[str, Any]

ALONE: dict[str, Manifest] = catalogue.alone()
"""What a component needs to be installed alone."""
WITH_ALL_CONTAINERS: dict[str, Manifest] = {
    **ALONE,
    "mlflow": {"auth": {"api": "http://api"}},
    "jupyterhub": {
        "scheduling": {"userScheduler": {"enabled": True}},
        "prePuller": {"hook": {"enabled": True}, "resources": {"limits": {"memory": "64Mi"}}},
        "proxy": {
            "https": {
                "enabled": True,
                "hosts": ["hub.example.org"],
                "letsencrypt": {"contactEmail": "admin@example.org"},
            }
        },
    },
}
"""The same, with what is optional: MLflow has an exporter only with a login."""


class HelmError(Exception):
    """Helm refused the values; the text is what the operator sees."""


def template(
    chart: str, values: Manifest | None = None, *, release: str = RELEASE, again: bool = False
) -> list[Manifest]:
    """Render a chart and return its objects, which are the caller's own.

    Helm renders the same files with the same values once, and runs share the outcome; with
    `again` it does so once more, and draws other secrets.  An object that the API would
    refuse fails the test, whatever else it looks at.
    """
    text = json.dumps(values or {})
    if again:
        return _outcome(_rendered(chart, text, release))
    key = sha256(json.dumps((text, release)).encode()).hexdigest()
    file = _folder(fingerprint(CHARTS / chart)) / key
    if not file.exists():
        rendered = _rendered(chart, text, release)
        # Another process reads a whole file or none.
        with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as part:
            part.write(zlib.compress(rendered.encode(), level=1))
        Path(part.name).replace(file)
    return _outcome(zlib.decompress(file.read_bytes()).decode())


def fingerprint(chart: Path) -> str:
    """Return a text that changes with any file of a chart and of its subcharts.

    A copy of the chart has the same text.
    """
    files = []
    for folder, folders, names in os.walk(chart, followlinks=True):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(folder, name)  # noqa: PTH118 (hundreds of files for each rendering)
            status = os.stat(path)  # noqa: PTH116
            times = status.st_mtime_ns, status.st_ctime_ns
            files.append((path, status.st_ino, status.st_size, *times))
    return _digest(chart, tuple(files))


# The files are read again only if their status has changed.
@cache
def _digest(chart: Path, files: tuple[tuple[str | int, ...], ...]) -> str:
    total = sha256()
    for path, *_ in files:
        file = Path(str(path))
        content = sha256(file.read_bytes()).hexdigest()
        total.update(json.dumps((str(file.relative_to(chart)), content)).encode())
    return total.hexdigest()


@cache
def _tools() -> str:
    """Return a text that changes with all that renders charts and checks objects."""
    code = [Path(module).read_text() for module in (__file__, api_schemas.__file__)]
    packages = ("jsonschema", "kubernetes-validate", "PyYAML")
    versions = [*map(metadata.version, packages), *api_schemas.VERSIONS]
    return json.dumps((str(toolchain.program("helm")), code, versions))


@cache
def _folder(chart: str) -> Path:
    """Return the folder with renderings of a chart's present files; remove unused ones."""
    name = sha256(json.dumps((chart, _tools())).encode()).hexdigest()
    folder = paths.cache("renderings", name)
    folder.mkdir(exist_ok=True)
    os.utime(folder)
    paths.forget_unused(folder.parent, UNUSED_S)
    return folder


def _rendered(chart: str, values: str, release: str) -> str:
    """Return, as JSON, the objects of a chart, which are checked, or why Helm refuses."""
    done = _helm(chart, values, release)
    if done.returncode:
        remarks = "found symbolic link"
        lines = (line for line in done.stderr.splitlines() if remarks not in line)
        return json.dumps({"refusal": "\n".join(lines)})
    manifests = [document for document in yaml.load_all(done.stdout, yaml.CSafeLoader) if document]
    check(manifests)
    return json.dumps({"manifests": manifests})


def _outcome(rendered: str) -> list[Manifest]:
    outcome = json.loads(rendered)
    if "refusal" in outcome:
        raise HelmError(outcome["refusal"])
    manifests: list[Manifest] = outcome["manifests"]
    return manifests


def check(manifests: list[Manifest]) -> None:
    """Fail where the API would refuse an object; custom kinds are defined here or are foreign."""
    definitions = [m for m in manifests if m["kind"] == "CustomResourceDefinition"]
    api_schemas.check([*manifests, *templates(manifests)], [*definitions, *_foreign_kinds()])


@cache
def _foreign_kinds() -> list[Manifest]:
    text = Path(__file__).with_name("foreign_kinds.yaml").read_text()
    return list(yaml.load_all(text, yaml.CSafeLoader))


def templates(manifests: list[Manifest]) -> Iterator[Manifest]:
    """Yield the objects in ConfigMaps, which a component makes later."""
    for manifest in manifests:
        if manifest["kind"] == "ConfigMap":
            for file, text in manifest["data"].items():
                if file.endswith(".yaml") and "\nkind: " in text:
                    content = yaml.load(text, yaml.CSafeLoader)
                    if "metadata" in content:  # others are a program's configuration
                        yield content


def _helm(chart: str, values: str, release: str) -> subprocess.CompletedProcess[str]:
    command = [str(toolchain.program("helm")), "template", release, str(CHARTS / chart)]
    return subprocess.run(
        [*command, "--namespace", NAMESPACE, "--values", "-"],
        input=values,
        capture_output=True,
        text=True,
        check=False,
        # Collecting garbage takes so short a process longer than all its work.
        env=dict(os.environ, HELM_NO_PLUGINS="1", GOGC="off"),
    )


def pod_specs(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest, Manifest]]:
    """Yield (name, pod template, pod spec) of every workload."""
    for manifest in manifests:
        spec = manifest.get("spec", {})
        if manifest["kind"] == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        if manifest["kind"] in ("Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"):
            pod = spec["template"]
            yield manifest["metadata"]["name"], pod, pod["spec"]
        elif manifest["kind"] == "Pod":
            yield manifest["metadata"]["name"], manifest, spec


def files(manifest: Manifest) -> dict[str, str]:
    """Return the files in a ConfigMap or a Secret, as text."""
    entries: dict[str, str] = manifest.get("data") or {}
    if manifest["kind"] != "Secret":
        return entries
    return {name: base64.b64decode(text).decode(errors="replace") for name, text in entries.items()}


def generated_secrets(manifests: list[Manifest]) -> dict[str, Manifest]:
    """Return the Secrets that a release's job creates: NAME: KEY: rule."""
    return {
        secret["name"]: secret["keys"]
        for manifest in manifests
        if manifest["kind"] == "Secret" and "secrets.json" in manifest["data"]
        for secret in json.loads(files(manifest)["secrets.json"])
    }


def settings_of(manifests: list[Manifest], component: str) -> Manifest:
    """Return what is in settings.yaml of the hub or the gateway, which is in a Secret."""
    (text,) = (
        files(m)["settings.yaml"]
        for m in manifests
        if m["kind"] == "Secret"
        and m["metadata"]["labels"]["app.kubernetes.io/component"] == component
        and "settings.yaml" in m["data"]
    )
    settings: Manifest = yaml.load(text, yaml.CSafeLoader)
    return settings


def containers(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Yield (workload/container, container) of every container, init ones too."""
    for name, _, spec in pod_specs(manifests):
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            yield f"{name}/{container['name']}", container


def nested(path: str, value: Any) -> Any:
    """Return values at a dotted path; the value itself for ""."""
    for key in reversed(path.split(".") if path else []):
        value = {key: value}
    return value


def merged(base: Manifest, over: Manifest) -> Manifest:
    """Return values with others over them."""
    both = {
        key: merged(base[key], value)
        if isinstance(value, dict) and isinstance(base.get(key), dict)
        else value
        for key, value in over.items()
    }
    return {**base, **both}
