"""The API's responses, as the stock client's own models and transformers read them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from coffea_shoppe_servicex import access, api
from coffea_shoppe_servicex.backend import Backend
from coffea_shoppe_servicex.database import Request, transaction
from coffea_shoppe_servicex.settings import Auth, S3Gateway
from coffea_shoppe_servicex.transform_requests import TransformRequests
from servicex.models import CachedDataset, ServiceXInfo, TransformStatus
from servicex_helpers import changed, look_up, unchanged
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
def client(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TestClient]:
    key = tmp_path / "pool-key"
    key.write_text("pool")
    gateway = S3Gateway(
        endpoint="s3.inside:7000", public_endpoint="s3.example.org:443", public_secure=True
    )
    with_gateway = changed(backend, s3_gateway=gateway, codegens=["uproot-raw"], pool_key=key)
    users = access.UserAuthenticator(Auth(enabled=False), None)
    # Tests look files up themselves.
    monkeypatch.setattr(api, "LOOKUP_INTERVALS_S", ())
    application = api.application(
        with_gateway, users, access.TransformerAuthenticator(with_gateway)
    )
    with TestClient(application, follow_redirects=False) as found:
        yield found


@pytest.fixture
def request_id(client: TestClient, backend: Backend) -> str:
    created = client.post("/servicex/transformation", json=BODY).json()["request_id"]
    assert look_up(backend)
    return str(created)


def post_internal(client: TestClient, path: str, **body: Any) -> Any:
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


def _store(folder: Path, request_id: str, content: bytes) -> None:
    """Store the result of the request's file, as a transformer would."""
    path = folder / "results" / "user" / request_id / "000000-a.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)


def test_a_transformer_s_way_through_a_file(
    client: TestClient, request_id: str, tmp_path: Path
) -> None:
    lease = post_internal(client, "lease", transformer="t", memory=4000).json()
    assert lease["request"] == request_id
    assert lease["source_urls"] == ["root://origin//a.root"]
    assert post_internal(client, "lease", transformer="t", memory=4000).status_code == 204
    file = f"files/{lease['file']}"
    assert post_internal(client, f"{file}/renew", attempt=1).status_code == 200
    assert request_id in post_internal(client, f"{file}/upload", attempt=1).json()["url"]
    _store(tmp_path, request_id, b"0123456789")
    done = {"events": 5, "read": 7, "seconds": 1.5, "log": "l"}
    assert post_internal(client, f"{file}/complete", attempt=1, **done).status_code == 200
    assert post_internal(client, f"{file}/complete", attempt=1, **done).status_code == 409
    results = client.get(
        f"/servicex/transformation/{request_id}/results",
        params={"later_than": "0001-01-01T00:00:00+00:00"},
    ).json()["results"]
    assert [row["s3-object-name"] for row in results] == ["000000-a.parquet"]
    assert results[0]["total-bytes"] == 10
    later = {"later_than": results[0]["created_at"]}
    again = client.get(f"/servicex/transformation/{request_id}/results", params=later)
    assert again.json() == {"results": []}


@pytest.mark.parametrize("reported", [-(10**12), 10**30, "many", None])
def test_the_size_that_a_transformer_reports_is_of_no_effect(
    client: TestClient, request_id: str, tmp_path: Path, reported: Any
) -> None:
    lease = post_internal(client, "lease", transformer="t", memory=4000).json()
    _store(tmp_path, request_id, b"0123456789")
    report = {"attempt": 1, "bytes": reported, "events": 5, "read": 7, "seconds": 1.5}
    assert post_internal(client, f"files/{lease['file']}/complete", **report).status_code == 200
    assert client.get(f"/servicex/transformation/{request_id}").json()["status"] == "Complete"
    (result,) = client.get(f"/servicex/transformation/{request_id}/results").json()["results"]
    assert result["total-bytes"] == 10


