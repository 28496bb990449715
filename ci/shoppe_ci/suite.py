"""The test suite as a pytest plugin: what is collected, in which order, and where time goes.

Tests run in several processes (pytest-xdist).  The tests of a file stay together in one
process, and so do the files that use the same server (`ONE_PROCESS`).  Half of the files
without a cluster come first, while the cluster is created; then the stories; then, one at a
time, the stories marked `alone`, beside the other half of the files without a cluster.  Within
each of these, files with the largest budget come first: a long one at the end leaves a core idle.
"""

import os
import time
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from filelock import ReadWriteLock

from shoppe_ci.paths import ROOT
from shoppe_ci.progress import Step, elapsed, recorded
from shoppe_ci.wait import eventually

BUDGETS = ROOT / "e2e-tests" / "budgets.toml"
STORIES = "e2e-tests/suites/"
START = "SHOPPE_SUITE_START"
"""Environment variable: when `ci/shoppe test` began, in Unix seconds."""
PART = "SHOPPE_TEST_PART"
"""Environment variable: the part of the long suites that runs; unset for the core suite."""
PASSED = "SHOPPE_TEST_PASSED"
"""Environment variable: the file that lists the tests of a part that have passed before."""
FOLDER = "SHOPPE_TEST_RUN"
"""Environment variable: the folder that the processes of one run share."""
ALONE_TIMEOUT_S = 1500
LAST_TIMEOUT_S = 600
SLOWEST = 12
FIRST_HALF, BESIDE_OTHERS, ALONE, LAST, SECOND_HALF = range(5)
"""The order of tests; the halves are those of the files without a cluster."""
ONE_PROCESS = ("running_mlflow",)
"""Fixtures of the session whose set-up takes longer than the tests that use them."""

Seconds = dict[str, float]


@dataclass
class Timings:
    """Where the time of a run went, in seconds of one process."""

    parts: Seconds = field(default_factory=lambda: defaultdict(float))
    """By file of stories, or by folder of other tests; without shared fixtures and waiting."""
    fixtures: Seconds = field(default_factory=lambda: defaultdict(float))
    """Seconds to set up fixtures that several files share."""
    waited: float = 0.0
    """Seconds of waiting for stories that run alone."""
    tests: Seconds = field(default_factory=lambda: defaultdict(float))
    files: Seconds = field(default_factory=lambda: defaultdict(float))
    """By the name of a file of tests without a cluster."""
    figures: list[tuple[str, str]] = field(default_factory=list)
    """Figures that tests measured: (test, figure)."""

    def add(self, nodeid: str, when: str, duration: float, properties: Iterable[Any]) -> None:
        """Record the report of one phase of a test."""
        test = bare(nodeid)
        own = duration
        if when == "teardown":
            for name, value in properties:
                if name == "fixture":
                    fixture, seconds = value
                    self.fixtures[fixture] += seconds
                    own -= seconds
                elif name == "waited":
                    self.waited += value
                elif name == "figure":
                    self.figures.append((test.rpartition("::")[2], value))
        self.parts[part_of(test)] += own
        self.tests[test] += own
        if not test.startswith(STORIES):
            self.files[Path(test.partition("::")[0]).stem] += own


def bare(nodeid: str) -> str:
    """Return a node id without the name of its group, which pytest-xdist appends."""
    end = nodeid.rfind("@")
    return nodeid[:end] if end > nodeid.rfind("]") else nodeid


def part_of(nodeid: str) -> str:
    """Return the part of the suite that a test belongs to: its story, or its folder."""
    if nodeid.startswith(STORIES):
        return Path(nodeid.partition("::")[0]).stem
    return nodeid.partition("/")[0]


def read_budgets(path: Path = BUDGETS) -> dict[str, dict[str, float]]:
    """Return the budgets by section, in seconds."""
    return tomllib.loads(path.read_text())


def over_budget(
    seconds: Mapping[str, float], budgets: Mapping[str, float]
) -> list[tuple[str, float, float]]:
    """Return (part, seconds, budget) of each part that took longer than its budget.

    A part without a budget has one of 1 s, so that a new story must get its own.
    """
    rows = [(part, taken, budgets.get(part, 1.0)) for part, taken in seconds.items()]
    return [row for row in rows if row[1] > row[2]]


