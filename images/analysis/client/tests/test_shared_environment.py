"""A Dask cluster has the packages that its user has installed, also as they change."""

import json
import site
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import coffea_shoppe as shoppe
import pytest
from coffea_shoppe import environment
from distributed import Client, LocalCluster


def write_module(folder: Path, name: str, value: int) -> None:
    """Write a package whose `value` is as given."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / "__init__.py").write_text(f"value = {value}\n")


def record(home: Path, name: str, files: list[str], origin: dict[str, Any] | None = None) -> None:
    """Write what pip records of a distribution that it has installed."""
    folder = home / f"{name}-1.0.dist-info"
    folder.mkdir(exist_ok=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (folder / "RECORD").write_text("".join(f"{file},,\n" for file in files))
    if origin:
        (folder / "direct_url.json").write_text(json.dumps(origin))


def install(home: Path, name: str, value: int) -> None:
    """Install a distribution, as `pip install` does into a home."""
    write_module(home, name, value)
    record(home, name, [f"{name}/__init__.py", f"../../../bin/{name}"])


def develop(home: Path, project: Path, name: str) -> None:
    """Install a distribution in development, as `pip install -e` does."""
    record(home, name, [], {"url": project.as_uri(), "dir_info": {"editable": True}})


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.setattr(site, "getusersitepackages", lambda: str(folder))
    return folder


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        yield client


def value_of(name: str) -> int:
    """Return what a module says; runs in a worker."""
    import importlib

    value: int = importlib.import_module(name).value
    return value


def test_workers_and_the_scheduler_have_what_the_user_has_installed(
    home: Path, client: Client
) -> None:
    install(home, "installed_package", 1)
    assert shoppe.share_environment(client) == ["installed_package 1.0"]
    assert client.submit(value_of, "installed_package").result(timeout=30) == 1
    assert client.run_on_scheduler(value_of, "installed_package") == 1


@pytest.mark.parametrize("layout", ["", "src"])
def test_a_project_in_development_is_shared_again_after_a_change(
    home: Path, client: Client, tmp_path: Path, layout: str
) -> None:
    name = f"developed_{layout or 'flat'}"
    project = tmp_path / "my project"
    write_module(project / layout, name, 1)
    (project / ".git").mkdir()
    (project / ".git" / "large").write_bytes(bytes(1000))
    develop(home, project, name)
    assert shoppe.share_environment(client) == [f"{name} 1.0"]
    assert client.submit(value_of, name, pure=False).result(timeout=30) == 1
    write_module(project / layout, name, 2)
    assert client.submit(value_of, name, pure=False).result(timeout=30) == 1
    shoppe.share_environment(client)
    assert client.submit(value_of, name, pure=False).result(timeout=30) == 2


def test_a_worker_that_starts_later_has_them_too(home: Path, client: Client) -> None:
    install(home, "package_of_later_workers", 3)
    shoppe.share_environment(client)
    cluster: Any = client.cluster
    cluster.scale(2)
    client.wait_for_workers(2, timeout=60)
    values = client.run(value_of, "package_of_later_workers")
    assert sorted(values.values()) == [3, 3]


def test_too_much_is_refused_by_name(
    home: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "LIMIT_MB", 0.001)
    install(home, "small", 1)
    assert shoppe.share_environment(client) == ["small 1.0"]
    write_module(home, "large", 1)
    (home / "large" / "table.bin").write_bytes(bytes(2000))
    record(home, "large", ["large/__init__.py", "large/table.bin"])
    with pytest.raises(ValueError, match=r"more than 0.001 MB; the largest is large 1.0 with 0 MB"):
        shoppe.share_environment(client)


def test_without_packages_of_ones_own_nothing_is_shared(home: Path, client: Client) -> None:
    assert shoppe.share_environment(client) == []
