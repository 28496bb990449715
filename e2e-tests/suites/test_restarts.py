"""Restarts and upgrades that users do not feel."""

from dataclasses import dataclass

import pytest
from coffea_shoppe_contract.names import resource_name
from coffea_shoppe_contract.resources import USER_LABEL
from lib.fixtures import passing_user, run_code
from shoppe_ci import release, testing
from shoppe_ci.cluster import Cluster
from shoppe_ci.facility import User
from shoppe_ci.wait import eventually

LOG = """
import mlflow
mlflow.set_experiment("before-the-upgrade")
with mlflow.start_run() as run: mlflow.log_text("hello", "notes/hello.txt")
print(run.info.artifact_uri)
"""
READ = "import mlflow; print(mlflow.artifacts.load_text({uri!r} + '/notes/hello.txt'))"
POSTGRESQL = ("-n", "shoppe", "exec", "shoppe-postgresql-0", "-c", "postgresql", "--")


def _pods(cluster: Cluster, user: User) -> dict[str, str]:
    """Return the ids of the release's pods and of a user's own, by name.

    Other users' pods, and ServiceX's transformers, come and go with their work.
    """
    pods = {}
    for pod in cluster.get("pods", "-A", "-l", "app.kubernetes.io/instance=shoppe")["items"]:
        labels = pod["metadata"]["labels"]
        owner = labels.get(USER_LABEL, resource_name(user.name))
        transformer = labels.get("app.kubernetes.io/component") == "transformer"
        if owner == resource_name(user.name) and not transformer:
            pods[pod["metadata"]["name"]] = pod["metadata"]["uid"]
    return pods


@pytest.mark.alone
def test_a_server_and_its_home_survive_the_hubs_restart(ann: User, facility: Cluster) -> None:
    ann.server("PUT", "/api/contents/kept.txt", json={
        "type": "file", "format": "text", "content": "still here",
    })  # fmt: skip
    kernel = ann.server("POST", "/api/kernels", json={"name": "python3"}).json()["id"]
    old = _pods(facility, ann)
    facility.kubectl("-n", "shoppe", "delete", "pod", "-l", "app.kubernetes.io/component=hub")
    release.wait_ready(facility)
    new = _pods(facility, ann)
    assert {name for name in old if name.startswith("shoppe-hub")}.isdisjoint(new)
    assert ann.server("GET", f"/api/kernels/{kernel}").json()["id"] == kernel
    content = ann.server("GET", "/api/contents/kept.txt?content=1").json()["content"]
    assert content == "still here"
    eventually(
        lambda: ann.hub("GET", f"/users/{ann.name}").json()["servers"][""]["ready"],
        "the restarted hub knows the server",
    )


def test_a_home_survives_its_server(facility: Cluster) -> None:
    for user in passing_user(facility, "hal.comes-back"):
        user.server("PUT", "/api/contents/home.txt", json={
            "type": "file", "format": "text", "content": "mine",
        })  # fmt: skip
        user.stop()
        user.spawn()
        content = user.server("GET", "/api/contents/home.txt?content=1").json()["content"]
        assert content == "mine"


@dataclass(frozen=True)
class State:
    """What an upgrade must leave as it is, and the dumps of databases that it adds to."""

    secret: dict[str, str]
    pods: dict[str, str]
    dumps: list[str]


def _state(facility: Cluster, user: User) -> State:
    secret = facility.get("secret", "shoppe-hub", "-n", "shoppe")["data"]
    dumps = facility.kubectl(*POSTGRESQL, "ls", "-1", "/backup").split()
    return State(secret, _pods(facility, user), dumps)


@pytest.fixture(scope="module")
def upgrade(ann: User, facility: Cluster) -> tuple[State, State, str]:
    """The facility before and after an upgrade with the same values; a run logged before it."""
    uri = run_code(ann, LOG, fresh=True).splitlines()[-1]
    before = _state(facility, ann)
    testing.install(facility)
    return before, _state(facility, ann), uri


@pytest.mark.alone
def test_an_upgrade_with_the_same_values_changes_nothing(
    upgrade: tuple[State, State, str],
) -> None:
    before, after, _ = upgrade
    assert after.secret == before.secret
    assert after.pods == before.pods


@pytest.mark.alone
def test_an_upgrade_backs_the_databases_up_first_and_loses_nothing(
    upgrade: tuple[State, State, str], ann: User, facility: Cluster
) -> None:
    before, after, uri = upgrade
    added, columns = sorted(set(after.dumps) - set(before.dumps))
    assert columns.startswith("servicex-")
    listed = facility.kubectl(*POSTGRESQL, "pg_restore", "--list", f"/backup/{added}")
    assert "TABLE DATA public experiments mlflow" in listed
    assert "TABLE DATA public role_permissions mlflow" in listed
    assert "hello" in run_code(ann, READ.format(uri=uri))
