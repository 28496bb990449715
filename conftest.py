"""Which tests are collected: by suite, and by the reference inputs at hand."""

import os
from pathlib import Path

import pytest

REFERENCE = "SHOPPE_REFERENCE_DATA"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the choice of suites."""
    parser.addoption("--suite", choices=["fast", "core", "long"], default="core")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the long suite unless it is asked for, and what lacks its inputs."""
    dropped = []
    if config.getoption("suite") != "long":
        dropped += [item for item in items if item.get_closest_marker("long")]
    if not os.environ.get(REFERENCE):
        dropped += [item for item in items if item.get_closest_marker("reference")]
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = [item for item in items if item not in dropped]


def pytest_report_header(config: pytest.Config) -> str:
    """Say which suite runs and which inputs it has."""
    return f"suite: {config.getoption('suite')}; {_inputs()}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say so when tests were left out for want of reference inputs."""
    if not os.environ.get(REFERENCE):
        terminalreporter.write_line(_inputs())


def _inputs() -> str:
    folder = os.environ.get(REFERENCE)
    if folder:
        return f"reference inputs from {folder}"
    return f"tests with reference inputs are NOT collected: {REFERENCE} is unset"


@pytest.fixture(scope="session")
def reference_data() -> Path:
    """The folder of reference inputs; named and missing is a failure."""
    folder = Path(os.environ[REFERENCE])
    if not folder.is_dir():
        pytest.fail(f"{REFERENCE} names {folder}, which is no folder")
    return folder
