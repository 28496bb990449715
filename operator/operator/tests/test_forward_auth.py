"""Browsers at the pages of services: who has logged in at the hub gets the own token."""

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
from coffea_shoppe_contract.api import AUTHORIZE_PATH, WORKSPACE_HEADER
from coffea_shoppe_operator import api, forward_auth, services
from coffea_shoppe_operator.adapters.mlflow import MlflowSettings
from coffea_shoppe_operator.clients.hub import CACHE_S, Hub
from coffea_shoppe_operator.errors import StorageError
from coffea_shoppe_operator.models import HubSettings
from http_server import Request, serving
from starlette.testclient import TestClient
from test_services import SETTINGS, Memory, ann, verify

PAGE = {"Accept": "text/html", "X-Forwarded-Method": "GET", "X-Forwarded-Host": "facility.org"}
URI = "/services/mlflow/#/experiments?x=1"
OWN = "access:services!service=api"


class HubServer:
    """A hub that knows whose tokens are whose."""

    def __init__(self) -> None:
        self.tokens: dict[str, dict[str, Any]] = {
            "of-ann": {"name": "ann", "scopes": [OWN]},
            "of-bob": {"name": "bob", "scopes": [OWN]},
            "of-ann-s-server": {"name": "ann", "scopes": ["access:services!service=dask-gateway"]},
        }
        self.asked = 0
        self.down = False
        self.exchanged: dict[str, list[str]] = {}


@pytest.fixture
def server() -> HubServer:
    return HubServer()


@pytest.fixture
def hub(server: HubServer, tmp_path: Path) -> Iterator[Hub]:
    """A client of such a hub, with a clock of the test's own."""

    def respond(request: Request) -> tuple[int, object]:
        if request.method == "POST":
            server.exchanged = parse_qs(request.body.decode())
            good = server.exchanged["code"] == ["good"]
            return (200, {"access_token": "of-ann"}) if good else (400, {})
        server.asked += 1
        if server.down:
            return 500, {"message": "no database"}
        user = server.tokens.get(request.headers["Authorization"].removeprefix("token "))
        return (200, user) if user else (403, {})

    file = tmp_path / "token"
    file.write_text("k" * 48)
    with serving(respond) as url:
        yield Hub(HubSettings(url=f"{url}/hub/api", token=file))


class Cluster(Memory):
    """A cluster with one user, who may be disabled."""

    disabled = False
    username = "ann"

    def read_user(self, namespace: str, name: str) -> dict[str, Any] | None:
        spec = {"username": self.username, "groups": ["cms", "<b>"], "disabled": self.disabled}
        return {"metadata": {"name": "ann", "uid": "u1"}, "spec": spec} if name == "ann" else None


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def browser(hub: Hub, cluster: Cluster) -> TestClient:
    import time

    mlflow = MlflowSettings(endpoint="http://mlflow:5000")
    settings = SETTINGS.model_copy(update={"hub": hub.settings, "mlflow": mlflow})
    services.Facility(settings, cluster).reconcile(ann(), time.time())
    application = api.application(settings, cluster)  # type: ignore[arg-type]
    return TestClient(application, base_url="https://facility.org", follow_redirects=False)


def login(response: Any) -> tuple[str, dict[str, str]]:
    """Return the path and the parameters to which a browser is sent to log in."""
    assert response.status_code == 401
    to = urlsplit(unescape(re.findall(r"url=([^\"]+)\"", response.text)[0]))
    return to.path, {name: value for name, (value,) in parse_qs(to.query).items()}


