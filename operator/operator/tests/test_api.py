"""The facility API over HTTP, in front of a cluster in memory."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from coffea_shoppe_contract import identity
from coffea_shoppe_identity import News
from coffea_shoppe_operator import api, services
from coffea_shoppe_operator.errors import StorageError
from coffea_shoppe_operator.models import FacilityUser, FacilityUserSpec
from starlette.testclient import TestClient
from test_services import HELD, SETTINGS, Memory


class WithUsers(Memory):
    """A cluster in memory with one user's resource."""

    down = False

    def read_user(self, namespace: str, name: str) -> dict[str, Any] | None:
        spec = {"username": "ann", "groups": ["cms"]}
        return {"metadata": {"name": "ann", "uid": "u1"}, "spec": spec} if name == "ann" else None

    def read_published(self, namespace: str, name: str) -> dict[str, Any]:
        if self.down:
            raise StorageError("read_published: 503")
        return super().read_published(namespace, name)


@pytest.fixture
def service() -> Iterator[str]:
    """An address at which something listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"root://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def cluster(service: str) -> WithUsers:
    import time

    found = WithUsers()
    user = FacilityUser(name="ann", uid="u1", spec=FacilityUserSpec(username="ann"))
    services.Facility(SETTINGS, found).reconcile(user, time.time())
    return found


@pytest.fixture
def http(cluster: WithUsers, service: str) -> TestClient:
    connections = {"xcache": service, "mlflow": "http://127.0.0.1:9"}
    settings = SETTINGS.model_copy(update={"connections": connections})
    return TestClient(api.application(settings, cluster))  # type: ignore[arg-type]


def bearer(token: bytes) -> dict[str, str]:
    return {"Authorization": f"Bearer {token.decode()}"}


def test_keys_and_revocations_are_published(http: TestClient) -> None:
    parts = (http.get(path).json() for path in (identity.KEYS_PATH, identity.REVOCATIONS_PATH))
    assert len(News.parse(*parts).keys) == 1


def test_a_user_sees_the_own_status(http: TestClient, cluster: WithUsers) -> None:
    answer = http.get(identity.STATUS_PATH, headers=bearer(cluster.secrets[HELD]["token-api"]))
    assert answer.status_code == 200
    found = answer.json()
    assert (found["user"], found["groups"]) == ("ann", ["cms"])
    assert found["services"]["xcache"]["healthy"]
    assert not found["services"]["mlflow"]["healthy"]
    assert "refused" in found["services"]["mlflow"]["problem"].lower()


@pytest.mark.parametrize(
    ("headers", "told"),
    [({}, "send the token"), ({"Authorization": "Bearer rubbish"}, "no token of the facility")],
)
def test_nobody_else_does(http: TestClient, headers: dict[str, str], told: str) -> None:
    answer = http.get(identity.STATUS_PATH, headers=headers)
    assert answer.status_code == 401
    assert told in answer.json()["error"]


def test_a_token_for_another_service_is_refused(http: TestClient, cluster: WithUsers) -> None:
    answer = http.get(identity.STATUS_PATH, headers=bearer(cluster.secrets[HELD]["token-s3"]))
    assert answer.status_code == 401
    assert "for 's3', not for 'api'" in answer.json()["error"]


def test_a_cluster_that_does_not_answer_is_told(http: TestClient, cluster: WithUsers) -> None:
    assert http.get("/healthz").status_code == 200
    cluster.down = True
    assert http.get(identity.KEYS_PATH).status_code == 503
    assert http.get("/healthz").status_code == 503
