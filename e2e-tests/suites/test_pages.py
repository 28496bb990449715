"""Pages of services without a server: a browser logs in at the hub, and sees the own things."""

import re
from collections.abc import Iterator
from html import unescape

import pytest
import requests
from coffea_shoppe_contract.names import resource_name, workspace_name
from coffea_shoppe_contract.resources import FACILITY_USERS
from lib.fixtures import dask_cluster, passing_user, remove_user, run_code
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from shoppe_ci import facility as facilities
from shoppe_ci.cluster import Cluster
from shoppe_ci.facility import User
from shoppe_ci.wait import eventually

LOG = (
    "import mlflow\n"
    "mlflow.set_experiment('of-{name}')\n"
    "with mlflow.start_run(): mlflow.log_metric('x', 1)\n"
)
FIND = "/services/mlflow/ajax-api/2.0/mlflow/experiments/search?max_results=50"


@pytest.fixture(scope="module")
def pia(facility: Cluster) -> Iterator[User]:
    for user in passing_user(facility, "pia.pages"):
        run_code(user, LOG.format(name=user.name))
        yield user


@pytest.fixture(scope="module")
def quin(facility: Cluster) -> Iterator[User]:
    for user in passing_user(facility, "quin.pages"):
        run_code(user, LOG.format(name=user.name))
        yield user


def opened(
    session: requests.Session, url: str, path: str = "/services/mlflow/"
) -> requests.Response:
    """Return the page that a browser ends at that opens a service's."""
    page = session.get(f"{url}{path}", headers={"Accept": "text/html"}, timeout=60)
    if page.status_code == 401 and (to := re.search(r'url=(/hub/[^"]+)"', page.text)):
        page = session.get(f"{url}{unescape(to[1])}", timeout=60)
    return page


def experiments(user: User) -> set[str]:
    """Return the names of what a browser finds that has logged in at the hub before."""
    page = opened(user.session, user.url)
    assert page.ok, page.text
    assert "<title>MLflow</title>" in page.text
    found = user.session.get(f"{user.url}{FIND}", timeout=60)
    assert found.ok, found.text
    return {one["name"] for one in found.json().get("experiments", ())} - {"Default"}


def test_each_sees_the_own_runs_and_nobody_s_else(pia: User, quin: User) -> None:
    assert experiments(pia) == {"of-pia.pages"}
    assert experiments(quin) == {"of-quin.pages"}


def test_who_has_never_had_a_server_sees_the_own_things(facility: Cluster) -> None:
    rita = User(facility.url, "rita.reads")
    rita.login(facilities.password(facility))
    resource = resource_name(rita.name)

    def ready() -> bool:
        found = facility.get(FACILITY_USERS, "-n", "shoppe", "--ignore-not-found", resource)
        told = (found or {}).get("status", {}).get("conditions", ())
        return {"Ready": "True", "MLflow": "True"}.items() <= {
            one["type"]: one["status"] for one in told
        }.items()

    eventually(ready, "the login has made a user of the facility", timeout=60)
    assert experiments(rita) == set()
    assert rita.name in opened(rita.session, rita.url, "/services/api/").text
    remove_user(facility, rita.name, data="remove")


def test_who_has_not_logged_in_sees_nothing(facility: Cluster, pia: User) -> None:
    assert pia.session.get(f"{pia.url}{FIND}", timeout=60).ok
    with requests.Session() as nobody:
        refused = nobody.get(f"{facility.url}{FIND}", timeout=60)
        assert (refused.status_code, refused.json()["error"]) == (401, "log in at the hub first")
        assert "/hub/login" in opened(nobody, facility.url).url
    posted = pia.session.post(
        f"{pia.url}/services/mlflow/ajax-api/2.0/mlflow/experiments/create",
        json={"name": "forged"},
        headers={"Origin": "https://evil.example.org"},
        timeout=60,
    )
    assert posted.status_code == 403
    assert "forged" not in str(experiments(pia))


@pytest.fixture(scope="module")
def dashboard(pia: User) -> Iterator[str]:
    """The path of the dashboard of a user's Dask cluster."""
    with dask_cluster(pia, workers=0) as (name, _):
        yield f"/services/dask-gateway/clusters/{name}"


