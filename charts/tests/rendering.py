"""Charts rendered as their users would, and what stands in the result."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from shoppe_ci import toolchain

CHARTS = Path(__file__).parents[1]
RELEASE, NAMESPACE = "shoppe", "facility"

Manifest = dict[str, Any]

# What a component needs to be installed alone.
ALONE: dict[str, Manifest] = {
    "jupyterhub": {},
    "dask-gateway": {"gateway": {"auth": {"type": "simple"}}},
    "xcache": {},
    "objectstore": {},
    "postgresql": {"databases": ["mlflow"]},
    "mlflow": {"auth": {"enabled": False}},
    "triton": {"front": {"api": "http://api"}},
    "operator": {},
    "servicex": {
        "app": {"tokens": {"api": "http://api"}},
        "postgres": {"existingDatabaseSecret": "database"},
    },
}


def without_pages(*services: str) -> Manifest:
    """Return the facility's values that take services' pages out of it."""
    none = dict.fromkeys(services)
    return {
        "jupyterhub": {"hub": {"services": none}},
        "dask-gateway": {"traefik": {"pages": none}},
    }


class HelmError(Exception):
    """Helm refused the values; the text is what the operator sees."""


def template(chart: str, values: Manifest | None = None) -> list[Manifest]:
    """Render a chart and return its objects."""
    command = [str(toolchain.program("helm")), "template", RELEASE, str(CHARTS / chart)]
    done = subprocess.run(
        [*command, "--namespace", NAMESPACE, "--values", "-"],
        input=json.dumps(values or {}),
        capture_output=True,
        text=True,
        check=False,
        env=dict(os.environ, HELM_NO_PLUGINS="1"),
    )
    if done.returncode:
        raise HelmError(done.stderr)
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def load_file(chart: str, name: str) -> Any:
    """Return a Python file that a chart mounts, as a module."""
    spec = importlib.util.spec_from_file_location(name, CHARTS / chart / "files" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def pod_specs(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest, Manifest]]:
    """Yield (name, pod template, pod spec) of every workload."""
    for manifest in manifests:
        if manifest["kind"] in ("Deployment", "StatefulSet", "DaemonSet", "Job"):
            pod = manifest["spec"]["template"]
            yield manifest["metadata"]["name"], pod, pod["spec"]


def containers(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Yield (workload/container, container) of every container, init ones too."""
    for name, _, spec in pod_specs(manifests):
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            yield f"{name}/{container['name']}", container
