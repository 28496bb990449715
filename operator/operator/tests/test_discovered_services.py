"""Services that the operator discovers; `charts/tests/test_toy_service.py` adds one."""

import json
from collections.abc import Iterator

import pytest
from coffea_shoppe_contract.claims import AUDIENCES
from coffea_shoppe_operator.clients.http import Client
from coffea_shoppe_operator.errors import StorageError
from coffea_shoppe_operator.models import Settings
from http_server import Request, serving
from pydantic import ValidationError
from test_services import SETTINGS

Received = list[tuple[str, str, str, object]]


@pytest.fixture
def received() -> Received:
    """Method, path, authorization and body of each request."""
    return []


@pytest.fixture
def service(received: Received) -> Iterator[str]:
    """The address of a service that has one user, ann."""

    def respond(request: Request) -> tuple[int, object]:
        authorization, body = request.headers["Authorization"], json.loads(request.body)
        received.append((request.method, request.path, authorization, body))
        return 200 if request.path == "/users/ann" else 404, b"no such user"

    with serving(respond) as url:
        yield f"{url}/"


def test_a_request_has_the_token_and_the_body(service: str, received: Received) -> None:
    Client("toy", service).send("PUT", "/users/ann", "signed", {"notes": 3})
    assert received == [("PUT", "/users/ann", "Bearer signed", {"notes": 3})]


def test_a_refusal_is_an_error_that_names_service_and_reason(service: str) -> None:
    with pytest.raises(StorageError, match="toy: /users/bob: 404 no such user"):
        Client("toy", service).send("PUT", "/users/bob", "signed", {})


def test_a_service_that_does_not_respond_is_an_error() -> None:
    with pytest.raises(StorageError, match=r"toy: /users/ann: .*refused"):
        Client("toy", "http://127.0.0.1:9").send("PUT", "/users/ann", "signed", {})


def test_a_service_without_an_adapter_is_refused() -> None:
    settings = SETTINGS.model_dump(by_alias=True, exclude_none=True)
    assert Settings.model_validate(settings).audiences == AUDIENCES
    with pytest.raises(ValidationError, match="no adapters for toy: remove them, or use"):
        Settings.model_validate({**settings, "services": {"toy": {"endpoint": "http://toy"}}})
