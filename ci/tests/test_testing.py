"""The facility that stories share: they learn whether it could be made."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from shoppe_ci import cluster as clusters
from shoppe_ci import diagnostics, origin, suite, testing, up
from shoppe_ci import engine as engines
from shoppe_ci.cluster import Cluster
from shoppe_ci.engine import Engine
from shoppe_ci.errors import ShoppeError

ENGINE = Engine("docker", "docker")
CLUSTER = Cluster("shared", "node", 0, "source")


@pytest.fixture
def dumps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Prepare in a cache of the test's own; return the clusters whose state was written."""
    names: list[str] = []

    def dump(cluster: Cluster, folder: Path) -> Path:
        names.append(cluster.name)
        return folder

    monkeypatch.setenv("SHOPPE_CACHE", str(tmp_path))
    monkeypatch.setenv(testing.CLUSTER, CLUSTER.name)
    monkeypatch.setattr(clusters, "load", lambda engine, name: CLUSTER)
    monkeypatch.setattr(up, "start", lambda engine, name, source: CLUSTER)
    monkeypatch.setattr(testing, "install", lambda cluster: None)
    monkeypatch.setattr(diagnostics, "dump", dump)
    return names


def test_stories_get_the_facility_that_was_made(
    monkeypatch: pytest.MonkeyPatch, dumps: list[str]
) -> None:
    monkeypatch.setattr(origin, "install", lambda cluster: None)
    testing.prepare(ENGINE, CLUSTER.name, "source").join()
    assert testing.prepared(ENGINE) == CLUSTER
    assert dumps == []


def test_stories_get_the_reason_why_there_is_no_facility(
    monkeypatch: pytest.MonkeyPatch, dumps: list[str]
) -> None:
    def fail(cluster: Cluster) -> None:
        raise ShoppeError("the origin does not start", "free some memory")

    monkeypatch.setattr(origin, "install", fail)
    testing.prepare(ENGINE, CLUSTER.name, "source").join()
    for _ in range(2):
        with pytest.raises(testing.UnpreparedError, match="the origin does not start") as refusal:
            testing.prepared(ENGINE)
        assert refusal.value.remedy == "free some memory"
    assert dumps == ["shared"]


@pytest.mark.parametrize(
    ("keep", "expected"),
    [(False, ["build", "delete", "install", "delete"]), (True, ["build", "install"])],
)
def test_a_run_starts_without_the_cluster_of_an_interrupted_one(
    monkeypatch: pytest.MonkeyPatch, dumps: list[str], keep: bool, expected: list[str]
) -> None:
    """An engine that is started by this very run brings such a cluster back."""
    events: list[str] = []

    def build(wish: str) -> tuple[Engine, str]:
        events.append("build")
        return ENGINE, "source"

    monkeypatch.setattr(engines, "find", lambda: None)
    monkeypatch.setattr(up, "build", build)
    monkeypatch.setattr(clusters, "delete", lambda engine, name: events.append("delete"))
    monkeypatch.setattr(origin, "install", lambda cluster: events.append("install"))
    monkeypatch.setattr(testing, "_pytest", lambda arguments, environment: 0)
    testing.run_core(name=CLUSTER.name, wish="auto", fast=False, keep=keep, arguments=[])
    assert events == expected
    assert dumps == []


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """The words of each call of pytest, which passes."""
    words: list[list[str]] = []

    def run(arguments: Sequence[str], environment: dict[str, str], **_: object) -> int:
        words.append(list(arguments))
        assert environment[suite.PART]
        return 0

    monkeypatch.setenv("SHOPPE_CACHE", str(tmp_path))
    monkeypatch.setattr(testing, "_tree", lambda: "tree")
    monkeypatch.setattr(testing, "_pytest", run)
    monkeypatch.setattr(testing, "_with_cluster", run)
    return words


@pytest.mark.parametrize(
    ("part", "test", "every"),
    [
        ("faults", "e2e-tests/suites/test_attacks.py::test_x", ["e2e-tests"]),
        ("properties", "ci/tests/test_testing.py", list(testing.FOLDERS)),
    ],
)
def test_a_test_of_a_part_runs_alone_and_does_not_count_as_the_part(
    commands: list[list[str]], part: str, test: str, every: list[str]
) -> None:
    def run(*arguments: str) -> None:
        testing.run_part(part, name="shared", wish="", keep=True, arguments=arguments)

    run(test)
    run("-x")
    run("-x")
    first, second = commands
    assert test in first
    assert not set(every) & set(first)
    assert second[: len(every)] == every, "the part has not run before, and runs once"
