"""Run the analysis over files: in this process or on a Dask cluster."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import uproot
from coffea import processor
from coffea.nanoevents import NanoAODSchema

from agc import delivery
from agc.executor import PatientDaskExecutor, persistently
from agc.histograms import Binning, Histograms
from agc.inference import Scorer, ServedModels, Use
from agc.processor import TtbarProcessor, worker_name
from agc.samples import File, InputError, event_weight
from agc.selection import ASSIGNMENT_BRANCHES, BRANCHES, COLUMNS

# Real files refer to collections that the analysis does not read.
NanoAODSchema.warn_missing_crossrefs = False

CHUNK_SIZE = 200_000
TREE = "Events"
# Long enough for a reader to notice that a server is gone, and to find it again.
OPEN_TIMEOUT_S = 120
WEIGHTS = ("xsec", "unit")
SOURCES = ("direct", "servicex")
"""How columns come: read from the files, or delivered by ServiceX."""


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
    """Compressed, as read from the files, or from what was delivered."""
    chunk_size: int = CHUNK_SIZE
    source: str = "direct"
    delivered: int = 0
    """Files that ServiceX delivered."""
    delivery_seconds: float = 0.0
    """Of `seconds`, those until all files were delivered."""
    candidates: int = 0
    """Assignments of jets that were scored."""
    served: dict[str, Use] = field(default_factory=dict)
    """What the server counted of each model meanwhile, where served ones scored."""

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


def _check_arguments(files: Sequence[File], weights: str) -> None:
    if not files:
        raise InputError("no input files were given")
    if weights not in WEIGHTS:
        raise InputError(f"weights are {' or '.join(WEIGHTS)}, not {weights!r}")


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
    _check_arguments(files, weights)
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


def _workers(client: Any) -> int:
    """Return how many processes work: those of Dask, or this one.

    Not the length of the list of workers: it holds five at the most, and none while the
    client looks after the scheduler by itself.
    """
    return int(client.scheduler_info()["n_workers"]) if client else 1


def _executor(client: Any, *, progress: bool) -> Any:
    """Return what runs a function over chunks: the Dask workers, or this process."""
    if client is None:
        return processor.IterativeExecutor(status=progress)
    return PatientDaskExecutor(client=client, bar=progress, retries=3)


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
    runner = processor.Runner(
        executor=_executor(client, progress=progress),
        schema=NanoAODSchema,
        chunksize=chunk_size,
        xrootdtimeout=OPEN_TIMEOUT_S,
        savemetrics=True,
        # The shared cache would also keep the weights of an earlier run.
        metadata_cache={},
    )
    result, metrics = runner(chosen, processor_instance=instance, treename=TREE)
    return result, metrics


def _delivered(
    files: list[File],
    instance: TtbarProcessor,
    branches: Sequence[str],
    *,
    weights: str,
    client: Any,
    progress: bool,
    config: str | None,
    kept: bool,
) -> Report:
    """Run the analysis on columns that ServiceX delivers."""
    unknown = [file.path for file in files if not file.events]
    counted = dict(zip(unknown, _check_all(unknown, branches, client), strict=True))
    totals: dict[str, int] = {}
    samples = {file.sample.name: file.sample for file in files}
    for file in files:
        events = file.events or counted[file.path]
        totals[file.sample.name] = totals.get(file.sample.name, 0) + events
    workers = _workers(client)
    start = time.perf_counter()
    columns = delivery.deliver(
        files, branches, tree=TREE, progress=progress, config=config, kept=kept
    )
    items = [
        (
            group,
            {
                "dataset": name,
                "process": samples[name].process,
                "variation": samples[name].variation,
                "weight": event_weight(samples[name], totals[name]) if weights == "xsec" else 1.0,
            },
        )
        for name, urls in columns.urls.items()
        for group in delivery.batches(urls, workers)
    ]

    def analyse(item: tuple[Sequence[str], dict[str, Any]]) -> dict[str, Any]:
        events, size = delivery.read(item[0])
        return {**instance.analyse(events, item[1]), "bytes": size}

    executor = _executor(client, progress=progress)
    kind = {"desc": "Processing", "unit": "chunk", "function_name": type(instance).__name__}
    result, _ = executor.copy(**kind)(items, analyse, None)
    seconds = time.perf_counter() - start
    return Report(
        result["histograms"],
        result["features"],
        totals,
        seconds,
        workers,
        [file.path for file in files],
        _chunks(result),
        result["bytes"],
        source="servicex",
        delivered=columns.files,
        delivery_seconds=columns.seconds,
        candidates=result["candidates"],
    )


def columns_for(path: str, percent: float) -> list[str]:
    """Return branches that are so much of a file's compressed bytes, those of the analysis first.

    The last one may go beyond; all branches are fewer where the tree has less.  Raises
    `InputError` where the file cannot be used.
    """
    check_file(path)
    with uproot.open(path, timeout=OPEN_TIMEOUT_S) as file:
        tree = file[TREE]
        sizes = {name: int(tree[name].compressed_bytes) for name in tree.keys(recursive=False)}
    wanted = percent / 100 * sum(sizes.values())
    chosen: list[str] = []
    for name in dict.fromkeys((*BRANCHES, *sizes)):
        if sum(sizes[one] for one in chosen) >= wanted:
            break
        chosen.append(name)
    return chosen


def read_only(
    files: Iterable[File], percent: float, *, client: Any = None, progress: bool = True
) -> Report:
    """Read a share of the files' bytes and analyse nothing: what input alone can do.

    With a Dask `client` the workers read.  Raises `InputError` where a file cannot be
    used, or the share is none.
    """
    files = list(files)
    _check_arguments(files, "unit")
    if not 0 < percent <= 100:
        raise InputError(
            f"{percent:g} % of the bytes cannot be read: give more than 0, at most 100"
        )
    branches = columns_for(files[0].path, percent)

    def read(file: File) -> dict[str, Any]:
        began, spent, count = time.time(), time.thread_time(), 0
        with uproot.open(file.path, timeout=OPEN_TIMEOUT_S) as opened:
            tree = opened[TREE]
            # A size in bytes would have uproot ask for each basket's head beforehand.
            for arrays in tree.iterate(branches, step_size=CHUNK_SIZE, library="ak"):
                count += len(arrays)
            size = sum(int(tree[name].compressed_bytes) for name in branches)
        cost = {"start": began, "stop": time.time(), "cpu": time.thread_time() - spent}
        chunk = {"dataset": file.sample.name, "worker": worker_name(), "events": count, **cost}
        return {"events": {file.sample.name: count}, "chunks": [chunk], "bytes": size}

    start = time.perf_counter()
    executor = _executor(client, progress=progress)
    kind = {"desc": "Reading", "unit": "chunk", "function_name": "read_only"}
    result, _ = executor.copy(**kind)(files, read, None)
    return Report(
        {},
        {},
        result["events"],
        time.perf_counter() - start,
        _workers(client),
        [file.path for file in files],
        _chunks(result),
        result["bytes"],
        source=f"{percent:g} % of the bytes, read only",
    )


def _chunks(result: dict[str, Any]) -> list[Chunk]:
    """Return what a run's chunks cost, in the order in which they began."""
    return sorted((Chunk(**chunk) for chunk in result["chunks"]), key=lambda one: one.start)


