"""The cluster that `ci/shoppe test` made, the facility in it, and its users."""

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lib.fixtures import install, new_user
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from shoppe_ci import analysis, diagnostics, origin
from shoppe_ci import cluster as clusters
from shoppe_ci import engine as engines
from shoppe_ci.cluster import Cluster
from shoppe_ci.engine import Engine
from shoppe_ci.facility import User
from shoppe_ci.paths import cache


@pytest.fixture(scope="session")
def engine() -> Engine:
    return engines.ensure()


@pytest.fixture(scope="session")
def cluster(engine: Engine) -> Cluster:
    """The cluster that SHOPPE_TEST_CLUSTER names; without one these tests fail."""
    name = os.environ.get("SHOPPE_TEST_CLUSTER", "")
    found = clusters.load(engine, name) if name else None
    assert found, "these tests need a cluster: run them by `ci/shoppe test`"
    return found


@pytest.fixture(scope="session")
def facility(cluster: Cluster) -> Cluster:
    """The cluster with the whole facility installed and ready."""
    install(cluster)
    return cluster


@pytest.fixture(scope="session")
def data_origin(facility: Cluster) -> Cluster:
    """The facility with an origin in the cluster that serves published files."""
    origin.install(facility)
    return facility


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
    # A browser of root's has no sandbox, and this one has nothing to look for elsewhere.
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
    # Those of all paths; WebDriver's own command knows the present page's alone.
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
def run_code(user: User) -> Callable[..., str]:
    """Run Python in the user's pod as a notebook cell, and return what it printed."""
    from lib.fixtures import run_code as run

    return lambda code: run(user, code)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put those last that judge what the others did."""
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Iterator[None]:
    """Leave events, logs and pod states behind for every failure."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if not report.failed or "cluster" not in getattr(item, "fixturenames", ()):
        return
    name = os.environ.get("SHOPPE_TEST_CLUSTER", "")
    engine = engines.find()
    found = clusters.load(engine, name) if name and engine else None
    if found:
        stamp = f"{time.strftime('%H%M%S')}-{re.sub(r'[^a-zA-Z0-9_]+', '-', item.name)[:60]}"
        folder = diagnostics.dump(found, cache("failures", stamp))
        report.sections.append(("what the cluster left behind", str(folder)))
