"""The facility API over HTTP, in front of a cluster in memory."""

import itertools
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from coffea_shoppe_contract.api import (
    ARTIFACT_QUOTA_PATH,
    KEYS_PATH,
    QUOTA_PATH,
    REVOCATIONS_PATH,
    SERVE_PATH,
    STATUS_PATH,
)
from coffea_shoppe_contract.resources import DASK_SCHEDULER, DASK_WORKER, USER_LABEL
from coffea_shoppe_identity import VerificationData
from coffea_shoppe_operator import api, services
from coffea_shoppe_operator.adapters.dask import DaskPods, DaskSettings, PodLimits
from coffea_shoppe_operator.adapters.triton import TritonSettings
from coffea_shoppe_operator.errors import StorageError
from coffea_shoppe_operator.models import (
    FacilityUser,
    FacilityUserSpec,
    QuotaSettings,
    Settings,
    definitions,
)
from lib import api_schemas
from starlette.testclient import TestClient
from test_services import HELD, SETTINGS, Memory


class WithUsers(Memory):
    """A cluster in memory with one user's resource."""

    down = False
    username = "ann"
    gigabytes: float = 0

    def __init__(self) -> None:
        super().__init__()
        self.used: dict[str, int] = {}
        self.models: dict[str, dict[str, Any]] = {}

    def list_models(self, namespace: str, labels: dict[str, str]) -> list[dict[str, Any]]:
        wanted = set(labels.items())
        held = self.models.values()
        return [one for one in held if wanted <= set(one["metadata"]["labels"].items())]

    def read_model(self, namespace: str, name: str) -> dict[str, Any] | None:
        return self.models.get(name)

    def write_model(self, wanted: dict[str, Any]) -> dict[str, Any]:
        api_schemas.check([wanted], definitions())
        return self.models.setdefault(wanted["metadata"]["name"], wanted) | {"spec": wanted["spec"]}

    def delete_model(self, namespace: str, name: str) -> bool:
        return self.models.pop(name, None) is not None

    def read_pods(self, namespace: str, labels: dict[str, str]) -> list[PodLimits]:
        assert (namespace, labels) == ("shoppe-dask", {"app": "dask", USER_LABEL: "ann"})
        worker = PodLimits(DASK_WORKER, 1.5, 2**30)
        return [PodLimits(DASK_SCHEDULER, 1, 2**30), worker, worker]

    def read_user(self, namespace: str, name: str) -> dict[str, Any] | None:
        quota = {"objectStore": {"gigabytes": self.gigabytes}}
        spec = {"username": self.username, "groups": ["cms"], "quota": quota}
        user = {"metadata": {"name": "ann", "uid": "u1"}, "spec": spec}
        return {**user, "status": {"used": self.used}} if name == "ann" else None

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

    clients = WithUsers()
    user = FacilityUser(name="ann", uid="u1", spec=FacilityUserSpec(username="ann"))
    services.Facility(SETTINGS, clients).reconcile(user, time.time())
    return clients


@pytest.fixture
def settings(service: str) -> Settings:
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
    return SETTINGS.model_copy(update=update)


@pytest.fixture
def http(cluster: WithUsers, settings: Settings) -> TestClient:
    return TestClient(api.application(settings, cluster))  # type: ignore[arg-type]


def bearer(token: bytes) -> dict[str, str]:
    return {"Authorization": f"Bearer {token.decode()}"}


def test_keys_and_revocations_are_published(http: TestClient) -> None:
    parts = (http.get(path).json() for path in (KEYS_PATH, REVOCATIONS_PATH))
    assert len(VerificationData.parse(*parts).keys) == 1


def test_a_user_sees_the_own_status(http: TestClient, cluster: WithUsers) -> None:
    response = http.get(STATUS_PATH, headers=bearer(cluster.secrets[HELD]["token-api"]))
    assert response.status_code == 200
    status = response.json()
    assert (status["user"], status["groups"]) == ("ann", ["cms"])
    assert status["services"]["xcache"]["healthy"]
    assert not status["services"]["mlflow"]["healthy"]
    assert "refused" in status["services"]["mlflow"]["problem"].lower()


