"""Backs up a whole facility with an administrator's kubectl, and restores it where there is none.

A backup is a folder that only its owner reads:

backup.json        release, namespace, versions, time, and the SHA-256 of each other file
values.yaml        the release's values
secrets.json       the Secrets that were generated, or that an administrator made
resources.json     users, served models and the claims of homes
databases/NAME     dumps of PostgreSQL's databases
hub.sqlite         the hub's database
volumes/CLAIM      archives (tar.gz) of the object store and of homes
"""

import json
import re
import shutil
import tarfile
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from coffea_shoppe_contract.resources import API_GROUP, FACILITY_USERS, SERVED_MODELS, USER_LABEL
from packaging.version import Version

from shoppe_ci import release, shell, toolchain
from shoppe_ci.errors import ShoppeError
from shoppe_ci.kubectl import Kubectl
from shoppe_ci.paths import sha256
from shoppe_ci.progress import step
from shoppe_ci.wait import eventually

FILE = "backup.json"
FORMAT = 1
HELM_OWNER = "meta.helm.sh/release-name"
INSTANCE = "app.kubernetes.io/instance"
HOME = "component=singleuser-storage"
"""The label by which KubeSpawner marks the claims of homes."""
HUB_FILE = "/srv/jupyterhub/jupyterhub.sqlite"
COPY_HUB = (
    "import sqlite3, shutil, sys, tempfile\n"
    "with tempfile.NamedTemporaryFile() as file:\n"
    f"    source, copy = sqlite3.connect('{HUB_FILE}'), sqlite3.connect(file.name)\n"
    "    source.backup(copy); copy.close()\n"
    "    shutil.copyfileobj(open(file.name, 'rb'), sys.stdout.buffer)\n"
)
"""A copy of the database that is consistent while the hub writes."""
XATTRS = ("--xattrs", "--xattrs-include=user.*")
"""The object store keeps the metadata of objects in extended attributes."""
# A file that changes while it is read (status 1) is as one that changes a moment later.
PACK = (
    "cd /volume && find . -mindepth 1 -maxdepth 1 ! -name lost+found -print0 | "
    f"tar --create --gzip {' '.join(XATTRS)} --null --files-from=- || [ $? -eq 1 ]"
)
UNPACK = (
    "cd /volume && find . -mindepth 1 ! -name lost+found -delete && "
    f"tar --extract --gzip {' '.join(XATTRS)}"
)
WRITE_HUB = "cat > /volume/jupyterhub.sqlite"
POD_TIMEOUT_S = 600
POD_LIFETIME_S = 24 * 3600
PSQL = ("--host=/run/postgresql", "--username=postgres")
RENAME_OWNER = (
    "UPDATE requests SET owner_uid = :'new' WHERE owner_uid = :'old';",
    "UPDATE datasets SET owner = :'new' WHERE owner = :'old';",
)
UUID = re.compile(r"[0-9a-f-]{36}")
Manifest = dict[str, Any]


@dataclass(frozen=True)
class Facility:
    """A release in a cluster."""

    cluster: Kubectl
    name: str
    namespace: str

    def get(self, *words: str) -> list[Manifest]:
        """Return objects of the release's namespace."""
        items: list[Manifest] = self.cluster.get(*words, "-n", self.namespace)["items"]
        return items

    def helm(self, *words: str, remedy: str = "") -> str:
        """Run helm in the release's namespace, and return its output without its warnings."""
        file = self.cluster.kubeconfig
        kubeconfig = ["--kubeconfig", str(file)] if file else []
        command = [str(toolchain.program("helm")), *words, "--namespace", self.namespace]
        return shell.output([*command, *kubeconfig], remedy=remedy)

    def claims(self) -> set[str]:
        """Return the names of all claims in the release's namespace."""
        return {claim["metadata"]["name"] for claim in self.get("pvc")}

    @property
    def hub(self) -> str:
        """Return the name of the hub's Deployment."""
        return f"{self.name}-hub"

    @property
    def postgresql(self) -> tuple[str, ...]:
        """Return the words by which kubectl executes a command in PostgreSQL's container."""
        pod = f"{self.name}-postgresql-0"
        return ("-n", self.namespace, pod, "-c", "postgresql", "--")


