import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pytest
from shoppe_ci import suite
from shoppe_ci.paths import ROOT
from shoppe_ci.progress import Step

pytest_plugins = ["pytester"]
BUDGETS = {
    "suite": {"warm": 840.0},
    "units": {"ci": 60.0},
    "files": {"test_field_files": 30.0},
    "stories": {"test_login": 5.0},
    "fixtures": {"facility": 100.0},
    "parts": {"load": 1800.0},
    "long": {},
}
LOGIN = "e2e-tests/suites/test_login.py::test_in@e2e-tests/suites/test_login.py"


def timings() -> suite.Timings:
    taken = suite.Timings()
    properties = [("waited", 2.0), ("fixture", ("facility", 30.0)), ("figure", "7 s")]
    taken.add(LOGIN, "setup", 30.5, [])
    taken.add(LOGIN, "call", 6.0, [])
    taken.add(LOGIN, "teardown", 0.5, properties)
    taken.add("ci/tests/test_wait.py::test_it", "call", 1.0, [])
    return taken


def test_a_story_s_time_is_its_own() -> None:
    taken = timings()
    assert taken.parts == {"test_login": 7.0, "ci": 1.0}
    assert taken.fixtures == {"facility": 30.0}
    assert taken.waited == 2.0
    assert taken.figures == [("test_in", "7 s")]


def test_the_summary_names_what_is_over_its_budget() -> None:
    lines = list(suite.summary(timings(), [Step("creating", 61.0)], BUDGETS, {}))
    assert "OVER BUDGET  test_login: 7 s of 5 s" in lines
    assert not any("OVER" in line and "facility" in line for line in lines)
    assert any("creating" in line and "61.0" in line for line in lines)
    assert "figure  test_in: 7 s" in lines


def test_a_file_may_have_a_budget_of_its_own() -> None:
    taken = timings()
    taken.add("images/servicex/tests/test_field_files.py::test_it[a]", "call", 20.0, [])
    lines = list(suite.summary(taken, [], BUDGETS, {}))
    assert not any("test_field_files" in line for line in lines if line.startswith("OVER"))
    taken.add("images/servicex/tests/test_field_files.py::test_it[b]", "call", 12.0, [])
    lines = list(suite.summary(taken, [], BUDGETS, {}))
    assert "OVER BUDGET  test_field_files: 32 s of 30 s" in lines
    assert not any("test_wait" in line for line in lines if line.startswith("OVER"))


def test_a_story_without_a_budget_is_over_it() -> None:
    assert suite.over_budget({"test_new": 2.0}, {}) == [("test_new", 2.0, 1.0)]
    assert suite.over_budget({"test_login": 4.0}, BUDGETS["stories"]) == []


def test_the_verdict_is_of_the_whole_run() -> None:
    (line,) = [
        line
        for line in suite.summary(timings(), [], BUDGETS, {suite.START: "0"})
        if line.startswith("core suite")
    ]
    assert "OVER its budget of 14 min 00 s" in line


PART_OF_ALL = re.compile(r"^pytestmark = .*mark\.part\(", re.MULTILINE)
"""In a module whose stories are all of one part."""