@pytest.mark.parametrize(
    "absurd", [{"events": -1}, {"read": 10**30}, {"seconds": -1.0}, {"seconds": "Infinity"}]
)
def test_an_absurd_report_is_refused_and_the_right_one_counts(
    client: TestClient, request_id: str, tmp_path: Path, absurd: dict[str, Any]
) -> None:
    lease = post_internal(client, "lease", transformer="t", memory=4000).json()
    path = f"files/{lease['file']}/complete"
    _store(tmp_path, request_id, b"0123456789")
    report = {"attempt": 1, "events": 5, "read": 7, "seconds": 1.5}
    refused = post_internal(client, path, **{**report, **absurd})
    assert refused.status_code == 400
    assert next(iter(absurd)) in refused.json()["message"]
    assert client.get(f"/servicex/transformation/{request_id}").json()["status"] == "Running"
    assert post_internal(client, path, **report).status_code == 200


def test_transformers_need_their_key(client: TestClient, request_id: str) -> None:
    for headers in ({}, {"Authorization": "Bearer other"}):
        body = {"transformer": "t", "memory": 4000}
        response = client.post("/servicex/internal/lease", json=body, headers=headers)
        assert response.status_code == 401
    assert (
        post_internal(client, "lease", transformer="t", memory=4000).json()["request"] == request_id
    )


def test_refusals_have_a_status_and_a_sentence(client: TestClient) -> None:
    post = [
        ({**BODY, "codegen": "uproot"}, "no codegen 'uproot' in this facility"),
        ({**BODY, "result-format": "csv"}, "result-format"),
        ({"title": "t"}, "selection"),
        ([], "valid"),
    ]
    for body, told in post:
        response = client.post("/servicex/transformation", json=body)
        assert response.status_code == 400
        assert told in response.json()["message"]
    for path in ("/servicex/transformation/x", "/servicex/datasets/7", "/transformation-request/x"):
        assert client.get(path).status_code == 404
        assert "there is no" in client.get(path).json()["message"]


def test_large_bodies_are_refused_before_they_are_read(client: TestClient) -> None:
    def read() -> bytes:
        raise AssertionError("the body is read")

    huge = {"Content-Length": str(300 * 2**20)}
    submit, lease = "/servicex/transformation", "/servicex/internal/lease"
    assert client.post(submit, content=b"{}", headers=huge).status_code == 413
    assert client.post(lease, content=b"{}", headers={**huge, **POOL}).status_code == 413
    # Without a key nothing is read, whatever its size.
    assert client.post(lease, content=iter(read, b"")).status_code == 401
    title = {**BODY, "title": "x" * api.LARGEST_BODY}
    assert client.post(submit, json=title).status_code == 413
    names = [f"root://origin//{'x' * 300}{number}.root" for number in range(10_000)]
    assert client.post(submit, json={**BODY, "file-list": names}).status_code == 200


@pytest.mark.parametrize("path", ["/servicex/transformation", "/servicex/internal/lease"])
@pytest.mark.parametrize(
    "body",
    ["[" * 100_000, '{"a":' * 100_000, "[1", "7", "null"],
    ids=["nested-lists", "nested-objects", "unfinished", "number", "null"],
)
def test_a_body_that_is_no_object_is_refused(client: TestClient, path: str, body: str) -> None:
    response = client.post(path, content=body.encode(), headers=POOL)
    assert response.status_code == 400
    assert response.json()["message"]