@dataclass
class Backup:
    """What a backup says about itself."""

    name: str
    namespace: str
    chart: str
    """The version of the chart."""
    time: str
    """ISO 8601, UTC."""
    files: dict[str, str] = field(default_factory=dict)
    """Path → SHA-256."""
    left_out: list[str] = field(default_factory=list)
    """What is in no release's hands, and not in the backup."""
    format: int = FORMAT


# --- create


def create(facility: Facility, folder: Path, *, keep: int) -> Path:
    """Write a backup into a new folder below `folder`, and remove all but the newest `keep`.

    Returns its path.  Nothing of the facility stops meanwhile.  The databases are dumped first:
    what they name is in the volumes that are copied afterwards.
    """
    version = _installed(facility)
    if version is None:
        raise ShoppeError(
            f"there is no release {facility.name!r} in the namespace {facility.namespace!r}",
            "name them by --release and --namespace; `helm list --all-namespaces` lists them",
        )
    now = datetime.now(tz=UTC)
    target = folder / f"{facility.name}-{now:%Y%m%dT%H%M%SZ}"
    partial = target.with_suffix(".partial")
    partial.mkdir(parents=True, mode=0o700)
    outcome = Backup(facility.name, facility.namespace, version, now.isoformat(timespec="seconds"))
    (partial / "values.yaml").write_text(
        facility.helm("get", "values", facility.name, "--output", "yaml")
    )
    _write(partial / "secrets.json", [_bare(each) for each in _secrets(facility)])
    homes = facility.get("pvc", "-l", HOME)
    _write(partial / "resources.json", [*_resources(facility), *map(_bare_claim, homes)])
    _dump_databases(facility, partial, outcome)
    (partial / "volumes").mkdir()
    for claim in [*_store(facility, outcome), *(home["metadata"]["name"] for home in homes)]:
        with (
            step(f"copying the volume {claim}"),
            _helper(facility, claim, write=False) as pod,
            (partial / "volumes" / claim).open("wb") as file,
        ):
            facility.cluster.pipe(*pod, "sh", "-c", PACK, target=file)
    outcome.files = {
        str(path.relative_to(partial)): sha256(path)
        for path in sorted(partial.rglob("*"))
        if path.is_file()
    }
    _write(partial / FILE, asdict(outcome))
    check(partial)
    partial.rename(target)
    _forget(folder, facility.name, keep)
    return target


def _store(facility: Facility, outcome: Backup) -> list[str]:
    """Return the object store's claim, if there is one."""
    store = f"{facility.name}-objectstore"
    if store in facility.claims():
        return [store]
    outcome.left_out.append("the object store, which is not of this release")
    return []


def _installed(facility: Facility) -> str | None:
    """Return the version of the release's chart; None if there is no such release."""
    listed = json.loads(facility.helm("list", "--all", "--output", "json"))
    for entry in listed:
        if entry["name"] == facility.name:
            return str(entry["chart"].removeprefix(f"{release.UMBRELLA.name}-"))
    return None


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n")


def _secrets(facility: Facility) -> Iterator[Manifest]:
    """Yield the Secrets that neither Helm nor the operator makes again."""
    for secret in facility.get("secrets"):
        meta = secret["metadata"]
        labels, annotations = meta.get("labels", {}), meta.get("annotations", {})
        own = labels.get(INSTANCE, facility.name) == facility.name
        if (
            own
            and secret["type"] not in ("helm.sh/release.v1", "kubernetes.io/service-account-token")
            and HELM_OWNER not in annotations
            and USER_LABEL not in labels
            and not meta.get("ownerReferences")
        ):
            yield secret


def _bare(manifest: Manifest) -> Manifest:
    """Return an object without what its cluster added."""
    meta = {
        key: manifest["metadata"][key] for key in ("name", "labels") if key in manifest["metadata"]
    }
    rest = {key: value for key, value in manifest.items() if key not in ("metadata", "status")}
    return {**rest, "metadata": meta}


def _bare_claim(claim: Manifest) -> Manifest:
    """Return the claim of a home, for a volume that is still to be made."""
    bare = _bare(claim)
    fields = ("accessModes", "resources", "storageClassName", "volumeMode")
    bare["spec"] = {key: claim["spec"][key] for key in fields if key in claim["spec"]}
    names = claim["metadata"].get("annotations", {})
    bare["metadata"]["annotations"] = {
        key: value for key, value in names.items() if key.startswith("hub.jupyter.org/")
    }
    return bare