def ask(browser: TestClient, service: str = "mlflow", **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    asked = {**PAGE, "X-Forwarded-Uri": URI, **named}
    return browser.get(f"{AUTHORIZE_PATH}?service={service}", headers=asked)


def test_a_browser_logs_in_and_gets_the_user_s_token(
    browser: TestClient, server: HubServer, cluster: Cluster
) -> None:
    import time

    path, asked = login(ask(browser))
    assert path == "/hub/api/oauth2/authorize"
    assert (asked["client_id"], asked["redirect_uri"]) == ("service-api", "/services/api/callback")
    back = browser.get(f"/services/api/callback?code=good&state={asked['state']}")
    assert (back.status_code, back.headers["Location"]) == (302, URI)
    assert server.exchanged["client_secret"] == ["k" * 48]
    assert server.exchanged["redirect_uri"] == ["/services/api/callback"]
    cookie = next(
        c for c in back.headers.get_list("set-cookie") if c.startswith(forward_auth.SESSION)
    )
    assert {"HttpOnly", "Path=/services/", "SameSite=lax"} <= set(cookie.split("; "))
    # The proxy passes the cookie on that the browser sent for the page.
    with_cookie = {"Cookie": f"{forward_auth.SESSION}={browser.cookies[forward_auth.SESSION]}"}
    passed = ask(browser, **with_cookie)
    assert passed.status_code == 200
    token = passed.headers["Authorization"].removeprefix("Bearer ")
    assert verify(cluster, token.encode(), time.time(), "mlflow").user == "ann"
    assert passed.headers[WORKSPACE_HEADER] == "user-ann"
    assert ask(browser, X_Mlflow_Workspace="user-bob", **with_cookie).headers[WORKSPACE_HEADER] == (
        "user-bob"
    ), "which workspaces are the user's to see is MLflow's to say"


def test_a_dashboard_is_told_whose_browser_asks(browser: TestClient) -> None:
    with_cookie = {"Cookie": f"{forward_auth.SESSION}=of-ann"}
    passed = ask(browser, "dask-gateway", **with_cookie)
    assert passed.headers[forward_auth.USER_HEADER] == "ann"
    assert "Authorization" not in passed.headers
    login(ask(browser, "dask-gateway", X_Forwarded_User="ann"))
    # Who comes with a token is for the gateway to find out.
    given = ask(browser, "dask-gateway", Authorization="token of-ann-s-server", **with_cookie)
    assert given.headers["Authorization"] == "token of-ann-s-server"
    assert forward_auth.USER_HEADER not in given.headers


def test_who_brings_a_token_is_left_to_the_service(browser: TestClient) -> None:
    own = {"Authorization": "Bearer of-whomever", "X_Mlflow_Workspace": "user-bob"}
    passed = ask(browser, **own)
    assert passed.status_code == 200
    assert passed.headers["Authorization"] == "Bearer of-whomever"
    assert passed.headers[WORKSPACE_HEADER] == "user-bob"
    assert ask(browser, Origin="https://evil.org", **own).status_code == 403


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("code=bad", "the hub issued no token: 400"),
        ("error=access_denied", "the hub refused the login: access_denied"),
    ],
)
def test_a_login_that_the_hub_refuses_gives_no_cookie(
    browser: TestClient, code: str, message: str
) -> None:
    _, asked = login(ask(browser))
    back = browser.get(f"/services/api/callback?{code}&state={asked['state']}")
    assert back.status_code in (403, 503)
    assert message in back.json()["error"]
    assert forward_auth.SESSION not in str(back.headers)


def test_a_login_that_another_browser_began_is_refused(browser: TestClient) -> None:
    _, asked = login(ask(browser))
    begun = browser.cookies[forward_auth.STATE]
    browser.cookies.clear()
    forged = jwt.encode({"next": "//evil", "state": asked["state"]}, "l" * 48, "HS256")
    for cookie, state in ((begun, "other"), (begun, ""), ("", asked["state"]), (forged, "")):
        headers = {"Cookie": f"{forward_auth.STATE}={cookie}"}
        back = browser.get(f"/services/api/callback?code=good&state={state}", headers=headers)
        assert (back.status_code, "did not start here" in back.text) == (400, True)
    headers = {"Cookie": f"{forward_auth.STATE}={forged}"}
    where = f"/services/api/callback?code=good&state={asked['state']}"
    assert browser.get(where, headers=headers).status_code == 400
    assert (
        browser.get(where, headers={"Cookie": f"{forward_auth.STATE}={begun}"}).status_code == 302
    )


