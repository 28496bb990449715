"""Who may come in."""

import pytest
import requests
from shoppe_ci import counters, facility
from shoppe_ci.cluster import Cluster
from shoppe_ci.errors import ShoppeError
from shoppe_ci.facility import User


def test_the_facilitys_password_lets_any_name_in(facility: Cluster) -> None:
    user = User(facility.url, "visitor")
    user.login(_password(facility))
    assert user.hub("GET", "/user").json()["name"] == "visitor"


@pytest.mark.parametrize("secret", ["", "wrong", "password"])
def test_another_password_does_not(facility: Cluster, secret: str) -> None:
    user = User(facility.url, "intruder")
    with pytest.raises(ShoppeError, match="refused the login"):
        user.login(secret)
    assert user.hub("GET", "/user").status_code == 403


def test_nobody_is_an_administrator_by_name(facility: Cluster) -> None:
    user = User(facility.url, "admin")
    user.login(_password(facility))
    assert user.hub("GET", "/user").json()["admin"] is False
    assert user.hub("GET", "/users").status_code == 403


def test_a_server_is_closed_to_others(ann: User, facility: Cluster) -> None:
    assert ann.server("GET", "/api/status").status_code == 200
    stranger = User(facility.url, "stranger")
    stranger.login(_password(facility))
    for session in (stranger.session, requests.Session()):
        url = f"{facility.url}{ann.server_path}/api/contents"
        response = session.get(url, allow_redirects=False, timeout=30)
        assert response.status_code in (302, 403)


def test_a_token_reads_the_hub_s_metrics_and_nothing_else(ann: User, facility: Cluster) -> None:
    token = counters.hub_token(facility)

    def read(path: str) -> requests.Response:
        headers = {"Authorization": f"Bearer {token}"}
        return requests.get(f"{facility.url}/hub/{path}", headers=headers, timeout=30)

    values = {"hub": counters.parse(read("metrics").text)}
    started = "jupyterhub_server_spawn_duration_seconds_count"
    assert counters.total(values, started, {"status": "success"}) >= 1
    for path in ("api/users", "api/groups", "api/proxy"):
        assert read(path).status_code == 403, path
    assert ann.session.get(f"{facility.url}/hub/metrics", timeout=30).status_code == 403


def _password(cluster: Cluster) -> str:
    return facility.password(cluster)