def _resources(facility: Facility) -> Iterator[Manifest]:
    """Yield users and served models, with the unique ID that ServiceX knows users by."""
    for kind in (FACILITY_USERS, SERVED_MODELS):
        if not facility.cluster.get("crd", f"{kind}.{API_GROUP}", "--ignore-not-found"):
            continue
        for resource in facility.get(f"{kind}.{API_GROUP}"):
            bare = _bare(resource)
            yield {**bare, "metadata": {**bare["metadata"], "uid": resource["metadata"]["uid"]}}


def _dump_databases(facility: Facility, folder: Path, outcome: Backup) -> None:
    """Dump PostgreSQL's databases and the hub's."""
    pods = {pod["metadata"]["name"] for pod in facility.get("pods")}
    (folder / "databases").mkdir()
    if f"{facility.name}-postgresql-0" in pods:
        query = "SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres'"
        listed = facility.cluster.kubectl(
            "exec", *facility.postgresql, "psql", *PSQL, "-Atc", query
        )
        for name in listed.split():
            with step(f"dumping the database {name}"):
                dump = ("pg_dump", *PSQL, "--format=custom", name)
                with (folder / "databases" / name).open("wb") as file:
                    facility.cluster.pipe(*facility.postgresql, *dump, target=file)
    else:
        outcome.left_out.append("the databases, which are not of this release")
    if f"{facility.hub}-db" in facility.claims():
        with step("copying the hub's database"), (folder / "hub.sqlite").open("wb") as file:
            words = ("-n", facility.namespace, f"deploy/{facility.hub}", "-c", "hub", "--")
            facility.cluster.pipe(*words, "python", "-c", COPY_HUB, target=file)
    else:
        outcome.left_out.append("the hub's database, which is not of this release")


def _forget(folder: Path, name: str, keep: int) -> None:
    """Remove the oldest backups of a release, and what interrupted ones left."""
    for path in folder.glob(f"{name}-*.partial"):
        shutil.rmtree(path)
    backups = sorted(path.parent for path in folder.glob(f"{name}-*/{FILE}"))
    for path in backups[: max(len(backups) - keep, 0)]:
        shutil.rmtree(path)


@contextmanager
def _helper(facility: Facility, claim: str, *, write: bool) -> Iterator[tuple[str, ...]]:
    """Yield the words by which kubectl executes a command in a pod that has a volume.

    It runs as the hub does, on the node where the volume is in use.
    """
    hub = facility.cluster.get("deployment", facility.hub, "-n", facility.namespace)
    spec = hub["spec"]["template"]["spec"]
    (container,) = [each for each in spec["containers"] if each["name"] == "hub"]
    context = dict(spec.get("securityContext", {}))
    if not write:
        # What is read keeps its group.
        context.pop("fsGroup", None)
    name = f"{facility.name}-backup-{uuid.uuid4().hex[:8]}"
    copied = ("tolerations", "nodeSelector", "imagePullSecrets")
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": facility.namespace},
        "spec": {
            **{key: spec[key] for key in copied if key in spec},
            "automountServiceAccountToken": False,
            "activeDeadlineSeconds": POD_LIFETIME_S,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "securityContext": context,
            "containers": [
                {
                    "name": "copy",
                    "image": container["image"],
                    "command": ["sleep", str(POD_LIFETIME_S)],
                    "securityContext": container["securityContext"],
                    "resources": {"requests": {"cpu": "1m", "memory": "32Mi"}},
                    "volumeMounts": [
                        {"name": "volume", "mountPath": "/volume", "readOnly": not write}
                    ],
                }
            ],
            "volumes": [{"name": "volume", "persistentVolumeClaim": {"claimName": claim}}],
        },
    }
    if node := _node_of(facility, claim):
        pod["spec"]["nodeName"] = node  # type: ignore[index]
    facility.cluster.apply(pod)
    where = ("-n", facility.namespace)
    try:
        wait = ("--for=condition=Ready", f"--timeout={POD_TIMEOUT_S}s")
        facility.cluster.kubectl(
            *where, "wait", *wait, f"pod/{name}", what=f"waiting for a pod with the volume {claim}"
        )
        yield (*where, name, "--")
    finally:
        facility.cluster.kubectl(*where, "delete", "pod", name, "--wait=false")