def test_a_user_sees_what_is_used_of_the_own_quota(http: TestClient, cluster: WithUsers) -> None:
    own = bearer(cluster.secrets[HELD]["token-api"])
    cluster.models["ann.bdt"] = {"metadata": {"labels": {USER_LABEL: "ann"}}}
    cluster.models["bob.bdt"] = {"metadata": {"labels": {USER_LABEL: "bob"}}}
    response = http.get(QUOTA_PATH, headers=own)
    rows = {
        (row["service"], row["what"]): (row["used"], row["limit"])
        for row in response.json()["quota"]
    }
    assert rows == {
        ("dask-gateway", "clusters"): (1, 2),
        ("dask-gateway", "cores"): (3.0, 8),
        ("dask-gateway", "memory"): (2.0, 0),
        ("triton", "models"): (1, 2),
    }
    assert http.get(STATUS_PATH, headers=own).json()["quota"] == response.json()["quota"]
    assert http.get(QUOTA_PATH).status_code == 401


def test_mlflow_sees_how_much_of_a_quota_is_left_for_artifacts(
    http: TestClient, cluster: WithUsers
) -> None:
    of_mlflow = bearer(cluster.secrets[HELD]["token-mlflow"])
    assert http.get(ARTIFACT_QUOTA_PATH, headers=of_mlflow).json() == {"limit": 0, "elsewhere": 0}
    cluster.gigabytes = 2.5
    cluster.used = {"objectStore": 7 * 10**8, "servicex": 10**8, "mlflow": 3 * 10**8}
    response = http.get(ARTIFACT_QUOTA_PATH, headers=of_mlflow)
    assert response.json() == {"limit": 2_500_000_000, "elsewhere": 400_000_000}
    refused = http.get(ARTIFACT_QUOTA_PATH, headers=bearer(cluster.secrets[HELD]["token-servicex"]))
    assert refused.status_code == 401
    # A token for MLflow is good for nothing else.
    assert http.get(QUOTA_PATH, headers=of_mlflow).status_code == 401


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({}, "send the facility's token"),
        ({"Authorization": "Bearer rubbish"}, "not a token of the facility"),
    ],
)
def test_nobody_else_does(http: TestClient, headers: dict[str, str], told: str) -> None:
    response = http.get(STATUS_PATH, headers=headers)
    assert response.status_code == 401
    assert told in response.json()["error"]


def test_a_user_of_a_similar_name_sees_nothing(http: TestClient, cluster: WithUsers) -> None:
    own = bearer(cluster.secrets[HELD]["token-api"])
    assert http.get(STATUS_PATH, headers=own).status_code == 200
    cluster.username = "another, whose resource has the same name"
    assert http.get(STATUS_PATH, headers=own).status_code == 404


def test_a_token_for_another_service_is_refused(http: TestClient, cluster: WithUsers) -> None:
    response = http.get(STATUS_PATH, headers=bearer(cluster.secrets[HELD]["token-s3"]))
    assert response.status_code == 401
    assert "for 's3', not for 'api'" in response.json()["error"]


def test_an_unavailable_cluster_is_reported(http: TestClient, cluster: WithUsers) -> None:
    assert http.get("/healthz").status_code == 200
    cluster.down = True
    assert http.get(KEYS_PATH).status_code == 503
    assert http.get("/healthz").status_code == 503


