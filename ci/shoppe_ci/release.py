"""Installs and upgrades the Helm release, for users and tests."""

import asyncio
import base64
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyhelm3
import yaml

from shoppe_ci import images, shell, toolchain, unreachable
from shoppe_ci.cluster import Cluster
from shoppe_ci.errors import ShoppeError
from shoppe_ci.kubectl import Kubectl
from shoppe_ci.paths import CHARTS, ROOT
from shoppe_ci.progress import step
from shoppe_ci.wait import eventually

UMBRELLA = CHARTS / "coffea-shoppe"
RELEASE = "shoppe"
NAMESPACE = "shoppe"
READY_TIMEOUT_S = 600
HELM_TIMEOUT_S = 120
GENERATE_SECRETS = ROOT / "images" / "base" / "generate_secrets.py"
RULES_FILE = "secrets.json"
"""The key of the Secret from which the job reads what to generate."""

Values = dict[str, Any]


def client(cluster: Cluster) -> pyhelm3.Client:
    """Return a Helm client for one cluster."""
    return pyhelm3.Client(kubeconfig=cluster.kubeconfig, executable=str(toolchain.program("helm")))


def demo_values() -> Values:
    """Return what a kind cluster on one machine needs beyond the defaults."""
    (values,) = read_values([UMBRELLA / "examples" / "laptop.yaml"])
    return values


def render(
    *values: Values, chart: Path = UMBRELLA, release: str = RELEASE, namespace: str = NAMESPACE
) -> str:
    """Render a chart without a cluster, and return its objects as YAML.

    Raises `ShoppeError` with Helm's reason where it refuses the values.
    """
    arguments: list[str] = ["--namespace", namespace]
    with tempfile.TemporaryDirectory() as folder:
        for count, content in enumerate(values):
            path = Path(folder) / f"{count}.yaml"
            path.write_text(yaml.safe_dump(content))
            arguments += ["--values", str(path)]
        done = subprocess.run(
            [str(toolchain.program("helm")), "template", release, str(chart), *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise ShoppeError(
            f"helm: {_reason(done.stderr)}", "docs/reference/values.md lists all keys"
        )
    return done.stdout


def new_secrets(*values: Values, release: str = RELEASE, namespace: str = NAMESPACE) -> str:
    """Return new Secrets that a release would generate, as a List of Kubernetes in JSON.

    Raises `ShoppeError` where these values generate none.
    """
    for manifest in yaml.load_all(
        render(*values, release=release, namespace=namespace), yaml.CSafeLoader
    ):
        rules = ((manifest or {}).get("data") or {}).get(RULES_FILE)
        if manifest and manifest["kind"] == "Secret" and rules:
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / RULES_FILE
                file.write_bytes(base64.b64decode(rules))
                return shell.run([sys.executable, GENERATE_SECRETS, "--print", file])
    raise ShoppeError(
        "with these values the charts generate no Secret",
        "the values name all of them: docs/reference/secrets.md lists their keys",
    )


def package(folder: Path) -> Path:
    """Package the umbrella chart into a folder."""
    if stale := images.stale_pins():
        raise ShoppeError("\n".join(stale), "`ci/shoppe check --fix` writes the present tags")
    return package_chart(UMBRELLA, folder)


def package_chart(chart: Path, folder: Path) -> Path:
    """Package a chart, whatever images it names, into a folder."""
    printed = shell.run(
        [toolchain.program("helm"), "package", chart, "--destination", folder],
        what="packaging the chart",
    )
    return folder / Path(printed.strip().rpartition(" ")[2]).name


def read_values(files: Iterable[Path]) -> list[Values]:
    """Return the content of values files; raises `ShoppeError` for one that is not a mapping."""
    contents = []
    for path in files:
        try:
            content = yaml.safe_load(path.read_text()) or {}
        except yaml.YAMLError as error:
            raise ShoppeError(f"{path} is not YAML: {error}") from error
        if not isinstance(content, dict):
            raise ShoppeError(f"{path} contains no values", "write KEY: VALUE lines")
        contents.append(content)
    return contents


def ensure_namespace(cluster: Kubectl, name: str) -> None:
    """Create a namespace that enforces the restricted Pod Security level."""
    manifest = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": name,
            "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
        },
    }
    cluster.apply(manifest)


