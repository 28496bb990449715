"""Why a cache could not log in: told from its metrics."""

import http.server
import threading
from collections.abc import Iterator

import pytest
from coffea_shoppe_contract import origin_logins
from coffea_shoppe_contract.origin_logins import WITHOUT_CREDENTIAL, explained, login_failure

ORIGIN = "cms.example:1094"
OTHER = "xcache_sent_bytes_total 5.0\n"
FAILED = f'xcache_credential_renewal_failed{{origin="{ORIGIN}"}} 0.0\n'
EXPIRY = f'xcache_credential_expiry_timestamp_seconds{{origin="{ORIGIN}"}} 1.9e+09\n'
OPERATORS = "tell the facility's operators"


@pytest.mark.parametrize(
    ("metrics", "now", "sentence"),
    [
        (OTHER, 0, WITHOUT_CREDENTIAL),
        (
            OTHER + FAILED,
            0,
            f"the facility has no usable credential for {ORIGIN}: {OPERATORS}",
        ),
        (
            OTHER + FAILED + EXPIRY,
            1_900_000_000,
            f"the facility's credential for {ORIGIN} expired at 2030-03-17 17:46:40 UTC: "
            f"{OPERATORS}",
        ),
        (
            OTHER + FAILED + EXPIRY,
            1_899_999_999,
            f"{ORIGIN} refuses the facility's credential, which may be revoked, or lack the right "
            f"to read this file: {OPERATORS}",
        ),
        ("something else", 0, ""),
    ],
)
def test_the_state_of_the_credential_is_the_cause(metrics: str, now: float, sentence: str) -> None:
    assert explained(metrics, now) == sentence


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cache on this machine, whose metrics have a credential that expired."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/metrics" else 404)
            self.end_headers()
            self.wfile.write((FAILED + EXPIRY.replace("1.9e", "1.7e")).encode())

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    monkeypatch.setattr(origin_logins, "METRICS_PORT", server.server_address[1])
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield
    server.shutdown()
    server.server_close()


@pytest.mark.usefixtures("exporter")
def test_the_cache_at_the_address_is_asked() -> None:
    sentence = login_failure("root://127.0.0.1:1094//root://cms.example:1094//store/f.root")
    assert sentence.startswith(f"the facility's credential for {ORIGIN} expired at 2023-11-14")


@pytest.mark.parametrize("address", ["root://127.0.0.1:1094//f.root", "/a/path", "root://"])
def test_without_a_cache_nothing_is_known(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(origin_logins, "METRICS_PORT", 9)
    assert login_failure(address) == ""
