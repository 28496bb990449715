"""Status, tokens, connections and bucket of a user, in a notebook."""

import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import coffea_shoppe as shoppe
import pytest
from coffea_shoppe import bucket
from coffea_shoppe.connections import mlflow_address
from coffea_shoppe.serving import default_name
from coffea_shoppe_contract.api import STATUS_PATH
from coffea_shoppe_contract.files import (
    ENV_IDENTITY_FOLDER,
    S3_BUCKET_FILE,
    S3_CONFIG_FILE,
    S3_KEYS_FILE,
)
from http_server import Request, serving

GOOD = {
    "user": "ann",
    "groups": ["cms"],
    "validUntil": 1_800_000_000,
    "conditions": [
        {"type": "Ready", "status": "True", "reason": "Ready", "message": "fine"},
        {"type": "MLflow", "status": "False", "reason": "Unavailable", "message": "it is <down>"},
    ],
    "quota": [
        {"service": "xcache", "what": "cores", "unit": "", "used": 2.0, "limit": 8},
        {"service": "xcache", "what": "memory", "unit": "GiB", "used": 1.5, "limit": 0},
    ],
    "services": {
        "xcache": {"address": "root://c:1094", "healthy": True, "problem": ""},
        "mlflow": {"address": "http://m", "healthy": False, "problem": "Connection refused"},
    },
}


@pytest.fixture
def api() -> Iterator[str]:
    """A facility API that knows one token."""

    def respond(request: Request) -> tuple[int, object]:
        if request.headers["Authorization"] == "Bearer proxied":
            return 502, b"<html>Bad Gateway</html>"
        good = request.headers["Authorization"] == "Bearer good"
        status = 200 if good and request.path == STATUS_PATH else 401
        return status, GOOD if good else {"error": "expired"}

    with serving(respond) as url:
        yield f"{url}/"


@pytest.fixture
def pod(api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pod's folder of tokens and connections."""
    monkeypatch.setenv(ENV_IDENTITY_FOLDER, str(tmp_path))
    (tmp_path / "connections.json").write_text(json.dumps({"api": api}))
    (tmp_path / "token-api").write_text("good\n")
    return tmp_path


@pytest.mark.usefixtures("pod")
def test_the_status_contains_user_and_services() -> None:
    found = shoppe.status()
    assert (found.user, found.groups) == ("ann", ("cms",))
    text = str(found)
    assert "ann (cms), tokens valid until 08:00:00 UTC" in text
    assert "NOT healthy: Connection refused" in text
    assert "MLflow         NOT ready yet: it is <down>" in text
    assert "fine" not in text
    assert "it is &lt;down&gt;" in found._repr_html_()
    assert "<td" in found._repr_html_()


def test_a_token_is_read_for_each_request(pod: Path) -> None:
    assert shoppe.token("api") == "good"
    (pod / "token-api").write_text("bad")
    assert shoppe.token("api") == "bad"
    with pytest.raises(shoppe.FacilityError, match="the facility API refused the request: expired"):
        shoppe.status()


def test_an_error_page_of_a_proxy_is_an_error(pod: Path) -> None:
    (pod / "token-api").write_text("proxied")
    with pytest.raises(shoppe.FacilityError, match="sent 502 Bad Gateway instead of JSON"):
        shoppe.status()


@pytest.mark.usefixtures("pod")
def test_a_service_without_tokens_is_named() -> None:
    message = "service: there is no token for 'grid'; give one of api$"
    with pytest.raises(shoppe.FacilityError, match=message):
        shoppe.token("grid")


def test_a_token_of_any_service_of_the_facility_is_read(pod: Path) -> None:
    (pod / "token-toy").write_text("of the toy\n")
    assert shoppe.token("toy") == "of the toy"
    with pytest.raises(shoppe.FacilityError, match=r"give one of api, toy$"):
        shoppe.token("../token-toy")


def test_missing_tokens_are_reported_with_the_remedy(pod: Path) -> None:
    (pod / "token-api").unlink()
    with pytest.raises(shoppe.FacilityError, match="no tokens: restart your server"):
        shoppe.token("api")


def test_an_api_that_is_down_is_named(pod: Path) -> None:
    (pod / "connections.json").write_text(json.dumps({"api": "http://127.0.0.1:9"}))
    with pytest.raises(shoppe.FacilityError, match="does not respond"):
        shoppe.status()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"api": "127.0.0.1:9"}', r"'127\.0\.0\.1:9/status', which is not a URL: correct it in"),
        ('{"api": "http://"}', "which is not a URL: correct it in"),
        ('{"api"', r"connections\.json is not valid JSON"),
    ],
)
def test_a_damaged_file_of_connections_is_named(pod: Path, text: str, message: str) -> None:
    (pod / "connections.json").write_text(text)
    with pytest.raises(shoppe.FacilityError, match=message):
        shoppe.status()


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"treename": "Events"}, "query is a dict; give a query of the ServiceX client"),
        ('[{"treename": "Events"}]', "codegen is missing, which a selection given as text needs"),
    ],
)
def test_an_estimate_needs_a_query_of_the_client(query: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        shoppe.estimate(["a.root"], query)


def test_outside_of_a_facility_the_remedy_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENV_IDENTITY_FOLDER, str(tmp_path / "nowhere"))
    with pytest.raises(shoppe.FacilityError, match=f"set {ENV_IDENTITY_FOLDER} to a folder"):
        shoppe.connections()


def test_a_facility_without_an_object_store_says_so(pod: Path) -> None:
    with pytest.raises(shoppe.FacilityError, match="no object store"):
        shoppe.storage()


def test_a_bucket_is_used_with_the_keys_of_the_moment(
    pod: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The attempts take a minute in all.
    monkeypatch.setattr(bucket, "ATTEMPTS", 1)

    def put(account: str) -> None:
        keys = {"AccessKeyId": account, "SecretAccessKey": "secret"}
        (pod / S3_KEYS_FILE).write_text(json.dumps(keys))

    (pod / S3_CONFIG_FILE).write_text(
        "[default]\nregion = here\nendpoint_url = http://127.0.0.1:9\n"
    )
    (pod / S3_BUCKET_FILE).write_text("user-ann")
    put("user-ann")
    mine = shoppe.storage()
    first = mine.fs
    assert first == mine.fs
    assert first.base_path == "user-ann/"
    put("user-ann.2")
    assert mine.fs != first
    assert mine.fs == shoppe.storage().fs, "it is the same bucket by the same keys"
    # Nobody listens there: a file is opened all the same as by any file system of fsspec.
    with pytest.raises(OSError, match=r"127\.0\.0\.1|[Cc]onnect"), mine.open("x") as file:
        file.read()
    # On a worker it takes the keys that are there.
    assert pickle.loads(pickle.dumps(mine)).fs == mine.fs  # noqa: S301


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("models:/bdt@prod", "bdt"),
        ("models:/AGC ttbar/3", "agc-ttbar"),
        ("models:/_x_/1", "x"),
        (f"models:/{'a' * 60}/1", "a" * 48),
    ],
)
def test_a_model_is_served_under_its_own_name_unless_told(uri: str, name: str) -> None:
    assert default_name(uri) == name


@pytest.mark.parametrize(("provider", "address"), [("coffea-shoppe", "http://m"), ("", "")])
def test_a_token_is_for_an_mlflow_that_takes_it(
    monkeypatch: pytest.MonkeyPatch, provider: str, address: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://m")
    monkeypatch.setenv("MLFLOW_TRACKING_AUTH", provider)
    assert mlflow_address() == address
