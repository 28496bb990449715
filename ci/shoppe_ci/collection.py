"""Selects the tests to collect: by suite, and by the available reference inputs."""

import os
from pathlib import Path

import pytest

from shoppe_ci import suite

REFERENCE = "SHOPPE_REFERENCE_DATA"


def pytest_configure(config: pytest.Config) -> None:
    """Register the plugin that orders and times the tests."""
    config.pluginmanager.register(suite.Plugin(config), "shoppe-suite")


# Before pytest-xdist reads the groups.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect other parts of the suite and tests without their inputs; order the rest."""
    passed = os.environ.get(suite.PASSED)
    dropped = suite.choose(
        items, part=os.environ.get(suite.PART), passed=Path(passed) if passed else None
    )
    if not os.environ.get(REFERENCE):
        dropped += [item for item in items if item.get_closest_marker("reference")]
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        left_out = set(dropped)
        items[:] = [item for item in items if item not in left_out]
    suite.order(items)


def pytest_report_header() -> str:
    """Report which part runs, and with which inputs."""
    return f"suite: {os.environ.get(suite.PART, 'core')}; {_inputs()}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Report tests that were skipped without reference inputs."""
    if not os.environ.get(REFERENCE):
        terminalreporter.write_line(_inputs())


def _inputs() -> str:
    folder = os.environ.get(REFERENCE)
    if folder:
        return f"reference inputs from {folder}"
    return f"tests with reference inputs are NOT collected: {REFERENCE} is unset"


@pytest.fixture(scope="session")
def reference_data() -> Path:
    """The folder of reference inputs; a configured folder that is missing is a failure."""
    folder = Path(os.environ[REFERENCE])
    if not folder.is_dir():
        pytest.fail(f"{REFERENCE} names {folder}, which is not a folder")
    return folder