def test_a_dashboard_is_its_owner_s_without_a_server(
    facility: Cluster, pia: User, quin: User, dashboard: str
) -> None:
    page = opened(pia.session, pia.url, f"{dashboard}/status")
    assert page.ok, page.text
    assert "bokeh" in page.text.lower()
    plots = pia.session.get(f"{pia.url}{dashboard}/individual-plots.json", timeout=60)
    assert plots.ok
    assert plots.json()
    assert opened(quin.session, quin.url).ok
    refused = quin.session.get(f"{quin.url}{dashboard}/status", timeout=60)
    assert refused.status_code == 403
    # Who is told by the proxy, and not by the browser.
    said = {"X-Forwarded-User": pia.name}
    path = f"{dashboard}/status"
    assert quin.session.get(f"{quin.url}{path}", headers=said, timeout=60).status_code == 403
    assert requests.get(f"{facility.url}{path}", headers=said, timeout=60).status_code == 401
    with requests.Session() as nobody:
        assert "/hub/login" in opened(nobody, facility.url, path).url


def test_the_requests_of_servicex_are_shown_to_their_user(
    facility: Cluster, pia: User, quin: User
) -> None:
    for user in pia, quin:
        page = opened(user.session, user.url, "/services/servicex/")
        assert page.ok, page.text
        assert f"Requests of {user.name}" in page.text
        assert page.url.endswith("/services/servicex/transformation-request")
    inside = pia.session.get(f"{pia.url}/services/servicex/metrics", timeout=60)
    assert inside.status_code == 404, "these are for the cluster alone"
    with requests.Session() as nobody:
        assert "/hub/login" in opened(nobody, facility.url, "/services/servicex/").url


def test_the_token_of_a_server_opens_no_page(facility: Cluster, pia: User) -> None:
    code = (
        "import os, requests\n"
        "token = {'Authorization': 'token ' + os.environ['JUPYTERHUB_API_TOKEN']}\n"
        "import coffea_shoppe as shoppe\n"
        "url = shoppe.connections()['api'] + '/authorize?service=mlflow'\n"
        "print(requests.get(url, headers=token).status_code)\n"
        "print(requests.get(os.environ['JUPYTERHUB_API_URL'] + '/user', headers=token).status_code)"
    )
    assert run_code(pia, code).split() == ["401", "200"]


def test_a_browser_sees_the_status_and_mlflow(
    facility: Cluster, pia: User, browser: Chrome
) -> None:
    browser.get(f"{facility.url}/services/api/")
    eventually(
        lambda: browser.find_elements(By.NAME, "username"), "the hub asks who is there", timeout=30
    )
    browser.find_element(By.NAME, "username").send_keys(pia.name)
    browser.find_element(By.NAME, "password").send_keys(facilities.password(facility))
    browser.find_element(By.ID, "login_submit").click()
    eventually(lambda: "Quota" in browser.page_source, "the status is shown", timeout=30)
    services = ("ObjectStore", "MLflow", "ServiceX", "Dask", "Triton")

    def well() -> bool:
        browser.refresh()
        text = browser.find_element(By.TAG_NAME, "body").text
        return all(re.search(rf"{service} ready", text) for service in services)

    # Who has just come may be told of a service that was replaced a moment ago.
    eventually(well, "each service is ready", timeout=60, every=5)
    text = browser.find_element(By.TAG_NAME, "body").text
    assert text.startswith(pia.name)
    assert re.search(r"dask-gateway clusters [01] 2", text), text
    # No second login.
    browser.get(f"{facility.url}/services/mlflow/")
    own = workspace_name(pia.name)
    shown = eventually(
        lambda: browser.find_elements(By.PARTIAL_LINK_TEXT, "user-"),
        "MLflow shows the workspaces",
        timeout=60,
    )
    assert [link.text for link in shown] == [own]
    shown[0].click()
    eventually(
        lambda: "of-pia.pages" in browser.find_element(By.TAG_NAME, "body").text,
        "MLflow shows the experiment",
        timeout=60,
    )
