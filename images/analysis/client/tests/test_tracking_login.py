"""The facility's token goes to the facility's MLflow, and to no other."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import pytest
import requests
from coffea_shoppe.tracking import FacilityAuth
from coffea_shoppe_contract.api import WORKSPACE_HEADER
from coffea_shoppe_contract.files import (
    CONNECTIONS_FILE,
    ENV_IDENTITY_FOLDER,
    WORKSPACE_FILE,
    token_file,
)
from http_server import Request, serving

Received = list[dict[str, str]]


@contextmanager
def tracking_server(received: Received) -> Iterator[str]:
    """A tracking server that finds no experiments; `received` gets the headers of requests."""

    def respond(request: Request) -> tuple[int, object]:
        received.append(dict(request.headers))
        return 200, {}

    with serving(respond) as url:
        yield url


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Tell the pod where the facility's MLflow is; it has a login at another one, too."""
    monkeypatch.setenv(ENV_IDENTITY_FOLDER, str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_AUTH", "coffea-shoppe")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "mine")
    (tmp_path / token_file("mlflow")).write_text("facility")
    (tmp_path / WORKSPACE_FILE).write_text("user-ann")

    def connect(address: str) -> None:
        (tmp_path / CONNECTIONS_FILE).write_text(json.dumps({"mlflow": address}))

    return connect


def test_another_tracking_server_gets_the_user_s_own_login(pod: Callable[[str], None]) -> None:
    facility: Received = []
    other: Received = []
    try:
        with tracking_server(facility) as address, tracking_server(other) as external:
            pod(address)
            for uri in (address, external, f"{address}/"):
                mlflow.set_tracking_uri(uri)
                assert mlflow.search_experiments() == []
    finally:
        mlflow.set_tracking_uri(None)
    (foreign,) = [headers for headers in other if "Authorization" in headers]
    assert foreign["Authorization"].startswith("Basic ")
    assert WORKSPACE_HEADER not in foreign
    signed = [headers for headers in facility if "Authorization" in headers]
    assert len(signed) == 2
    for headers in signed:
        assert headers["Authorization"] == "Bearer facility"
        assert headers[WORKSPACE_HEADER] == "user-ann"


@pytest.mark.parametrize(
    ("address", "url", "signed"),
    [
        ("http://shoppe-mlflow.shoppe:5000", "http://shoppe-mlflow.shoppe:5000/api/2.0", True),
        ("http://shoppe-mlflow.shoppe:5000/", "http://SHOPPE-mlflow.shoppe:5000/api", True),
        ("https://mlflow.org", "https://mlflow.org:443/api", True),
        ("https://host/mlflow", "https://host/mlflow/api", True),
        ("https://host/mlflow", "https://host/mlflow-of-others/api", False),
        ("https://host/mlflow", "https://host/other", False),
        ("https://host/mlflow", "https://host/mlflow/%2e%2e/other", False),
        ("http://shoppe-mlflow.shoppe:5000", "http://shoppe-mlflow.shoppe:5001/api", False),
        ("http://shoppe-mlflow.shoppe:5000", "https://shoppe-mlflow.shoppe:5000/api", False),
        ("http://shoppe-mlflow.shoppe:5000", "http://shoppe-mlflow.shoppe.org:5000/api", False),
        ("http://mlflow:5000", "http://mlflow:5000@evil.org/api", False),
        ("http://mlflow:5000", "http://mlflow/api", False),
        ("", "http://mlflow:5000/api", False),
    ],
)
def test_a_request_is_signed_for_the_facility_s_own_address(
    pod: Callable[[str], None], address: str, url: str, signed: bool
) -> None:
    pod(address)
    request = FacilityAuth()(requests.Request("GET", url).prepare())
    assert (request.headers.get("Authorization") == "Bearer facility") == signed
