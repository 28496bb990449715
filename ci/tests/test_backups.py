"""A backup has what cannot be made again, is checked, and replaces the oldest ones."""

import json
import os
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest
from shoppe_ci import backups, release
from shoppe_ci.errors import ShoppeError
from shoppe_ci.kubectl import Access
from shoppe_ci.paths import sha256

CHART = release.UMBRELLA


@dataclass(frozen=True)
class Listed(backups.Facility):
    """A facility whose objects are given."""

    objects: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def get(self, *words: str) -> list[dict[str, Any]]:
        return self.objects.get(words[0], [])

    def helm(self, *words: str, remedy: str = "") -> str:
        if words[0] == "show":
            return super().helm(*words, remedy=remedy)
        return json.dumps(self.objects.get(words[0], []))


def listed(**objects: list[dict[str, Any]]) -> Listed:
    return Listed(Access(), "shoppe", "hep", objects)


def secret(name: str, kind: str = "Opaque", **metadata: Any) -> dict[str, Any]:
    return {"kind": "Secret", "type": kind, "metadata": {"name": name, **metadata}, "data": {}}


def test_secrets_that_nobody_makes_again_are_kept() -> None:
    instance = {"app.kubernetes.io/instance": "shoppe"}
    secrets = [
        secret("shoppe-hub", labels=instance),
        secret("mine"),
        secret("login", "kubernetes.io/dockerconfigjson"),
        secret("sh.helm.release.v1.shoppe.v1", "helm.sh/release.v1"),
        secret("robot-token", "kubernetes.io/service-account-token"),
        secret("settings", annotations={"meta.helm.sh/release-name": "shoppe"}),
        secret("shoppe-user-ann", labels={**instance, "coffea-shoppe.dev/user": "ann"}),
        secret("owned", ownerReferences=[{"kind": "DaskCluster"}]),
        secret("other-hub", labels={"app.kubernetes.io/instance": "other"}),
    ]
    names = [each["metadata"]["name"] for each in backups._secrets(listed(secrets=secrets))]
    assert names == ["shoppe-hub", "mine", "login"]


def test_the_claim_of_a_home_is_for_a_new_volume() -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": "claim-ann",
            "namespace": "hep",
            "uid": "1",
            "labels": {"component": "singleuser-storage"},
            "annotations": {"hub.jupyter.org/username": "ann", "pv.kubernetes.io/bound": "yes"},
        },
        "spec": {"accessModes": ["ReadWriteOnce"], "volumeName": "pvc-1", "resources": {}},
        "status": {"phase": "Bound"},
    }
    assert backups._bare_claim(claim) == {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": "claim-ann",
            "labels": {"component": "singleuser-storage"},
            "annotations": {"hub.jupyter.org/username": "ann"},
        },
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {}},
    }


def test_a_release_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ShoppeError, match="no release 'shoppe' in the namespace 'hep'"):
        backups.create(listed(list=[{"name": "other", "chart": "x-1"}]), tmp_path, keep=1)
    assert not list(tmp_path.iterdir())


# --- archives


def packed(folder: Path) -> bytes:
    command = backups.PACK.replace("/volume", str(folder))
    return subprocess.run(["sh", "-c", command], check=True, capture_output=True).stdout


def unpacked(content: bytes, folder: Path) -> None:
    command = backups.UNPACK.replace("/volume", str(folder))
    subprocess.run(["sh", "-c", command], check=True, input=content)


def test_a_volume_is_archived_with_all_that_it_has(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "lost+found").mkdir(parents=True)
    (source / "-folder").mkdir()
    (source / "-folder" / "a\nb").write_text("content")
    (source / ".hidden").write_text("dot")
    (source / ".hidden").chmod(0o600)
    (source / "link").symlink_to("nowhere")
    os.setxattr(source / ".hidden", "user.etag", b"1")
    target.mkdir()
    (target / "of-the-new-facility").write_text("old")
    unpacked(packed(source), target)
    assert {path.name for path in target.rglob("*")} == {"-folder", "a\nb", ".hidden", "link"}
    assert (target / "-folder" / "a\nb").read_text() == "content"
    assert (target / ".hidden").stat().st_mode & 0o777 == 0o600
    assert os.getxattr(target / ".hidden", "user.etag") == b"1"
    assert (target / "link").readlink() == Path("nowhere")


