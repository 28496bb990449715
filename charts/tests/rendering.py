"""Charts rendered as their users would, and what stands in the result."""

import atexit
import base64
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml
from lib import api_schemas
from shoppe_ci import catalogue, suite, toolchain

CHARTS = Path(__file__).parents[1]
RELEASE, NAMESPACE = "shoppe", "facility"

Manifest = dict[str, Any]

ALONE: dict[str, Manifest] = catalogue.alone()
"""What a component needs to be installed alone."""
WITH_ALL_CONTAINERS: dict[str, Manifest] = {**ALONE, "mlflow": {"auth": {"api": "http://api"}}}
"""The same, with containers that are optional: MLflow has an exporter only with a login."""


class HelmError(Exception):
    """Helm refused the values; the text is what the operator sees."""


def template(
    chart: str, values: Manifest | None = None, *, release: str = RELEASE, again: bool = False
) -> list[Manifest]:
    """Render a chart and return its objects, which are the caller's own.

    Helm renders the same chart with the same values once in a run; with `again` it does so
    once more, and draws other secrets.  An object that the API would refuse fails the test,
    whatever else it looks at.
    """
    text = json.dumps(values or {})
    if again:
        return _outcome(_rendered(chart, text, release))
    names = (fingerprint(CHARTS / chart), str(toolchain.program("helm")), chart, text, release)
    key = sha256(json.dumps(names).encode()).hexdigest()
    file = _shared_folder() / f"{key}.json"
    if not file.exists():
        rendered = _rendered(chart, text, release)
        # Another process reads a whole file or none.
        with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False) as part:
            part.write(rendered)
        Path(part.name).replace(file)
    return _outcome(file.read_text())


def fingerprint(chart: Path) -> str:
    """Return a text that changes with any file of a chart and of its subcharts."""
    total = sha256()
    for folder, folders, names in os.walk(chart, followlinks=True):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(folder, name)  # noqa: PTH118 (hundreds of files for each rendering)
            status = os.stat(path)  # noqa: PTH116
            about = (path, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            total.update(repr(about).encode())
    return total.hexdigest()


@cache
def _shared_folder() -> Path:
    """Return the folder of renderings: one for all processes of a run, and removed with it."""
    run = os.environ.get(suite.FOLDER)
    if run:
        folder = Path(run) / "renderings"
        folder.mkdir(exist_ok=True)
        return folder
    temporary = tempfile.TemporaryDirectory(prefix="shoppe-renderings-")
    atexit.register(temporary.cleanup)
    return Path(temporary.name)


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
    """Fail where the API would refuse an object; the custom kinds are those defined here."""
    definitions = [m for m in manifests if m["kind"] == "CustomResourceDefinition"]
    api_schemas.check([*manifests, *templates(manifests)], definitions)


def templates(manifests: list[Manifest]) -> Iterator[Manifest]:
    """Yield the objects in ConfigMaps, which a component makes later."""
    for manifest in manifests:
        if manifest["kind"] == "ConfigMap":
            for file, text in manifest["data"].items():
                if file.endswith(".yaml") and "\nkind: " in text:
                    yield yaml.load(text, yaml.CSafeLoader)


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
    return {name: base64.b64decode(text).decode() for name, text in entries.items()}


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
        key: merged(base[key], value) if isinstance(value, dict) and key in base else value
        for key, value in over.items()
    }
    return {**base, **both}