def test_each_story_has_a_budget_and_each_budget_a_story() -> None:
    budgets = suite.read_budgets()
    core: set[str] = set()
    long: set[str] = set()
    for path in (ROOT / "e2e-tests" / "suites").glob("test_*.py"):
        text = path.read_text()
        (long if PART_OF_ALL.search(text) else core).add(path.stem)
    assert set(budgets["stories"]) == core
    assert set(budgets["long"]) >= long


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project with a test of its own, two stories, and the plugin."""
    stories = pytester.mkdir("e2e-tests") / "suites"
    stories.mkdir()
    shared = pytester.mkdir("shared")
    monkeypatch.setenv(suite.FOLDER, str(shared))
    monkeypatch.delenv(suite.PART, raising=False)
    pytester.makeconftest(
        """
        import pytest
        from shoppe_ci import suite
        def pytest_configure(config):
            for line in ("alone: x", "last: x", "part(name): x"):
                config.addinivalue_line("markers", line)
            config.pluginmanager.register(suite.Plugin(config), "suite")
        @pytest.hookimpl(tryfirst=True)
        def pytest_collection_modifyitems(config, items):
            dropped = suite.choose(items, part=None, passed=None)
            items[:] = [item for item in items if item not in dropped]
            suite.order(items)
        """
    )
    body = """
        import os, pathlib, time, pytest
        LOG = pathlib.Path("SHARED") / "log"
        def note(text):
            with LOG.open("a") as file: file.write(text + "\\n")
            with LOG.with_name("processes").open("a") as file:
                file.write(f"{pathlib.Path(__file__).name} {text.split()[0]} {os.getpid()}\\n")
        @pytest.mark.last
        def test_last(): note("last")
        @pytest.mark.alone
        def test_alone():
            note("alone starts"); time.sleep(0.5); note("alone ends")
        @pytest.mark.parametrize("number", range(3))
        def test_story(number):
            note("story starts"); time.sleep(0.2); note("story ends")
        @pytest.mark.part("load")
        def test_long(): note("long")
    """.replace("SHARED", str(shared))
    for name in ("test_one.py", "test_two.py"):
        (stories / name).write_text(textwrap.dedent(body))
    pytester.makepyfile(test_unit="def test_unit(): pass")
    return pytester


def test_a_story_that_disturbs_runs_alone_and_the_last_one_last(project: pytest.Pytester) -> None:
    words = ("-n3", "--dist=loadgroup", "--no-loadscope-reorder", "-p", "xdist")
    result = project.runpytest_subprocess(*words)
    result.assert_outcomes(passed=11)
    log = (Path(project.path) / "shared" / "log").read_text().splitlines()
    assert "long" not in log
    for start in (i for i, line in enumerate(log) if line == "alone starts"):
        assert log[start + 1] == "alone ends"
        running = log[:start].count("story starts") - log[:start].count("story ends")
        assert running == 0
    assert log[-2:] == ["last", "last"]
    assert log.count("story ends") == 6
    processes = (Path(project.path) / "shared" / "processes").read_text().splitlines()
    for group in ("test_one.py story", "test_two.py story"):
        assert len({line for line in processes if line.startswith(group)}) == 1
    assert len({line.split()[-1] for line in processes if " alone " in line}) == 1


class Item:
    """A test as `order` sees it."""

    def __init__(self, nodeid: str, *marks: str, fixtures: Sequence[str] = ()) -> None:
        self.nodeid, self.marks, self.fixturenames = nodeid, list(marks), fixtures

    def get_closest_marker(self, name: str) -> str | None:
        return name if name in self.marks else None

    def add_marker(self, mark: pytest.MarkDecorator) -> None:
        self.marks.append(mark.args[0])


def test_half_of_the_tests_without_a_cluster_run_beside_stories_that_run_alone() -> None:
    stories = [suite.STORIES + name for name in ("test_agc.py::t", "test_login.py::t")]
    items = [
        Item(f"{suite.STORIES}test_rights.py::t", "last"),
        Item(f"{suite.STORIES}test_login.py::alone", "alone"),
        *(Item(story) for story in reversed(stories)),
        *(Item(f"ci/tests/test_{letter}.py::t") for letter in "abcd"),
    ]
    suite.order(items)  # type: ignore[arg-type]
    assert [item.nodeid.rpartition("/")[2] for item in items] == [
        *("test_a.py::t", "test_b.py::t", "test_agc.py::t", "test_login.py::t"),
        *("test_login.py::alone", "test_rights.py::t", "test_c.py::t", "test_d.py::t"),
    ]
    assert [item.marks[-1] for item in items[4:6]] == ["alone", "alone"]


def test_files_that_share_a_server_stay_in_one_process() -> None:
    items = [
        Item("charts/tests/test_a.py::uses", fixtures=("running_mlflow", "tmp_path")),
        Item("charts/tests/test_a.py::renders"),
        Item("charts/tests/test_b.py::uses", fixtures=("running_mlflow",)),
        Item("charts/tests/test_c.py::renders", fixtures=("tmp_path",)),
    ]
    suite.order(items)  # type: ignore[arg-type]
    groups = [item.marks[-1] for item in items]
    assert groups == [*["running_mlflow"] * 3, "charts/tests/test_c.py"]


def test_a_file_with_a_large_budget_comes_before_others_of_its_half() -> None:
    long = max(suite.read_budgets()["files"].items(), key=lambda row: row[1])[0]
    names = ["test_a", long, "test_b", "test_c"]
    items = [Item(f"images/tests/{name}.py::t") for name in names]
    suite.order(items)  # type: ignore[arg-type]
    order = [item.nodeid.rpartition("/")[2].removesuffix(".py::t") for item in items]
    assert order == [long, "test_a", "test_b", "test_c"]
