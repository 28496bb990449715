"""The facility API over HTTP, in front of a cluster in memory."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from coffea_shoppe_contract import identity
from coffea_shoppe_identity import News
from coffea_shoppe_operator import api, services
from coffea_shoppe_operator.errors import StorageError
from coffea_shoppe_operator.models import (
    DaskPods,
    DaskSettings,
    FacilityUser,
    FacilityUserSpec,
    PodLimits,
    QuotaSettings,
    TritonSettings,
)
from starlette.testclient import TestClient
from test_services import HELD, SETTINGS, Memory


class WithUsers(Memory):
    """A cluster in memory with one user's resource."""

    down = False

    def __init__(self) -> None:
        super().__init__()
        self.models: dict[str, dict[str, Any]] = {}

    def list_models(self, namespace: str, labels: dict[str, str]) -> list[dict[str, Any]]:
        wanted = set(labels.items())
        held = self.models.values()
        return [one for one in held if wanted <= set(one["metadata"]["labels"].items())]

    def read_model(self, namespace: str, name: str) -> dict[str, Any] | None:
        return self.models.get(name)

    def write_model(self, wanted: dict[str, Any]) -> dict[str, Any]:
        return self.models.setdefault(wanted["metadata"]["name"], wanted) | {"spec": wanted["spec"]}

    def delete_model(self, namespace: str, name: str) -> bool:
        return self.models.pop(name, None) is not None

    def read_pods(self, namespace: str, labels: dict[str, str]) -> list[PodLimits]:
        assert (namespace, labels) == ("shoppe-dask", {"app": "dask", identity.USER_LABEL: "ann"})
        worker = PodLimits(identity.DASK_WORKER, 1.5, 2**30)
        return [PodLimits(identity.DASK_SCHEDULER, 1, 2**30), worker, worker]

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
    update = {
        "connections": connections,
        "triton": TritonSettings(endpoint="http://triton", bucket="service-triton"),
        "dask": DaskSettings(pods=DaskPods(namespace="shoppe-dask", labels={"app": "dask"})),
        "quotas": QuotaSettings.model_validate(
            {
                "default": {
                    "dask": {"clusters": 2, "cores": 8, "memoryGiB": 0},
                    "triton": {"models": 2},
                }
            }
        ),
    }
    settings = SETTINGS.model_copy(update=update)
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


def test_a_user_sees_what_is_used_of_the_own_quota(http: TestClient, cluster: WithUsers) -> None:
    own = bearer(cluster.secrets[HELD]["token-api"])
    cluster.models["ann.bdt"] = {"metadata": {"labels": {identity.USER_LABEL: "ann"}}}
    cluster.models["bob.bdt"] = {"metadata": {"labels": {identity.USER_LABEL: "bob"}}}
    answer = http.get(identity.QUOTA_PATH, headers=own)
    rows = {
        (row["service"], row["what"]): (row["used"], row["limit"]) for row in answer.json()["quota"]
    }
    assert rows == {
        ("dask-gateway", "clusters"): (1, 2),
        ("dask-gateway", "cores"): (3.0, 8),
        ("dask-gateway", "memory"): (2.0, 0),
        ("triton", "models"): (1, 2),
    }
    assert http.get(identity.STATUS_PATH, headers=own).json()["quota"] == answer.json()["quota"]
    assert http.get(identity.QUOTA_PATH).status_code == 401


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({}, "send the facility's token"),
        ({"Authorization": "Bearer rubbish"}, "no token of the facility"),
    ],
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


def test_a_user_s_models_are_asked_for_told_and_removed(
    http: TestClient, cluster: WithUsers
) -> None:
    own = bearer(cluster.secrets[HELD]["token-api"])
    wish = {"name": "bdt", "model": "models:/bdt@prod", "username": "bob"}
    answer = http.post(identity.SERVE_PATH, json=wish, headers=own)
    assert answer.status_code == 202
    made = cluster.models["ann.bdt"]
    assert made["spec"]["username"] == "ann", "nobody asks for somebody else"
    assert made["metadata"]["ownerReferences"][0]["uid"] == "u1"
    assert answer.json()["asked"] > 0
    assert [one["name"] for one in http.get(identity.SERVE_PATH, headers=own).json()["models"]] == [
        "bdt"
    ]
    path = f"{identity.SERVE_PATH}/bdt"
    assert http.get(path, headers=own).json()["model"] == "models:/bdt@prod"
    made["metadata"]["deletionTimestamp"] = "now"
    assert http.get(path, headers=own).status_code == 404
    answer = http.post(identity.SERVE_PATH, json=wish, headers=own)
    assert (answer.status_code, "still being removed" in answer.text) == (409, True)
    assert http.delete(path, headers=own).status_code == 404
    del made["metadata"]["deletionTimestamp"]
    assert http.delete(path, headers=own).status_code == 202
    assert http.delete(path, headers=own).status_code == 404
    assert http.get(identity.SERVE_PATH).status_code == 401


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "bdt", "model": "bdt"}, "model: String should match"),
        ({"name": "B D T", "model": "models:/bdt/1"}, "name: String should match"),
        ({"model": "models:/bdt/1"}, "name: Field required"),
        ({"name": "bdt", "model": "models:/bdt/1", "gpu": 1}, "gpu: Extra inputs"),
        ([], "no JSON object"),
    ],
)
def test_a_bad_wish_is_told_by_its_field(
    http: TestClient, cluster: WithUsers, body: Any, field: str
) -> None:
    own = bearer(cluster.secrets[HELD]["token-api"])
    answer = http.post(identity.SERVE_PATH, json=body, headers=own)
    assert answer.status_code == 422
    assert field in answer.json()["error"]
    assert cluster.models == {}


def test_one_model_too_many_is_refused_and_another_version_is_not(
    http: TestClient, cluster: WithUsers
) -> None:
    own = bearer(cluster.secrets[HELD]["token-api"])

    def ask(name: str) -> int:
        wish = {"name": name, "model": "models:/bdt/1"}
        return http.post(identity.SERVE_PATH, json=wish, headers=own).status_code

    assert [ask(name) for name in ("a", "b", "c", "a")] == [202, 202, 409, 202]