def test_a_user_s_models_are_asked_for_told_and_removed(
    http: TestClient, cluster: WithUsers
) -> None:
    own = bearer(cluster.secrets[HELD]["token-api"])
    wish = {"name": "bdt", "model": "models:/bdt@prod", "username": "bob"}
    response = http.post(SERVE_PATH, json=wish, headers=own)
    assert response.status_code == 202
    made = cluster.models["ann.bdt"]
    assert made["spec"]["username"] == "ann", "nobody asks for somebody else"
    assert made["metadata"]["ownerReferences"][0]["uid"] == "u1"
    requested_at = response.json()["requestedAt"]
    assert requested_at > 0
    later = http.post(SERVE_PATH, json={**wish, "requestedAt": 1.0}, headers=own)
    assert later.json()["requestedAt"] >= requested_at, "the API sets the time"
    assert [one["name"] for one in http.get(SERVE_PATH, headers=own).json()["models"]] == ["bdt"]
    path = f"{SERVE_PATH}/bdt"
    assert http.get(path, headers=own).json()["model"] == "models:/bdt@prod"
    made["metadata"]["deletionTimestamp"] = "now"
    assert http.get(path, headers=own).status_code == 404
    response = http.post(SERVE_PATH, json=wish, headers=own)
    assert (response.status_code, "still being removed" in response.text) == (409, True)
    assert http.delete(path, headers=own).status_code == 404
    del made["metadata"]["deletionTimestamp"]
    assert http.delete(path, headers=own).status_code == 202
    assert http.delete(path, headers=own).status_code == 404
    assert http.get(SERVE_PATH).status_code == 401


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "bdt", "model": "bdt"}, "model: String should match"),
        ({"name": "B D T", "model": "models:/bdt/1"}, "name: String should match"),
        ({"model": "models:/bdt/1"}, "name: Field required"),
        ({"name": "bdt", "model": "models:/bdt/1", "gpu": 1}, "gpu: Extra inputs"),
        ([], "not a JSON object"),
    ],
)
def test_a_bad_wish_is_told_by_its_field(
    http: TestClient, cluster: WithUsers, body: Any, field: str
) -> None:
    own = bearer(cluster.secrets[HELD]["token-api"])
    response = http.post(SERVE_PATH, json=body, headers=own)
    assert response.status_code == 422
    assert field in response.json()["error"]
    assert cluster.models == {}


def test_one_model_too_many_is_refused_and_another_version_is_not(
    http: TestClient, cluster: WithUsers
) -> None:
    own = bearer(cluster.secrets[HELD]["token-api"])

    def ask(name: str) -> int:
        wish = {"name": name, "model": "models:/bdt/1"}
        return http.post(SERVE_PATH, json=wish, headers=own).status_code

    assert [ask(name) for name in ("a", "b", "c", "a")] == [202, 202, 409, 202]


def test_two_models_at_once_do_not_pass_the_quota_together(
    http: TestClient, cluster: WithUsers, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = bearer(cluster.secrets[HELD]["token-api"])
    list_models = cluster.list_models

    def list_slowly(*arguments: Any) -> Any:
        models = list_models(*arguments)
        time.sleep(0.1)
        return models

    monkeypatch.setattr(cluster, "list_models", list_slowly)

    def ask(name: str) -> int:
        wish = {"name": name, "model": "models:/bdt/1"}
        return http.post(SERVE_PATH, json=wish, headers=own).status_code

    with http, ThreadPoolExecutor(4) as pool:  # all in one event loop
        assert sorted(pool.map(ask, "abcd")) == [202, 202, 409, 409]


def test_two_replicas_do_not_pass_the_quota_together(
    settings: Settings, cluster: WithUsers, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = bearer(cluster.secrets[HELD]["token-api"])
    list_models = cluster.list_models
    both_have_listed, listings = threading.Barrier(2), itertools.count()

    def list_models_of_both(*arguments: Any) -> Any:
        models = list_models(*arguments)
        if next(listings) < 2:
            both_have_listed.wait(10)
        return models

    def ask(name: str) -> int:
        wish = {"name": name, "model": "models:/bdt/1"}
        with TestClient(api.application(settings, cluster)) as replica:  # type: ignore[arg-type]
            return replica.post(SERVE_PATH, json=wish, headers=own).status_code

    assert ask("a") == 202
    monkeypatch.setattr(cluster, "list_models", list_models_of_both)
    with ThreadPoolExecutor(2) as pool:
        accepted = [
            name for name, status in zip("bc", pool.map(ask, "bc"), strict=True) if status == 202
        ]
    # Both may be refused.
    assert len(accepted) <= 1
    names = {model["spec"]["name"] for model in cluster.models.values()}
    assert names == {"a", *accepted}
    assert accepted or ask("b") == 202


def test_a_large_body_is_refused_before_it_is_read(http: TestClient, cluster: WithUsers) -> None:
    own = bearer(cluster.secrets[HELD]["token-api"])
    huge = {"Content-Length": str(300 * 2**20)}
    assert http.post(SERVE_PATH, content=b"{}", headers={**own, **huge}).status_code == 413
    assert http.post(SERVE_PATH, content=b"{}", headers=huge).status_code == 401
    assert http.post(SERVE_PATH, content=b"[" * 60_000, headers=own).status_code == 422
    wish = {"name": "a", "model": "models:/bdt/1"}
    assert http.post(SERVE_PATH, json=wish, headers=own).status_code == 202
