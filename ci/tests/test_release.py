import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from shoppe_ci import release
from shoppe_ci.cluster import HTTP_NODE_PORT
from shoppe_ci.errors import ShoppeError


class Recorder:
    """A cluster that holds release Secrets, and remembers what was deleted."""

    def __init__(self, *ages: float) -> None:
        self.secrets = {f"v{n}": age for n, age in enumerate(ages)}
        self.deleted: list[str] = []

    def get(self, *words: str) -> dict[str, Any]:
        now = datetime.now(tz=UTC)
        return {
            "items": [
                {"metadata": {"name": name, "creationTimestamp": str(now - timedelta(seconds=age))}}
                for name, age in self.secrets.items()
            ]
        }

    def kubectl(self, *words: str) -> str:
        self.deleted.append(words[-1])
        del self.secrets[words[-1]]
        return ""


def clear_interrupted(cluster: Recorder) -> None:
    release.clear_interrupted(cluster, name="shoppe", namespace="shoppe")  # type: ignore[arg-type]


def test_what_an_interrupted_run_left_behind_is_cleared() -> None:
    cluster = Recorder(release.HELM_TIMEOUT_S + 60)
    clear_interrupted(cluster)
    assert cluster.deleted == ["v0"]


def test_an_operation_in_progress_is_waited_for_and_never_broken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(release, "HELM_TIMEOUT_S", -29)
    cluster = Recorder(-60)  # made in the future: never old enough
    with pytest.raises(ShoppeError, match="no other Helm operation on shoppe"):
        clear_interrupted(cluster)
    assert cluster.deleted == []


def test_nothing_in_progress_needs_no_wait() -> None:
    cluster = Recorder()
    clear_interrupted(cluster)
    assert cluster.deleted == []


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: [", "is not YAML"), ("- a", "contains no values"), ("x", "contains no")],
)
def test_a_values_file_that_is_none_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "values.yaml"
    path.write_text(text)
    with pytest.raises(ShoppeError, match=message):
        release.read_values([path])


def test_values_files_are_read_in_order(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_text(f"which: {name}")
    assert release.read_values([tmp_path / "a", tmp_path / "b"]) == [{"which": "a"}, {"which": "b"}]


def test_the_hub_of_a_demo_is_at_the_port_that_its_cluster_opens() -> None:
    service = release.demo_values()["jupyterhub"]["proxy"]["service"]
    assert service["nodePorts"]["http"] == HTTP_NODE_PORT


def test_values_that_helm_refuses_are_found_before_there_is_a_cluster() -> None:
    rows = {"triton": {"enabled": False}}
    release.render(release.demo_values(), {"global": {"services": rows}})
    with pytest.raises(ShoppeError, match="hubb") as refused:
        release.render(release.demo_values(), {"jupyterhub": {"hubb": {}}})
    assert "symbolic link" not in refused.value.problem


def test_new_secrets_are_printed_as_manifests_that_differ_each_time() -> None:
    first, second = (
        json.loads(release.new_secrets(release="mine", namespace="other")) for _ in range(2)
    )
    names = [secret["metadata"]["name"] for secret in first["items"]]
    assert {"mine-hub", "mine-mlflow", "mine-objectstore", "mine-servicex"} <= set(names)
    for earlier, later in zip(first["items"], second["items"], strict=True):
        assert earlier["data"].keys() == later["data"].keys()
        assert earlier["data"] != later["data"]
    (database,) = (s for s in first["items"] if s["metadata"]["name"] == "mine-postgresql-mlflow")
    entries = {key: base64.b64decode(text).decode() for key, text in database["data"].items()}
    assert f"password={entries['password']}\n" in entries["service.conf"]
    assert "host=mine-postgresql.other\n" in entries["service.conf"]


def test_values_that_name_all_secrets_leave_none_to_print() -> None:
    services = {
        "jupyterhub": {"existingSecret": "a"},
        "objectstore": {"existingSecret": "a"},
        "postgresql": {"existingSecrets": {"mlflow": "a", "servicex": "a"}},
    }
    own = {"existingSecret": "a"}
    values = {"global": {"services": services}, "mlflow": own, "servicex": own}
    with pytest.raises(ShoppeError, match="with these values the charts generate no Secret"):
        release.new_secrets(values)