def run(
    files: Iterable[File],
    *,
    weights: str = "xsec",
    scorer: Scorer | None = None,
    client: Any = None,
    chunk_size: int = CHUNK_SIZE,
    progress: bool = True,
    source: str = "direct",
    config: str | None = None,
    kept: bool = True,
    binning: Binning | None = None,
) -> Report:
    """Run the analysis and return its histograms.

    With a `scorer` jets are assigned, too.  With a Dask `client` the workers read and
    select; without one, this process does.  `chunk_size` is in events; results do not
    depend on it.  With `source="servicex"` the columns are delivered by ServiceX (its
    client's configuration may be named by `config`, and unless `kept` it makes anew what
    it has of an earlier run), and files are named as at their origins.  Raises
    `InputError` before anything is processed where a file cannot be used.
    """
    if source not in SOURCES:
        raise InputError(f"columns come from {' or '.join(SOURCES)}, not from {source!r}")
    listed = list(files)
    _check_arguments(listed, weights)
    branches = (*BRANCHES, *ASSIGNMENT_BRANCHES) if scorer else BRANCHES
    instance = TtbarProcessor(scorer, binning)
    before = scorer.counted() if isinstance(scorer, ServedModels) else {}
    if source == "servicex":
        done = _delivered(
            listed,
            instance,
            branches if scorer else COLUMNS,
            weights=weights,
            client=client,
            progress=progress,
            config=config,
            kept=kept,
        )
    else:
        done = _read(
            listed,
            instance,
            branches,
            weights=weights,
            client=client,
            chunk_size=chunk_size,
            progress=progress,
        )
    after = scorer.counted() if isinstance(scorer, ServedModels) else {}
    return replace(done, served={key: use.since(before[key]) for key, use in after.items()})


def _read(
    files: list[File],
    instance: TtbarProcessor,
    branches: Sequence[str],
    *,
    weights: str,
    client: Any,
    chunk_size: int,
    progress: bool,
) -> Report:
    """Run the analysis on columns that are read from the files."""
    chosen = fileset(files, weights=weights, branches=branches, client=client)
    workers = _workers(client)
    start = time.perf_counter()
    result, metrics = process(
        chosen, instance, client=client, chunk_size=chunk_size, progress=progress
    )
    seconds = time.perf_counter() - start
    paths = [path for entry in chosen.values() for path in entry["files"]]
    return Report(
        result["histograms"],
        result["features"],
        result["events"],
        seconds,
        workers,
        paths,
        _chunks(result),
        int(metrics["bytesread"]),
        chunk_size,
        candidates=result["candidates"],
    )
