"""Runs pytest for `ci/shoppe test`, while the facility that stories share is set up.

The cluster and the facility are set up in a thread while pytest runs what needs no cluster.
The stories, in processes of their own, wait for the outcome in a file.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shoppe_ci import affected, diagnostics, origin, progress, release, shell, suite, up
from shoppe_ci import cluster as clusters
from shoppe_ci import engine as engines
from shoppe_ci.cluster import Cluster
from shoppe_ci.engine import Engine
from shoppe_ci.errors import ShoppeError
from shoppe_ci.paths import ROOT, cache
from shoppe_ci.progress import elapsed, say
from shoppe_ci.wait import eventually

VALUES = ROOT / "e2e-tests" / "values" / "facility.yaml"
CLUSTER = "SHOPPE_TEST_CLUSTER"
"""Environment variable: the name of the kind cluster that the stories use."""
KEEP = "SHOPPE_TEST_KEEP"
"""Environment variable: set if the cluster is kept, and tests must remove their users."""
PARTS = tuple(suite.read_budgets()["parts"])
"""The parts of the long suites."""
NOTHING_COLLECTED = 5
"""pytest's exit status where no test was collected."""
WITHOUT_CLUSTER = ("properties",)
"""Parts whose tests need no cluster."""
FOLDERS = ("ci", "operator", "images", "charts")
"""Folders of the tests that need no cluster."""
READY_TIMEOUT_S = 1800
"""Time limit of a story that waits for cluster and facility, from its start."""


class UnpreparedError(ShoppeError):
    """The shared facility of the stories could not be set up; each story fails for it."""


def _outcome_file(name: str) -> Path:
    return cache("clusters", name) / "prepared.json"


def install(cluster: Cluster, *more: dict[str, Any], chart: Path = release.UMBRELLA) -> None:
    """Install or upgrade the stories' shared facility, with `more` values.

    The next call without `more` resets them; `with_values` makes it.  Another `chart` than that
    of the tree names its images itself.
    """
    address = f"127.0.0.1:{cluster.forward_port}"
    outside = {"servicex": {"objectStore": {"publicURL": address}}}
    (shared,) = release.read_values([VALUES])
    values = (release.demo_values(), shared, outside, *more)
    release.install(cluster, chart, *values, pin_images=chart == release.UMBRELLA)


@contextmanager
def with_values(cluster: Cluster, *more: dict[str, Any]) -> Iterator[None]:
    """Upgrade the stories' shared facility with `more` values; they are reset afterwards."""
    install(cluster, *more)
    try:
        yield
    finally:
        install(cluster)


def prepare(engine: Engine, name: str, source: str) -> threading.Thread:
    """Return a thread that creates the cluster and installs the facility."""
    outcome_file = _outcome_file(name)
    outcome_file.unlink(missing_ok=True)

    def work() -> None:
        outcome: dict[str, str] = {}
        try:
            cluster = up.start(engine, name, source)
            install(cluster)
            origin.install(cluster)
        except ShoppeError as error:
            outcome = {"problem": error.problem, "remedy": error.remedy}
        except Exception as error:
            outcome = {"problem": f"{type(error).__name__}: {error}", "remedy": ""}
            raise
        finally:
            outcome_file.parent.mkdir(parents=True, exist_ok=True)
            partial = outcome_file.with_suffix(".partial")
            partial.write_text(json.dumps(outcome))
            partial.rename(outcome_file)
            if outcome and (incomplete := clusters.load(engine, name)):
                folder = diagnostics.dump(incomplete, cache("failures", "facility"))
                say(f"  the cluster's events, logs and pod states: {folder}")

    thread = threading.Thread(target=work, name="prepare the cluster")
    thread.start()
    return thread


def prepared(engine: Engine) -> Cluster:
    """Return the shared cluster once the facility in it is ready.

    Raises `UnpreparedError` if it could not be set up, and `ShoppeError` if it is not
    ready in time.
    """
    name = os.environ.get(CLUSTER)
    if not name:
        raise ShoppeError("these tests need a cluster", "run them by `ci/shoppe test`")
    outcome_file = _outcome_file(name)
    eventually(
        outcome_file.exists, "the facility is ready for the stories", timeout=READY_TIMEOUT_S
    )
    if outcome := json.loads(outcome_file.read_text()):
        raise UnpreparedError(
            f"the facility could not be set up: {outcome['problem']}", outcome["remedy"]
        )
    cluster = clusters.load(engine, name)
    if cluster is None:
        raise ShoppeError(f"the cluster {name!r} is gone", "run `ci/shoppe test` again")
    return cluster


def current() -> Cluster | None:
    """Return the shared cluster, ready or not; None if there is none."""
    name, engine = os.environ.get(CLUSTER), engines.find()
    return clusters.load(engine, name) if name and engine else None


@dataclass(frozen=True)
class PartResult:
    """The outcome of a part of the long suites."""

    name: str
    status: int
    """pytest's exit status."""
    seconds: float


def table(results: Sequence[PartResult]) -> str:
    """Return the parts' outcomes beside their budgets, a line each."""
    budgets = suite.read_budgets()["parts"]
    lines = [f"{'part':12s} {'outcome':8s} {'time':>14s} {'budget':>14s}"]
    for result in results:
        outcome = "FAILED" if result.status else "passed"
        budget = budgets[result.name]
        over = "  OVER" if result.seconds > budget else ""
        lines.append(
            f"{result.name:12s} {outcome:8s} {elapsed(result.seconds):>14s} "
            f"{elapsed(budget):>14s}{over}"
        )
    return "\n".join(lines)


