"""What a notebook is told of its facility."""

import json
import pickle
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import coffea_shoppe as shoppe
import pytest
from coffea_shoppe.serving import default_name
from coffea_shoppe_contract import identity

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

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            good = self.headers["Authorization"] == "Bearer good"
            self.send_response(200 if good and self.path == identity.STATUS_PATH else 401)
            self.end_headers()
            self.wfile.write(json.dumps(GOOD if good else {"error": "expired"}).encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture
def pod(api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pod's folder of tokens and connections."""
    monkeypatch.setenv(identity.ENV_FOLDER, str(tmp_path))
    (tmp_path / "connections.json").write_text(json.dumps({"api": api}))
    (tmp_path / "token-api").write_text("good\n")
    return tmp_path


@pytest.mark.usefixtures("pod")
def test_the_status_tells_who_i_am_and_what_answers() -> None:
    found = shoppe.status()
    assert (found.user, found.groups) == ("ann", ("cms",))
    text = str(found)
    assert "ann (cms), tokens good until 08:00:00 UTC" in text
    assert "NOT healthy: Connection refused" in text
    assert "MLflow         NOT mine yet: it is <down>" in text
    assert "fine" not in text
    assert "it is &lt;down&gt;" in found._repr_html_()
    assert "<td" in found._repr_html_()


def test_a_token_is_read_anew_each_time(pod: Path) -> None:
    assert shoppe.token("api") == "good"
    (pod / "token-api").write_text("bad")
    assert shoppe.token("api") == "bad"
    with pytest.raises(shoppe.FacilityError, match="refused: expired"):
        shoppe.status()


@pytest.mark.usefixtures("pod")
def test_a_service_without_tokens_is_named() -> None:
    with pytest.raises(shoppe.FacilityError, match="no tokens for 'grid'; there are for: api"):
        shoppe.token("grid")


def test_an_api_that_is_down_is_named(pod: Path) -> None:
    (pod / "connections.json").write_text(json.dumps({"api": "http://127.0.0.1:9"}))
    with pytest.raises(shoppe.FacilityError, match="does not answer"):
        shoppe.status()


def test_outside_of_a_facility_the_remedy_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(identity.ENV_FOLDER, str(tmp_path / "nowhere"))
    with pytest.raises(shoppe.FacilityError, match="no pod of a facility"):
        shoppe.connections()


def test_a_facility_without_an_object_store_says_so(pod: Path) -> None:
    with pytest.raises(shoppe.FacilityError, match="no object store"):
        shoppe.storage()


def test_a_bucket_is_used_with_the_keys_of_the_moment(pod: Path) -> None:
    def put(account: str) -> None:
        keys = {"AccessKeyId": account, "SecretAccessKey": "secret"}
        (pod / identity.S3_KEYS_FILE).write_text(json.dumps(keys))

    (pod / identity.S3_CONFIG_FILE).write_text(
        "[default]\nregion = here\nendpoint_url = http://127.0.0.1:9\n"
    )
    (pod / identity.S3_BUCKET_FILE).write_text("user-ann")
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