def _node_of(facility: Facility, claim: str) -> str:
    """Return the node of a pod that uses a claim; '' if none does."""
    for pod in facility.get("pods"):
        volumes = pod["spec"].get("volumes", ())
        names = {each.get("persistentVolumeClaim", {}).get("claimName") for each in volumes}
        if claim in names and pod["status"]["phase"] in ("Pending", "Running"):
            return str(pod["spec"].get("nodeName", ""))
    return ""


# --- check


def check(folder: Path) -> Backup:
    """Return a backup that is whole; raises `ShoppeError` with the file that is not."""
    remedy = "use another backup: this one is damaged"
    try:
        content = json.loads((folder / FILE).read_text())
        outcome = Backup(**content)
    except (OSError, ValueError, TypeError) as error:
        raise ShoppeError(
            f"{folder} is no backup: {error}", "`ci/shoppe backup create` writes one"
        ) from error
    if outcome.format != FORMAT:
        raise ShoppeError(f"{folder} has format {outcome.format}, not {FORMAT}")
    for name, expected in outcome.files.items():
        path = folder / name
        if not path.is_file() or sha256(path) != expected:
            raise ShoppeError(f"{path} is missing, or is not what was written", remedy)
    for path in (folder / "volumes").iterdir():
        try:
            with tarfile.open(path) as archive:
                for _ in archive:
                    pass
        except (tarfile.TarError, EOFError, OSError) as error:
            raise ShoppeError(f"{path} is no whole archive: {error}", remedy) from error
    return outcome


# --- restore


def restore(cluster: Kubectl, folder: Path, chart: Path, values: Sequence[Path] = ()) -> Facility:
    """Install a release from a backup into a cluster that does not have it.

    `values` are files with what differs there, such as an address or a storage class.  Raises
    `ShoppeError`, before anything is changed, for a backup that is damaged, a release that is
    there, or a chart that is older than the backup's.
    """
    outcome = check(folder)
    facility = Facility(cluster, outcome.name, outcome.namespace)
    _refuse(facility, outcome, chart)
    with step("creating namespace, Secrets and claims of homes"):
        if not cluster.get("namespace", outcome.namespace, "--ignore-not-found"):
            release.ensure_namespace(cluster, outcome.namespace)
        resources = json.loads((folder / "resources.json").read_text())
        claims = [each for each in resources if each["kind"] == "PersistentVolumeClaim"]
        secrets = json.loads((folder / "secrets.json").read_text())
        _apply(facility, [*secrets, *claims])
    with step(f"helm install {facility.name}") as note:
        files = [f"--values={path}" for path in (folder / "values.yaml", *values)]
        facility.helm(
            "install",
            facility.name,
            str(chart),
            *files,
            "--timeout=20m",
            remedy="run `helm uninstall`, mend the values (--values FILE), and restore again",
        )
        # Others wait for what is not restored yet, such as accounts of the object store.
        eventually(
            lambda: _is_ready(facility, f"{facility.name}-postgresql"),
            "PostgreSQL is ready",
            timeout=release.READY_TIMEOUT_S,
            every=1,
            note=note,
        )
    with _stopped(facility):
        for path in sorted((folder / "databases").iterdir()):
            with step(f"restoring the database {path.name}"), path.open("rb") as file:
                database = (f"--role={path.name}", f"--dbname={path.name}")
                command = ("pg_restore", *PSQL, "--clean", "--if-exists", "--no-owner", *database)
                cluster.pipe(*facility.postgresql, *command, source=file)
        if (folder / "hub.sqlite").exists():
            with step("restoring the hub's database"):
                _fill(facility, f"{facility.hub}-db", folder / "hub.sqlite", WRITE_HUB)
        for path in sorted((folder / "volumes").iterdir()):
            with step(f"restoring the volume {path.name}"):
                _fill(facility, path.name, path, UNPACK)
        with step("restoring users and served models"):
            objects = [each for each in resources if each["kind"] != "PersistentVolumeClaim"]
            _apply(facility, [_bare(each) for each in objects])
            _rename_owners(facility, folder, objects)
    return facility