def test_who_may_not_is_told_why(browser: TestClient, cluster: Cluster) -> None:
    assert ask(browser, Accept="application/json").status_code == 401
    assert ask(browser, X_Forwarded_Method="POST").status_code == 401
    assert ask(browser, Authorization="token of-ann").status_code == 200
    assert ask(browser, Authorization="token wrong", Accept="*/*").status_code == 401
    server = ask(browser, Authorization="token of-ann-s-server", Accept="*/*")
    assert server.status_code == 401, "what other services see opens nothing"
    bob = ask(browser, Authorization="token of-bob")
    assert (bob.status_code, "log in at the hub again" in bob.text) == (403, True)
    other = ask(browser, Authorization="token of-ann", Origin="https://evil.org")
    assert (other.status_code, "refuses pages of https://evil.org" in other.text) == (403, True)
    own = ask(browser, Authorization="token of-ann", Origin="https://facility.org")
    assert own.status_code == 200
    assert ask(browser, "mlflow-admin", Authorization="token of-ann").status_code == 404
    cluster.username = "another of a similar name"
    similar = ask(browser, Authorization="token of-ann")
    assert (similar.status_code, "ask the administrators" in similar.text) == (403, True)
    cluster.username, cluster.disabled = "ann", True
    disabled = ask(browser, Authorization="token of-ann")
    assert (disabled.status_code, "is disabled" in disabled.text) == (403, True)


def test_a_login_leads_from_the_services_host_to_the_hub_s_and_back(
    hub: Hub, server: HubServer, cluster: Cluster
) -> None:
    services_url = "https://all--services.facility.org"
    urls = {"public_url": "https://facility.org", "services_url": services_url}
    settings = SETTINGS.model_copy(update={"hub": hub.settings.model_copy(update=urls)})
    application = api.application(settings, cluster)  # type: ignore[arg-type]
    browser = TestClient(application, base_url=services_url, follow_redirects=False)
    response = browser.get("/services/api/")
    (url,) = re.findall(r"url=([^\"]+)\"", response.text)
    assert url.startswith("https://facility.org/hub/api/oauth2/authorize?")
    _, parameters = login(response)
    callback = f"{services_url}/services/api/callback"
    assert parameters["redirect_uri"] == callback
    back = browser.get(f"{callback}?code=good&state={parameters['state']}")
    assert (back.status_code, back.headers["Location"]) == (302, "/services/api/")
    assert server.exchanged["redirect_uri"] == [callback]


def test_the_status_page_shows_what_is_the_user_s(browser: TestClient) -> None:
    path, _ = login(browser.get("/services/api/"))
    assert path == "/hub/api/oauth2/authorize"
    shown = browser.get("/services/api/", headers={"Authorization": "token of-ann"})
    assert shown.status_code == 200
    assert re.search(r"<h1>ann</h1><p>cms, &lt;b&gt;</p>", shown.text)


def test_the_hub_is_asked_rarely_and_again(hub: Hub, server: HubServer) -> None:
    moment = [0.0]
    hub.clock = lambda: moment[0]
    assert [hub.user("of-ann") for _ in range(3)] == ["ann"] * 3
    assert server.asked == 1
    del server.tokens["of-ann"]
    moment[0] = CACHE_S + 1
    assert hub.user("of-ann") is None


def test_an_unavailable_hub_is_named(hub: Hub, server: HubServer) -> None:
    away = Hub(HubSettings(url="http://127.0.0.1:9/hub/api", token=hub.settings.token))
    with pytest.raises(StorageError, match="the hub: user"):
        away.user("any")
    server.down = True
    with pytest.raises(StorageError, match="the hub did not return the token's user: 500"):
        hub.user("of-ann")
    with pytest.raises(StorageError, match="the hub: key"):
        Hub(HubSettings(url="http://127.0.0.1:9", token=Path("/absent"))).key()