def choose(items: list[pytest.Item], *, part: str | None, passed: Path | None) -> list[pytest.Item]:
    """Return the tests to leave out: those of other parts, and those that have passed before."""

    def parts(item: pytest.Item) -> set[str]:
        return {mark.args[0] for mark in item.iter_markers("part")}

    if part is None:
        return [item for item in items if parts(item)]
    done = set(passed.read_text().splitlines()) if passed and passed.exists() else set()
    return [item for item in items if part not in parts(item) or item.nodeid in done]


def order(items: list[pytest.Item]) -> None:
    """Group the tests and sort the groups, in place; tests of a group keep their order."""
    budgets = read_budgets()
    paths = dict.fromkeys(item.nodeid.partition("::")[0] for item in items)
    groups = {
        item.nodeid.partition("::")[0]: fixture
        for item in items
        for fixture in ONE_PROCESS
        if fixture in getattr(item, "fixturenames", ())
    }
    units = [path for path in paths if not path.startswith(STORIES)]
    # By then the cluster is there.  The other half keeps the cores busy beside `alone` stories.
    second_half = set(units[len(units) // 2 :])

    def order(item: pytest.Item) -> tuple[int, float]:
        path = item.nodeid.partition("::")[0]
        if item.get_closest_marker("last"):
            return LAST, 0.0
        if item.get_closest_marker("alone"):
            return ALONE, 0.0
        if path.startswith(STORIES):
            return BESIDE_OTHERS, -budgets["stories"].get(part_of(path), 0.0)
        half = SECOND_HALF if path in second_half else FIRST_HALF
        return half, -budgets["files"].get(Path(path).stem, 0.0)

    for item in items:
        rank, _ = order(item)
        path = item.nodeid.partition("::")[0]
        name = "alone" if rank in (ALONE, LAST) else groups.get(path, path)
        if not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(name))
    items.sort(key=order)


def _await_others(item: pytest.Item, done: Path) -> None:
    """Wait until all stories have run but those that are marked `last`."""
    stories = [other for other in item.session.items if other.nodeid.startswith(STORIES)]
    others = sum(other.get_closest_marker("last") is None for other in stories)
    eventually(
        lambda: not others or len(done.read_text().splitlines()) >= others,
        "all other stories have run",
        timeout=LAST_TIMEOUT_S,
        every=1,
    )


class Plugin:
    """Runs stories in parallel or alone, and reports the time of each part."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.worker = hasattr(config, "workerinput")
        self.timings = Timings()
        self.current: pytest.Item | None = None
        self.failed: set[str] = set()
        folder = os.environ.get(FOLDER)
        self.folder = Path(folder) if folder else None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Run a story that is marked `alone` while no other story runs."""
        self.current = item
        if not self.folder or not item.nodeid.startswith(STORIES):
            return (yield)
        last = item.get_closest_marker("last")
        lock = ReadWriteLock(self.folder / "alone.lock", is_singleton=False)
        hold = lock.write_lock if last or item.get_closest_marker("alone") else lock.read_lock
        done = self.folder / "done"
        start = time.monotonic()
        if last:
            _await_others(item, done)
        with hold(timeout=ALONE_TIMEOUT_S):
            item.user_properties.append(("waited", time.monotonic() - start))
            try:
                return (yield)
            finally:
                with done.open("a") as file:
                    file.write(f"{item.nodeid}\n")

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, request: pytest.FixtureRequest) -> Iterator[Any]:
        """Record the duration of a fixture that several files share."""
        start = time.monotonic()
        try:
            return (yield)
        finally:
            if self.current and request.scope == "session":
                name = str(request.fixturename)
                properties = self.current.user_properties
                properties.append(("fixture", (name, time.monotonic() - start)))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record the duration of a test's phase."""
        if self.worker:
            return
        self.timings.add(report.nodeid, report.when, report.duration, report.user_properties)
        if report.failed:
            self.failed.add(report.nodeid)
            self._tell(report)
        path = os.environ.get(PASSED)
        if path and report.when == "teardown" and report.nodeid not in self.failed:
            with Path(path).open("a") as file:
                file.write(bare(report.nodeid) + "\n")

    def _tell(self, report: pytest.TestReport) -> None:
        """Print at once why a test failed; the full report comes at the end of a long run."""
        terminal = self.config.pluginmanager.get_plugin("terminalreporter")
        crash = getattr(report.longrepr, "reprcrash", None)
        reason = crash.message if crash else report.longreprtext
        if terminal:
            terminal.ensure_newline()
            terminal.write_line(f"FAILED ({report.when}) {bare(report.nodeid)}")
            terminal.write_line(f"  {reason[:600]}")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print where the time went, beside the budgets."""
        if self.timings.tests:
            for line in summary(self.timings, recorded(), read_budgets(), os.environ):
                terminalreporter.write_line(line)


def _table(title: str, rows: Mapping[str, float], budgets: Mapping[str, float]) -> Iterator[str]:
    yield f"{title:48s} {'seconds':>8s} {'budget':>8s}"
    for name, seconds in sorted(rows.items(), key=lambda row: -row[1]):
        budget = budgets.get(name, 1.0)
        mark = "  OVER" if seconds > budget else ""
        yield f"  {name:46s} {seconds:8.1f} {budget:8.0f}{mark}"


def summary(
    timings: Timings,
    steps: list[Step],
    budgets: Mapping[str, Mapping[str, float]],
    environment: Mapping[str, str],
) -> Iterator[str]:
    """Yield the lines of the report: parts, fixtures, steps, slowest tests, figures, verdict."""
    part = environment.get(PART)
    stories = {name: s for name, s in timings.parts.items() if name.startswith("test_")}
    others = {name: s for name, s in timings.parts.items() if name not in stories}
    own_budgets = budgets["long"] if part else budgets["stories"]
    yield ""
    yield "where the time went, in seconds of one process"
    yield from _table("tests without a cluster", others, budgets["units"])
    yield from _table("stories", stories, own_budgets)
    yield from _table("shared fixtures", timings.fixtures, budgets["fixtures"])
    by_title: Seconds = defaultdict(float)
    for step in steps:
        by_title[step.title] += step.seconds
    yield f"{'steps of set-up':48s} {'seconds':>8s}"
    for title, seconds in sorted(by_title.items(), key=lambda row: -row[1]):
        if seconds >= 1:
            yield f"  {title[:46]:46s} {seconds:8.1f}"
    yield "slowest tests"
    slowest = sorted(timings.tests.items(), key=lambda row: -row[1])[:SLOWEST]
    for test, seconds in slowest:
        yield f"  {seconds:8.1f} {test}"
    for test, figure in timings.figures:
        yield f"figure  {test}: {figure}"
    yield f"waiting for stories that run alone: {timings.waited:.0f} s of all processes"
    excess = [
        *over_budget(others, budgets["units"]),
        *over_budget(stories, own_budgets),
        *over_budget(timings.fixtures, budgets["fixtures"]),
        *over_budget(_with_budgets(timings.files, budgets["files"]), budgets["files"]),
    ]
    for name, seconds, budget in excess:
        yield f"OVER BUDGET  {name}: {seconds:.0f} s of {budget:.0f} s"
    if start := environment.get(START):
        yield _verdict(part, time.time() - float(start), budgets)


def _with_budgets(seconds: Seconds, budgets: Mapping[str, float]) -> Seconds:
    """Return the files of tests that have a budget of their own, beside their folder's."""
    return {name: taken for name, taken in seconds.items() if name in budgets}


def _verdict(part: str | None, seconds: float, budgets: Mapping[str, Mapping[str, float]]) -> str:
    name = part or "core suite, warm"
    budget = budgets["parts"][part] if part else budgets["suite"]["warm"]
    state = "within" if seconds <= budget else "OVER"
    return f"{name}: {elapsed(seconds)}, {state} its budget of {elapsed(budget)}"
