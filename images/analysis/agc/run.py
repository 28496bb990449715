"""Run the analysis over files: in this process or on a Dask cluster."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import uproot
from coffea import processor
from coffea.nanoevents import NanoAODSchema

from agc.executor import PatientDaskExecutor, persistently
from agc.histograms import Histograms
from agc.inference import Scorer
from agc.processor import TtbarProcessor
from agc.samples import File, InputError, event_weight
from agc.selection import ASSIGNMENT_BRANCHES, BRANCHES

# Real files refer to collections that the analysis does not read.
NanoAODSchema.warn_missing_crossrefs = False

CHUNK_SIZE = 200_000
TREE = "Events"
# Long enough for a reader to notice that a server is gone, and to find it again.
OPEN_TIMEOUT_S = 120
WEIGHTS = ("xsec", "unit")


@dataclass(frozen=True)
class Chunk:
    """The processing of one chunk of a file."""

    dataset: str
    worker: str
    """Of Dask, or "local"."""
    events: int
    start: float
    """Unix time."""
    stop: float
    cpu: float
    """Seconds of the processing thread."""


@dataclass(frozen=True)
class Report:
    """What a run did."""

    histograms: Histograms
    """Of the two regions."""
    features: Histograms
    """Of the best assignment of jets in 4j2b; empty without models."""
    events: dict[str, int]
    """Events processed, by sample."""
    seconds: float
    """Wall time of the processing, without looking into the files beforehand."""
    workers: int = 1
    files: list[str] = field(default_factory=list)
    chunks: list[Chunk] = field(default_factory=list)
    """In the order in which they began."""
    bytes_read: int = 0
    """Compressed, as read from the files."""
    chunk_size: int = CHUNK_SIZE

    @property
    def rate(self) -> float:
        """Return the events processed in a second of wall time."""
        return sum(self.events.values()) / self.seconds if self.seconds else 0.0


def check_file(path: str, branches: Iterable[str] = BRANCHES) -> int:
    """Return the number of events in a NanoAOD file.

    Raises `InputError` that names the file and what is wrong: it cannot be opened,
    is not ROOT, has no tree `Events`, or lacks branches.
    """
    try:
        file = uproot.open(path, timeout=OPEN_TIMEOUT_S)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except ValueError as error:
        raise InputError(f"{path}: not a ROOT file") from error
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise InputError(f"{path}: cannot be opened ({reason}); is its origin up?") from error
    with file:
        if TREE not in file:
            found = ", ".join(file.keys(cycle=False)[:5]) or "nothing"
            raise InputError(f"{path}: has no tree {TREE!r} (it holds: {found}); is it NanoAOD?")
        tree = file[TREE]
        have = set(tree.keys())
        missing = [branch for branch in branches if branch not in have]
        if missing:
            raise InputError(f"{path}: lacks the branches {', '.join(missing)}; is it NanoAOD?")
        return int(tree.num_entries)


def _check_all(paths: Sequence[str], branches: Sequence[str], client: Any) -> list[int]:
    """Look into all files, on the workers where there are some.

    Raises one `InputError` that names every file that cannot be used.
    """

    def look(path: str) -> tuple[int, str]:
        try:
            return check_file(path, branches), ""
        except InputError as error:
            return 0, str(error)

    if client is None:
        looked = [look(path) for path in paths]
    else:
        looked = persistently(client, lambda: client.gather(client.map(look, paths, pure=False)))
    problems = [problem for _, problem in looked if problem]
    if problems:
        raise InputError("\n".join(problems))
    return [count for count, _ in looked]


def fileset(
    files: Iterable[File],
    *,
    weights: str = "xsec",
    branches: Sequence[str] = BRANCHES,
    client: Any = None,
) -> dict[str, Any]:
    """Return files as coffea's fileset, every file looked into first for the branches.

    With `weights="xsec"` each event counts σ·L/N, N being the events that the list
    of files tells or else those in the files; with `"unit"` it counts one.  Raises
    `InputError` where files cannot be used or there are none.
    """
    files = list(files)
    if not files:
        raise InputError("no input files were given")
    if weights not in WEIGHTS:
        raise InputError(f"weights are {' or '.join(WEIGHTS)}, not {weights!r}")
    entries = _check_all([file.path for file in files], branches, client)
    found: dict[str, Any] = {}
    totals: dict[str, int] = {}
    for file, counted in zip(files, entries, strict=True):
        one = file.sample
        metadata = {"process": one.process, "variation": one.variation}
        entry = found.setdefault(one.name, {"files": {}, "metadata": metadata})
        entry["files"][file.path] = TREE
        totals[one.name] = totals.get(one.name, 0) + (file.events or counted)
    for file in files:
        total = totals[file.sample.name]
        weight = event_weight(file.sample, total) if weights == "xsec" else 1.0
        found[file.sample.name]["metadata"]["weight"] = weight
    return found


def process(
    chosen: dict[str, Any],
    instance: processor.ProcessorABC,
    *,
    client: Any = None,
    chunk_size: int = CHUNK_SIZE,
    progress: bool = True,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run a processor over a fileset; return its result, and coffea's metrics.

    With a Dask `client` the workers do so; without one, this process does.
    """
    if client is None:
        executor: Any = processor.IterativeExecutor(status=progress)
    else:
        executor = PatientDaskExecutor(client=client, bar=progress, retries=3)
    runner = processor.Runner(
        executor=executor,
        schema=NanoAODSchema,
        chunksize=chunk_size,
        xrootdtimeout=OPEN_TIMEOUT_S,
        savemetrics=True,
        # The shared cache would also keep the weights of an earlier run.
        metadata_cache={},
    )
    result, metrics = runner(chosen, processor_instance=instance, treename=TREE)
    return result, metrics


def run(
    files: Iterable[File],
    *,
    weights: str = "xsec",
    scorer: Scorer | None = None,
    client: Any = None,
    chunk_size: int = CHUNK_SIZE,
    progress: bool = True,
) -> Report:
    """Run the analysis and return its histograms.

    With a `scorer` jets are assigned, too.  With a Dask `client` the workers read and
    select; without one, this process does.  `chunk_size` is in events; results do not
    depend on it.  Raises `InputError` before anything is processed where a file cannot
    be used.
    """
    branches = (*BRANCHES, *ASSIGNMENT_BRANCHES) if scorer else BRANCHES
    chosen = fileset(files, weights=weights, branches=branches, client=client)
    workers = len(client.scheduler_info()["workers"]) if client else 1
    start = time.perf_counter()
    instance = TtbarProcessor(scorer)
    result, metrics = process(
        chosen, instance, client=client, chunk_size=chunk_size, progress=progress
    )
    seconds = time.perf_counter() - start
    paths = [path for entry in chosen.values() for path in entry["files"]]
    chunks = sorted((Chunk(**chunk) for chunk in result["chunks"]), key=lambda one: one.start)
    return Report(
        result["histograms"],
        result["features"],
        result["events"],
        seconds,
        workers,
        paths,
        chunks,
        int(metrics["bytesread"]),
        chunk_size,
    )
