"""The cluster of `ci/shoppe test`, the facility in it, and its users."""

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lib.fixtures import new_user, passing_user
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from shoppe_ci import analysis, diagnostics, testing
from shoppe_ci import engine as engines
from shoppe_ci.cluster import Cluster
from shoppe_ci.engine import Engine
from shoppe_ci.facility import User
from shoppe_ci.paths import cache


@pytest.fixture(scope="session")
def engine() -> Engine:
    return engines.ensure()


@pytest.fixture(scope="session")
def facility(engine: Engine) -> Cluster:
    """The cluster with the whole facility installed and ready; it fails where there is none."""
    return testing.prepared(engine)


@pytest.fixture(scope="session")
def data_origin(facility: Cluster) -> Cluster:
    """The facility with an origin in the cluster that serves published files."""
    return facility


@pytest.fixture(scope="session")
def permanent_user(facility: Cluster, worker_id: str) -> Iterator[Callable[[str], User]]:
    """Users who stay for all stories of this process, each created on first use."""
    users: dict[str, Iterator[User]] = {}
    logged_in: dict[str, User] = {}

    def user(name: str) -> User:
        if name not in users:
            users[name] = passing_user(facility, f"{name}.{worker_id}")
            logged_in[name] = next(users[name])
        return logged_in[name]

    yield user
    if os.environ.get(testing.KEEP):
        for generator in users.values():
            next(generator, None)


@pytest.fixture(scope="session")
def ann(permanent_user: Callable[[str], User]) -> User:
    """A permanent user: stories may use her server, and leave it as it was."""
    return permanent_user("ann")


@pytest.fixture(scope="session")
def bob(permanent_user: Callable[[str], User]) -> User:
    """Another permanent user."""
    return permanent_user("bob")


@pytest.fixture(scope="session")
def samples() -> list[tuple[Path, str, str, int]]:
    """Small synthetic samples: path, process, variation, events."""
    return analysis.synthetic(4000)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chrome]:
    """A headless Chromium; the first time, its packages are installed."""
    if not shutil.which("chromedriver"):
        engines.install_packages(engines.pins()["debian"]["browser"])
    options = ChromeOptions()
    # Chromium of root needs --no-sandbox; it visits the facility only.
    for flag in ("headless", "no-sandbox", "disable-gpu", "disable-background-networking"):
        options.add_argument(f"--{flag}")
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    driver = Chrome(options=options, service=Service(shutil.which("chromedriver")))
    driver.set_page_load_timeout(60)
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium: Chrome) -> Chrome:
    """A browser in which nobody has logged in yet."""
    # Those of all paths; WebDriver's command returns only those of the current page.
    chromium.execute_cdp_cmd("Network.clearBrowserCookies", {})
    return chromium


@pytest.fixture
def user(facility: Cluster, request: pytest.FixtureRequest) -> Iterator[User]:
    """A user of the test's own, logged in and with a server."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:30]
    someone = new_user(facility, name)
    yield someone
    someone.stop()


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Note what a test measured, for the summary."""
    return lambda text: request.node.user_properties.append(("figure", text))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Iterator[None]:
    """Save events, logs and pod states of every failure."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if not report.failed or "facility" not in getattr(item, "fixturenames", ()):
        return
    # Written once, where the facility was made.
    if call.excinfo and call.excinfo.errisinstance(testing.UnpreparedError):
        return
    if cluster := testing.current():
        stamp = f"{time.strftime('%H%M%S')}-{re.sub(r'[^a-zA-Z0-9_]+', '-', item.name)[:60]}"
        folder = diagnostics.dump(cluster, cache("failures", stamp))
        report.sections.append(("what the cluster left behind", str(folder)))