@contextmanager
def _environment(**more: str) -> Iterator[dict[str, str]]:
    """Yield the environment of a run: a folder that its processes share, and its start."""
    with tempfile.TemporaryDirectory(prefix="shoppe-test-") as folder:
        record = str(Path(folder) / "steps.jsonl")
        variables = {suite.FOLDER: folder, progress.RECORD: record, **more}
        variables[suite.START] = str(time.time())
        # Steps of this process are recorded, too.
        os.environ[progress.RECORD] = record
        try:
            yield {**os.environ, **variables}
        finally:
            del os.environ[progress.RECORD]


def _pytest(arguments: Sequence[str], environment: dict[str, str]) -> int:
    processes = (os.cpu_count() or 1) + 2
    command = [sys.executable, "-m", "pytest", f"-n{processes}", "--dist=loadgroup"]
    command += ["--no-loadscope-reorder", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


def _with_cluster(
    arguments: Sequence[str], environment: dict[str, str], *, name: str, wish: str, keep: bool
) -> int:
    """Run pytest while the cluster is created; remove it afterwards unless it is kept."""
    engine, source = up.build(wish)
    if not keep:
        # What an interrupted run left, which may be half installed.
        clusters.delete(engine, name)
    thread = prepare(engine, name, source)
    environment = environment | {CLUSTER: name} | ({KEEP: "1"} if keep else {})
    try:
        return _pytest(arguments, environment)
    finally:
        thread.join()
        # pytest's summary is printed last.
        progress.console.quiet = True
        if not keep:
            clusters.delete(engine, name)
        progress.console.quiet = False


def _names_tests(arguments: Sequence[str]) -> bool:
    """Return whether there are files or tests among pytest's arguments."""
    return any((ROOT / word.partition("::")[0]).exists() for word in arguments)


def run_core(*, name: str, wish: str, fast: bool, keep: bool, arguments: Sequence[str]) -> int:
    """Run the core suite and return pytest's exit status; `fast`: without a cluster.

    Files or tests among the `arguments` are run instead of all.
    """
    words = list(arguments)
    if not _names_tests(arguments):
        words = [*FOLDERS, *([] if fast else ["e2e-tests"]), *words]
    with _environment() as environment:
        if fast:
            return _pytest(words, environment)
        return _with_cluster(words, environment, name=name, wish=wish, keep=keep)


def run_affected(since: str, *, name: str, wish: str, arguments: Sequence[str]) -> int:
    """Run the tests that changes since a commit can affect, in a cluster that is kept.

    Prints the selection and its expected duration first; returns pytest's exit status.
    """
    changed = affected.changed_files(since)
    chosen = affected.select(changed, affected.read_table())
    if not chosen.paths:
        say(f"no test can be touched by {len(changed)} changed files since {since}")
        return 0
    if chosen.reason:
        budget = suite.read_budgets()["suite"]["warm"]
        say(f"the whole core suite, {elapsed(budget)} or less: {chosen.reason}")
    else:
        say(f"changed since {since}: {len(changed)} files; their tests: {', '.join(chosen.paths)}")
    with _environment() as environment:
        words = [*chosen.paths, *arguments]
        if not chosen.stories and not chosen.reason:
            return _pytest(words, environment)
        return _with_cluster(words, environment, name=name, wish=wish, keep=True)


def _tree() -> str:
    """Return a digest of the working tree, including uncommitted changes."""

    def git(*words: str) -> str:
        return shell.run(["git", *words], cwd=ROOT)

    digest = hashlib.sha256(f"{git('rev-parse', 'HEAD^{tree}')}{git('diff', 'HEAD')}".encode())
    for path in git("ls-files", "--others", "--exclude-standard").splitlines():
        digest.update(path.encode() + (ROOT / path).read_bytes())
    return digest.hexdigest()[:12]


def run_part(
    part: str, *, name: str, wish: str, keep: bool, arguments: Sequence[str]
) -> PartResult:
    """Run a part of the long suites; tests that passed on the same tree are not run again.

    Files or tests among the `arguments` are run instead of all tests of the part.
    """
    if part not in PARTS:
        raise ShoppeError(f"there is no part {part!r}", f"the parts are {', '.join(PARTS)}")
    folder = cache("parts", _tree())
    folder.mkdir(parents=True, exist_ok=True)
    result_file = folder / f"{part}.json"
    if result_file.exists():
        return PartResult(**json.loads(result_file.read_text()))
    chosen, start = _names_tests(arguments), time.monotonic()
    passed = str(folder / f"{part}.passed")
    with _environment(**{suite.PART: part, suite.PASSED: passed}) as environment:
        if part in WITHOUT_CLUSTER:
            status = _pytest([*(() if chosen else FOLDERS), *arguments], environment)
        else:
            words = [*(() if chosen else ("e2e-tests",)), "-n1", *arguments]
            status = _with_cluster(words, environment, name=name, wish=wish, keep=keep)
    if status == NOTHING_COLLECTED and Path(passed).exists():
        status = 0  # all of them have passed before
    result = PartResult(part, status, time.monotonic() - start)
    if not status and not chosen:
        result_file.write_text(json.dumps(asdict(result)))
    return result
