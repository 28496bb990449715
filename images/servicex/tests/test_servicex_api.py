"""The API's answers, as the stock client's own models and transformers read them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from coffea_shoppe_servicex import access, api
from coffea_shoppe_servicex.delivery import Delivery
from coffea_shoppe_servicex.settings import Auth, Front
from servicex.models import CachedDataset, ServiceXInfo, TransformStatus
from servicex_helpers import changed
from sqlalchemy.exc import OperationalError
from starlette.testclient import TestClient

BODY = {
    "title": "t",
    "codegen": "uproot-raw",
    "selection": '[{"treename": "E", "expressions": ["x"]}]',
    "result-destination": "object-store",
    "result-format": "parquet",
    "file-list": ["root://origin//a.root"],
    "client-version": "a field of later clients",
}
POOL = {"Authorization": "Bearer pool"}


@pytest.fixture
def client(delivery: Delivery, tmp_path: Path) -> Iterator[TestClient]:
    key = tmp_path / "pool-key"
    key.write_text("pool")
    front = Front(
        endpoint="s3.inside:7000", public_endpoint="s3.example.org:443", public_secure=True
    )
    whole = changed(delivery, front=front, codegens=["uproot-raw"], pool_key=key)
    users = access.Users(Auth(enabled=False), None)
    application = api.application(whole, users, access.Transformers(whole))
    with TestClient(application, follow_redirects=False) as found:
        yield found


@pytest.fixture
def request_id(client: TestClient) -> str:
    return str(client.post("/servicex/transformation", json=BODY).json()["request_id"])


def work(client: TestClient, path: str, **body: Any) -> Any:
    return client.post(f"/servicex/internal/{path}", json=body, headers=POOL)


def test_the_client_reads_what_it_is_told(client: TestClient, request_id: str) -> None:
    info = ServiceXInfo(**client.get("/servicex").json())
    assert set(info.code_gen_image) == {"uproot-raw"}
    assert "poll_local_transformation_results" in info.capabilities
    found = TransformStatus(**client.get(f"/servicex/transformation/{request_id}").json())
    assert (found.status.value, found.files, found.minio_endpoint) == (
        "Running",
        1,
        "s3.inside:7000",
    )
    (listed,) = client.get("/servicex/transformation").json()["requests"]
    assert TransformStatus(**listed) == found


def test_from_outside_results_have_another_address(client: TestClient, request_id: str) -> None:
    path = f"/services/servicex/servicex/transformation/{request_id}"
    found = TransformStatus(**client.get(path).json())
    assert (found.minio_endpoint, found.minio_secured) == ("s3.example.org:443", True)


def test_a_transformer_s_way_through_a_file(client: TestClient, request_id: str) -> None:
    lease = work(client, "lease", worker="w", memory=4000).json()
    assert lease["request"] == request_id
    assert lease["places"] == ["root://origin//a.root"]
    assert work(client, "lease", worker="w", memory=4000).status_code == 204
    file = f"files/{lease['file']}"
    assert work(client, f"{file}/renew", attempt=1).status_code == 200
    assert request_id in work(client, f"{file}/upload", attempt=1).json()["url"]
    done = {"bytes": 10, "events": 5, "read": 7, "seconds": 1.5, "log": "l"}
    assert work(client, f"{file}/complete", attempt=1, **done).status_code == 200
    assert work(client, f"{file}/complete", attempt=1, **done).status_code == 409
    results = client.get(
        f"/servicex/transformation/{request_id}/results",
        params={"later_than": "0001-01-01T00:00:00+00:00"},
    ).json()["results"]
    assert [row["s3-object-name"] for row in results] == ["000000-a.parquet"]
    assert results[0]["total-bytes"] == 10
    later = {"later_than": results[0]["created_at"]}
    again = client.get(f"/servicex/transformation/{request_id}/results", params=later)
    assert again.json() == {"results": []}


def test_transformers_need_their_key(client: TestClient, request_id: str) -> None:
    for headers in ({}, {"Authorization": "Bearer other"}):
        body = {"worker": "w", "memory": 4000}
        answer = client.post("/servicex/internal/lease", json=body, headers=headers)
        assert answer.status_code == 401
    assert work(client, "lease", worker="w", memory=4000).json()["request"] == request_id


def test_refusals_have_a_status_and_a_sentence(client: TestClient) -> None:
    post = [
        ({**BODY, "codegen": "uproot"}, "no codegen 'uproot' in this facility"),
        ({**BODY, "result-format": "csv"}, "result-format"),
        ({"title": "t"}, "selection"),
        ([], "valid"),
    ]
    for body, told in post:
        answer = client.post("/servicex/transformation", json=body)
        assert answer.status_code == 400
        assert told in answer.json()["message"]
    for path in ("/servicex/transformation/x", "/servicex/datasets/7", "/transformation-request/x"):
        assert client.get(path).status_code == 404
        assert "there is no" in client.get(path).json()["message"]


def test_a_submission_waits_for_a_database_that_restarts(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit, tries = Delivery.submit, []

    def restarting(self: Delivery, *arguments: Any) -> Any:
        tries.append(1)
        if len(tries) < 3:
            raise OperationalError("INSERT", {}, Exception("the server closed the connection"))
        return submit(self, *arguments)

    monkeypatch.setattr(Delivery, "submit", restarting)
    assert client.post("/servicex/transformation", json=BODY).status_code == 200
    monkeypatch.setattr(api, "SUBMIT_S", 0)
    tries.clear()
    answer = client.post("/servicex/transformation", json=BODY)
    assert answer.status_code == 503
    assert "database does not answer" in answer.json()["message"]


def test_datasets_are_listed_as_the_client_reads_them(
    client: TestClient, delivery: Delivery
) -> None:
    body = {key: value for key, value in BODY.items() if key != "file-list"}
    client.post("/servicex/transformation", json={**body, "did": "xrootd://root://h//*"})
    delivery.look_up(lambda _: [{"paths": ["root://h//a"], "size": 3, "events": 0, "adler32": ""}])
    (one,) = client.get("/servicex/datasets").json()["datasets"]
    whole = CachedDataset(**client.get(f"/servicex/datasets/{one['id']}").json())
    assert (whole.n_files, whole.size, whole.lookup_status) == (1, 3, "complete")
    assert whole.files and whole.files[0].paths == "root://h//a"
    assert client.delete(f"/servicex/datasets/{one['id']}").json()["stale"] is True


def test_pages_and_the_links_that_the_client_prints(client: TestClient, request_id: str) -> None:
    assert f"transformation-request/{request_id}" in client.get("/transformation-request").text
    for path in (request_id, f"{request_id}/results?status=failure", f"/{request_id}/results"):
        page = client.get(f"/transformation-request/{path}")
        assert page.status_code == 200, path
        assert "Cancel" in page.text
    assert "Running" in client.get(f"/transformation-request/{request_id}/log").text
    canceled = client.post(f"/transformation-request/{request_id}/cancel")
    assert canceled.status_code == 303
    assert "Canceled" in client.get(f"/transformation-request/{request_id}").text


@pytest.mark.parametrize("path", ["/metrics", "/servicex/internal/lease"])
def test_what_is_for_the_cluster_is_not_found_from_outside(client: TestClient, path: str) -> None:
    assert client.get(path).status_code != 404
    assert client.get(f"/services/servicex{path}").status_code == 404
    assert client.get("/services/servicex/servicex").status_code == 200


def test_health_and_metrics(client: TestClient, request_id: str) -> None:
    assert client.get("/healthz").text == client.get("/livez").text == "ok"
    assert 'servicex_requests{state="Running"} 1.0' in client.get("/metrics").text
    assert client.delete(f"/servicex/transformation/{request_id}").status_code == 200
    assert client.get(f"/servicex/transformation/{request_id}").status_code == 404