def install(
    cluster: Cluster,
    chart: Path = UMBRELLA,
    *values: Values,
    name: str = RELEASE,
    namespace: str = NAMESPACE,
    pin_images: bool = True,
    wait: bool = True,
) -> None:
    """Install or upgrade a release and wait until its pods are ready.

    Images are those of the working tree, whatever the charts pin, unless
    `pin_images` is false.  Raises `ShoppeError` with Helm's reason, or with the
    pods that did not become ready.
    """
    ensure_namespace(cluster, namespace)
    pins: Values = {}
    if pin_images:
        every = images.values()
        own = every.pop(UMBRELLA.name)
        pins = every | own if chart == UMBRELLA else every.get(chart.name, {})

    async def helm() -> None:
        helm_client = client(cluster)
        await helm_client.install_or_upgrade_release(
            name,
            await helm_client.get_chart(str(chart)),
            pins,
            *values,
            namespace=namespace,
            create_namespace=False,
            timeout=f"{HELM_TIMEOUT_S}s",
        )

    def upgrade() -> None:
        try:
            asyncio.run(helm())
        except pyhelm3.Error as error:
            text = getattr(error, "stderr", b"") or str(error)
            text = text.decode(errors="replace") if isinstance(text, bytes) else str(text)
            raise ShoppeError(f"helm: {_reason(text)}") from error

    with step(f"helm upgrade --install {name} {chart.name}") as note:
        clear_interrupted(cluster, name=name, namespace=namespace, note=note)
        unreachable.repeated(upgrade)
        if wait:
            wait_ready(cluster, name=name, note=note)


def _reason(text: str) -> str:
    """Return Helm's message without its remarks about links between charts."""
    lines = [line for line in text.strip().splitlines() if "found symbolic link" not in line]
    return "\n".join(lines).removeprefix("Error: ")


def clear_interrupted(
    cluster: Cluster, *, name: str, namespace: str, note: Callable[[str], None] | None = None
) -> None:
    """Remove a revision that a killed Helm left unfinished.

    Helm refuses any further operation while one seems to be in progress.  Ours end
    within `HELM_TIMEOUT_S`; what is older has been left behind, and its objects are
    taken over by the next revision.
    """
    pending = "pending-install,pending-upgrade,pending-rollback"
    selector = f"owner=helm,name={name},status in ({pending})"

    def none_in_progress() -> bool:
        releases = cluster.get("secrets", "-n", namespace, "-l", selector)["items"]
        for secret in releases:
            made = datetime.fromisoformat(secret["metadata"]["creationTimestamp"])
            if (datetime.now(tz=UTC) - made).total_seconds() > HELM_TIMEOUT_S:
                cluster.kubectl("-n", namespace, "delete", "secret", secret["metadata"]["name"])
        return not releases

    what = f"no other Helm operation on {name} is in progress"
    eventually(none_in_progress, what, timeout=HELM_TIMEOUT_S + 30, every=2, note=note)


def uninstall(cluster: Cluster, *, name: str = RELEASE, namespace: str = NAMESPACE) -> None:
    """Remove a release; secrets and volumes that are marked to be kept stay."""

    async def helm() -> None:
        await client(cluster).uninstall_release(name, namespace=namespace, wait=True)

    with step(f"helm uninstall {name}"):
        asyncio.run(helm())


def workloads(cluster: Kubectl, name: str) -> list[dict[str, Any]]:
    """Return all Deployments and StatefulSets of a release, in every namespace."""
    selector = f"app.kubernetes.io/instance={name}"
    listing = cluster.get("deployments,statefulsets", "-A", "-l", selector)
    items: list[dict[str, Any]] = listing["items"]
    return items


def _unready(cluster: Kubectl, name: str) -> list[str]:
    waiting = []
    for item in workloads(cluster, name):
        status, spec, meta = item.get("status", {}), item["spec"], item["metadata"]
        current = status.get("observedGeneration", 0) >= meta["generation"]
        updated = status.get("updatedReplicas", 0) == spec["replicas"]
        # A StatefulSet at its revision reports no updated replicas in old versions.
        if item["kind"] == "StatefulSet":
            updated = status.get("currentRevision") == status.get("updateRevision")
        ready = status.get("readyReplicas", 0) == spec["replicas"] == status.get("replicas", 0)
        if not (current and updated and ready):
            waiting.append(meta["name"])
    return waiting


def wait_ready(
    cluster: Kubectl, *, name: str = RELEASE, timeout: float = READY_TIMEOUT_S, note: Any = None
) -> None:
    """Wait until every workload of a release is ready and up to date.

    Raises `ShoppeError` with the state of the pods that are not.
    """

    def probe() -> bool:
        waiting = _unready(cluster, name)
        if note:
            note(f"waiting for {', '.join(waiting)}")
        return not waiting

    try:
        eventually(probe, f"the release {name} is ready", timeout=timeout, every=1)
    except ShoppeError as error:
        pods = cluster.kubectl("get", "pods", "-A", "-l", f"app.kubernetes.io/instance={name}")
        raise ShoppeError(f"{error.problem}\n{pods}", "ci/shoppe logs shows why") from error