def test_a_submission_waits_for_a_database_that_restarts(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit, tries = TransformRequests.submit, []

    def restarting(self: TransformRequests, *arguments: Any) -> Any:
        tries.append(1)
        if len(tries) < 3:
            raise OperationalError("INSERT", {}, Exception("the server closed the connection"))
        return submit(self, *arguments)

    monkeypatch.setattr(TransformRequests, "submit", restarting)
    assert client.post("/servicex/transformation", json=BODY).status_code == 200
    monkeypatch.setattr(api, "SUBMIT_RETRY_TIMEOUT_S", 0)
    tries.clear()
    response = client.post("/servicex/transformation", json=BODY)
    assert response.status_code == 503
    assert "database does not respond" in response.json()["message"]


def test_datasets_are_listed_as_the_client_reads_them(client: TestClient, backend: Backend) -> None:
    body = {key: value for key, value in BODY.items() if key != "file-list"}
    client.post("/servicex/transformation", json={**body, "did": "xrootd://root://h//*"})
    file = {"paths": ["root://h//a"], "size": 3, "events": 0, "adler32": ""}
    backend.datasets.look_up(lambda _: [file], unchanged)
    (one,) = client.get("/servicex/datasets").json()["datasets"]
    dataset = CachedDataset(**client.get(f"/servicex/datasets/{one['id']}").json())
    assert (dataset.n_files, dataset.size, dataset.lookup_status) == (1, 3, "complete")
    assert dataset.files and dataset.files[0].paths == "root://h//a"
    assert client.delete(f"/servicex/datasets/{one['id']}").json()["stale"] is True


def test_pages_and_the_links_that_the_client_prints(client: TestClient, request_id: str) -> None:
    assert f"transformation-request/{request_id}" in client.get("/transformation-request").text
    for path in (request_id, f"{request_id}/results?status=failure", f"/{request_id}/results"):
        page = client.get(f"/transformation-request/{path}")
        assert page.status_code == 200, path
        assert "Cancel" in page.text
    shown = client.get(f"/transformation-request/{request_id}", params={"first": "0"})
    assert "a.root" in shown.text
    for bad in ("x", "-1", "1.5"):
        response = client.get(f"/transformation-request/{request_id}", params={"first": bad})
        assert (response.status_code, "first: " in response.json()["message"]) == (400, True)
    assert "Running" in client.get(f"/transformation-request/{request_id}/log").text
    canceled = client.post(f"/transformation-request/{request_id}/cancel")
    assert canceled.status_code == 303
    assert "Canceled" in client.get(f"/transformation-request/{request_id}").text


def test_what_is_uncertain_of_files_is_in_status_page_and_log(
    client: TestClient, backend: Backend, request_id: str
) -> None:
    path = f"/servicex/transformation/{request_id}"
    assert client.get(path).json()["remarks"] == ""
    with transaction(backend.context.engine) as session:
        session.get_one(Request, request_id).remarks = "1 of 1 files are of unknown age"
    assert client.get(path).json()["remarks"] == "1 of 1 files are of unknown age"
    for page in (request_id, f"{request_id}/log"):
        assert "of unknown age" in client.get(f"/transformation-request/{page}").text


@pytest.mark.parametrize("path", ["/metrics", "/servicex/internal/lease"])
def test_what_is_for_the_cluster_is_not_found_from_outside(client: TestClient, path: str) -> None:
    assert client.get(path).status_code != 404
    assert client.get(f"/services/servicex{path}").status_code == 404
    assert client.get("/services/servicex/servicex").status_code == 200


def counters(client: TestClient) -> dict[str, float]:
    """Return the counters of what has ended, those that are zero too."""
    lines = [line.rpartition(" ") for line in client.get("/metrics").text.splitlines()]
    return {name: float(number) for name, _, number in lines if "_total" in name and name[0] != "#"}


def test_health_and_metrics(client: TestClient, request_id: str) -> None:
    assert client.get("/healthz").text == client.get("/livez").text == "ok"
    assert 'servicex_requests{state="Running"} 1.0' in client.get("/metrics").text
    assert client.delete(f"/servicex/transformation/{request_id}").status_code == 200
    assert client.get(f"/servicex/transformation/{request_id}").status_code == 404
    assert counters(client) == {
        'servicex_requests_total{status="complete"}': 0,
        'servicex_requests_total{status="failed"}': 0,
        'servicex_requests_total{status="bad_dataset"}': 0,
        'servicex_requests_total{status="canceled"}': 1,
        'servicex_requests_total{status="reused"}': 0,
        'servicex_files_total{status="done"}': 0,
        'servicex_files_total{status="failed"}': 0,
        'servicex_files_total{status="canceled"}': 1,
        "servicex_delivered_bytes_total": 0,
    }


def test_counters_show_what_was_delivered(
    client: TestClient, request_id: str, tmp_path: Path
) -> None:
    lease = post_internal(client, "lease", transformer="t", memory=4000).json()
    _store(tmp_path, request_id, b"0123456789")
    before = counters(client)
    report = {"attempt": 1, "events": 5, "read": 7, "seconds": 1.5}
    for _ in range(2):
        post_internal(client, f"files/{lease['file']}/complete", **report)
    after = counters(client)
    assert {name: after[name] - before[name] for name in after if after[name] != before[name]} == {
        'servicex_requests_total{status="complete"}': 1,
        'servicex_files_total{status="done"}': 1,
        "servicex_delivered_bytes_total": 10,
    }
