"""How a user meets a hub that refuses, or that is away."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests
from shoppe_ci.errors import ShoppeError
from shoppe_ci.facility import User

TOKEN = "0123abcd"  # noqa: S105  (of a hub that is not there)


class Hub(BaseHTTPRequestHandler):
    """A hub that knows one token, and whose login page is away."""

    def do_GET(self) -> None:
        """Answer as JupyterHub's API and proxy do."""
        known = self.headers.get("Authorization") == f"token {TOKEN}"
        status = 503 if self.path == "/hub/login" else 200 if known else 403
        body = json.dumps({"name": "ann"}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def hub() -> Iterator[str]:
    """The address of the hub."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_login_page_that_is_away_is_an_error_with_a_remedy(hub: str) -> None:
    with pytest.raises(ShoppeError, match="/hub/login cannot be opened: HTTP status 503") as error:
        # Without the retries of a user's own session.
        User(hub, "ann", requests.Session()).login("secret")
    assert "ci/shoppe status" in error.value.remedy


def test_a_token_says_whose_it_is(hub: str) -> None:
    assert User.with_token(f"{hub}/", TOKEN).name == "ann"


def test_an_unknown_token_is_refused_without_being_shown(hub: str) -> None:
    with pytest.raises(ShoppeError, match="refused the token: HTTP status 403") as error:
        User.with_token(hub, "f00d")
    assert "f00d" not in f"{error.value.problem}{error.value.remedy}"