def _is_ready(facility: Facility, name: str) -> bool:
    """Return whether a workload is ready, or not of this release."""
    return all(
        item.get("status", {}).get("readyReplicas", 0) == item["spec"]["replicas"]
        for item in release.workloads(facility.cluster, facility.name)
        if item["metadata"]["name"] == name
    )


def _refuse(facility: Facility, outcome: Backup, chart: Path) -> None:
    if _installed(facility) is not None:
        raise ShoppeError(
            f"there is a release {facility.name!r} in the namespace {facility.namespace!r}",
            "restore into a cluster without it, or uninstall it first: its data are replaced",
        )
    shown = facility.helm("show", "chart", str(chart))
    version = str(yaml.safe_load(shown)["version"])
    if Version(version) < Version(outcome.chart):
        raise ShoppeError(
            f"the chart has the version {version}, the backup is of {outcome.chart}",
            "restore with that version (--chart), then upgrade",
        )
    if others := sorted(facility.claims() & {Path(name).name for name in outcome.files}):
        raise ShoppeError(
            f"the namespace has volumes of the same names: {', '.join(others[:5])}",
            "delete their claims if nothing of them is needed",
        )


def _apply(facility: Facility, manifests: list[Manifest]) -> None:
    for manifest in manifests:
        manifest["metadata"]["namespace"] = facility.namespace
    if manifests:
        facility.cluster.apply(*manifests)


def _fill(facility: Facility, claim: str, path: Path, command: str) -> None:
    """Give a file as input to a command in a pod with a volume."""
    with _helper(facility, claim, write=True) as pod, path.open("rb") as file:
        facility.cluster.pipe(*pod, "sh", "-c", command, source=file)


@contextmanager
def _stopped(facility: Facility) -> Iterator[None]:
    """Stop every Deployment and StatefulSet of a release but PostgreSQL."""
    replicas = {}
    for item in release.workloads(facility.cluster, facility.name):
        meta = item["metadata"]
        if meta["name"] != f"{facility.name}-postgresql":
            key = meta["namespace"], f"{item['kind'].lower()}/{meta['name']}"
            replicas[key] = item["spec"]["replicas"]
    with step("stopping the services") as note:
        eventually(
            lambda: _scale_down(facility, set(replicas)),
            "the services have stopped",
            timeout=POD_TIMEOUT_S,
            every=2,
            note=note,
        )
    yield
    with step("starting the services") as note:
        for (namespace, name), number in replicas.items():
            facility.cluster.kubectl("-n", namespace, "scale", name, f"--replicas={number}")
        release.wait_ready(facility.cluster, name=facility.name, note=note)


def _scale_down(facility: Facility, stopped: set[tuple[str, str]]) -> bool:
    """Scale workloads to 0, and return whether no pod of them is left.

    ServiceX' controller and the operator scale others, until they have stopped themselves.
    """
    left = False
    for item in release.workloads(facility.cluster, facility.name):
        meta = item["metadata"]
        key = meta["namespace"], f"{item['kind'].lower()}/{meta['name']}"
        if key in stopped:
            left = left or bool(item.get("status", {}).get("replicas", 0))
            if item["spec"]["replicas"]:
                left = True
                facility.cluster.kubectl("-n", key[0], "scale", key[1], "--replicas=0")
    return not left


def _rename_owners(facility: Facility, folder: Path, resources: list[Manifest]) -> None:
    """Give the requests in ServiceX' database to the users' new unique IDs."""
    if not (folder / "databases" / "servicex").exists():
        return
    new = {
        each["metadata"]["name"]: each["metadata"]["uid"] for each in facility.get(FACILITY_USERS)
    }
    lines = []
    for each in resources:
        meta = each["metadata"]
        if each["kind"] == "FacilityUser":
            pair = {"old": meta["uid"], "new": new[meta["name"]]}
            if not all(map(UUID.fullmatch, pair.values())):
                raise ShoppeError(f"{meta['name']}: {pair} are no unique IDs")
            lines += [f"\\set {key} {value}" for key, value in pair.items()]
            lines += RENAME_OWNER
    with tempfile.TemporaryFile() as file:
        file.write("\n".join(lines).encode())
        file.seek(0)
        options = ("--no-psqlrc", "--set=ON_ERROR_STOP=1", "--single-transaction", "--file=-")
        command = ("psql", *PSQL, *options, "--dbname=servicex")
        facility.cluster.pipe(*facility.postgresql, *command, source=file)