def test_an_empty_volume_is_an_empty_archive(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    unpacked(packed(source), target)
    assert not list(target.iterdir())


# --- check


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    """A backup of one volume."""
    return made(tmp_path / "shoppe-1")


def made(folder: Path) -> Path:
    (folder / "volumes").mkdir(parents=True)
    source = folder.parent / "source"
    source.mkdir(exist_ok=True)
    (source / "file").write_bytes(os.urandom(100_000))
    (folder / "volumes" / "claim").write_bytes(packed(source))
    (folder / "values.yaml").write_text("{}")
    write(folder)
    return folder


def write(folder: Path, **changes: Any) -> None:
    """Write what a backup says about itself."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != backups.FILE]
    files = {str(path.relative_to(folder)): sha256(path) for path in paths}
    content = backups.Backup("shoppe", "hep", "0.1.0", "2026-12-01T00:00:00+00:00", files)
    (folder / backups.FILE).write_text(json.dumps({**asdict(content), **changes}))


def test_a_whole_backup_is_read(backup: Path) -> None:
    outcome = backups.check(backup)
    assert (outcome.name, outcome.namespace, outcome.chart) == ("shoppe", "hep", "0.1.0")


def test_what_is_wrong_with_a_backup_is_named(backup: Path) -> None:
    archive = backup / "volumes" / "claim"
    archive.write_bytes(archive.read_bytes()[:-50])
    with pytest.raises(ShoppeError, match=r"volumes/claim is missing, or is not what"):
        backups.check(backup)
    write(backup)
    with pytest.raises(ShoppeError, match=r"volumes/claim is no whole archive"):
        backups.check(backup)
    write(backup, format=2)
    with pytest.raises(ShoppeError, match="has format 2, not 1"):
        backups.check(backup)
    write(backup, more=1)
    with pytest.raises(ShoppeError, match="is no backup"):
        backups.check(backup)
    (backup / backups.FILE).unlink()
    with pytest.raises(ShoppeError, match="is no backup"):
        backups.check(backup)


def test_the_newest_backups_stay(tmp_path: Path) -> None:
    for number in range(1, 5):
        made(tmp_path / f"shoppe-{number}")
    made(tmp_path / "other-1")
    (tmp_path / "shoppe-0.partial").mkdir()
    (tmp_path / "shoppe-notes").mkdir()
    backups._forget(tmp_path, "shoppe", 2)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"shoppe-3", "shoppe-4", "other-1", "shoppe-notes", "source"}


@pytest.mark.parametrize(
    ("objects", "problem"),
    [
        ({"list": [{"name": "shoppe", "chart": "coffea-shoppe-0.1.0"}]}, "there is a release"),
        ({"pvc": [{"metadata": {"name": "claim"}}]}, "has volumes of the same names: claim"),
    ],
)
def test_a_facility_that_is_there_is_not_replaced(
    backup: Path, objects: dict[str, Any], problem: str
) -> None:
    facility = Listed(Access(), "shoppe", "hep", objects)
    with pytest.raises(ShoppeError, match=problem):
        backups._refuse(facility, backups.check(backup), CHART)


def test_a_chart_must_not_be_older_than_the_backup(backup: Path) -> None:
    for version in ("0.1.0", "0.0.9", "0.1.0-dev"):
        write(backup, chart=version)
        backups._refuse(Listed(Access(), "shoppe", "hep"), backups.check(backup), CHART)
    write(backup, chart="99.0.0")
    with pytest.raises(ShoppeError, match=r"the backup is of 99\.0\.0"):
        backups._refuse(Listed(Access(), "shoppe", "hep"), backups.check(backup), CHART)
