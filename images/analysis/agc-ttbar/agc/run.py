"""Run the analysis over files, in this process or on a Dask cluster."""

import time
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import uproot
from coffea import processor
from coffea.nanoevents import NanoAODSchema
from coffea.processor.executor import WorkItem
from coffea_shoppe_contract.addresses import shown_address

from agc import delivery
from agc.columns import OPEN_TIMEOUT_S, Columns, compressed_sizes, read_ahead, read_columns
from agc.executor import AttemptingExecutor, PatientDaskExecutor
from agc.files import Input, opened, summarize, summarize_all
from agc.histograms import Binning, Histograms, Sums, weighted
from agc.inference import Scorer, ServedModels, Use
from agc.nanoaod import Jets, jets_of
from agc.processor import TtbarProcessor, worker_name
from agc.samples import TREE, File, InputError, check_files, event_weight
from agc.selection import ASSIGNMENT_BRANCHES, COMMON, NANOEVENTS, columns

# Real files have references to collections that the analysis does not read.
NanoAODSchema.warn_missing_crossrefs = False
# The schema adds mass and charge to photons, which a file may have, too; nothing reads them.
warnings.filterwarnings("ignore", r"Branch Photon_\w+ already exists", RuntimeWarning)

CHUNK_SIZE = 200_000
WEIGHTS = ("xsec", "unit")
SOURCES = ("direct", "servicex")
"""Where columns come from: read from the files, or delivered by ServiceX."""
UNCOUNTED = "weights are for the events that the fileset declares (nevts), which were not checked"
"""Note for runs whose files only ServiceX reads."""


@dataclass(frozen=True)
class Chunk:
    """The processing of one chunk of a file."""

    dataset: str
    worker: str
    """Name of the Dask worker, or "local"."""
    events: int
    start: float
    """Unix time."""
    stop: float
    cpu: float
    """CPU time of the processing thread, in seconds."""


@dataclass(frozen=True)
class Report:
    """Results, time and resources of a run."""

    histograms: Histograms
    """Of the two regions."""
    features: Histograms
    """Of the best assignment of jets in 4j2b; empty without models."""
    events: dict[str, int]
    """Events processed, by sample."""
    seconds: float
    """Wall time of the processing, without the checks of the files beforehand."""
    workers: int = 1
    files: list[str] = field(default_factory=list)
    chunks: list[Chunk] = field(default_factory=list)
    """In the order of their start."""
    bytes_read: int = 0
    """Compressed bytes that were read from the input or delivered files."""
    chunk_size: int = CHUNK_SIZE
    source: str = "direct"
    delivered: int = 0
    """Number of files that ServiceX delivered."""
    delivery_seconds: float = 0.0
    """Time until all files were delivered; a part of `seconds`."""
    candidates: int = 0
    """Number of assignments of jets that were scored."""
    served: dict[str, Use] = field(default_factory=dict)
    """Use of each served model during the run."""
    notes: list[str] = field(default_factory=list)
    """Warnings, such as samples that are weighted for another number of events."""
    btag: str = ""
    """How b jets are tagged."""

    @property
    def rate(self) -> float:
        """Return the processed events per second of wall time."""
        return sum(self.events.values()) / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Processed:
    """Result and cost of a processor's run."""

    result: dict[str, Any]
    seconds: float
    """Wall time, without the checks of the files beforehand."""
    workers: int
    bytes_read: int


def _check_weights(weights: str) -> None:
    if weights not in WEIGHTS:
        raise InputError(f"weights are {' or '.join(WEIGHTS)}, not {weights!r}")


def fileset(
    files: Iterable[File],
    *,
    weights: str = "xsec",
    more: Sequence[str] = (),
    era: str | None = None,
    btag: str | None = None,
    client: Any = None,
) -> dict[str, Any]:
    """Return files as coffea's fileset, after checking every file.

    The arguments and the weights are those of `files.opened`.  Warns about samples whose
    number of events in the list of files differs from that in the files, and the like.
    Raises `InputError` where files cannot be used or there are none.
    """
    _check_weights(weights)
    more = (*NANOEVENTS, *more)
    inputs = opened(list(files), weights=weights, more=more, era=era, btag=btag, client=client)
    for note in inputs.notes:
        warnings.warn(note, stacklevel=2)
    return inputs.fileset


def _workers(client: Any) -> int:
    """Return the number of Dask workers, or 1 without a client.

    The scheduler's list of workers is not used: it has at most five entries, and none while
    the client refreshes it.
    """
    return int(client.scheduler_info()["n_workers"]) if client else 1


def _executor(client: Any, *, progress: bool) -> Any:
    """Return the executor: of the Dask workers, or of this process."""
    if client is None:
        return AttemptingExecutor(status=progress)
    return PatientDaskExecutor(client=client, bar=progress)


def process(
    inputs: Input,
    instance: processor.ProcessorABC,
    *,
    client: Any = None,
    chunk_size: int = CHUNK_SIZE,
    progress: bool = True,
) -> Processed:
    """Run a processor over checked files: on the workers of a Dask `client`, or here."""
    workers = _workers(client)
    runner = processor.Runner(
        executor=_executor(client, progress=progress),
        schema=NanoAODSchema,
        chunksize=chunk_size,
        xrootdtimeout=OPEN_TIMEOUT_S,
        savemetrics=True,
        # The shared cache would also keep the weights of an earlier run.
        metadata_cache={},
    )
    start = time.perf_counter()
    result, metrics = runner(inputs.chunks(chunk_size), processor_instance=instance, treename=TREE)
    seconds = time.perf_counter() - start
    return Processed(result, seconds, workers, int(metrics["bytesread"]))


def _delivered(
    files: list[File],
    scorer: Scorer | None,
    binning: Binning | None,
    *,
    weights: str,
    era: str | None,
    btag: str | None,
    client: Any,
    progress: bool,
    config: str | None,
    use_cached_results: bool,
) -> Report:
    """Run the analysis on columns that ServiceX delivers."""
    check_files(files)
    more = ASSIGNMENT_BRANCHES if scorer else ()
    unknown = [file.path for file in files if file.events is None]
    # With another b tag the version of NanoAOD matters: one file is enough to see it.
    paths = unknown or ([files[0].path] if era or btag else [])
    summaries = summarize_all(paths, (*COMMON, *more), client)
    summary_by_path = dict(zip(paths, summaries, strict=True))
    jets = Jets()
    if summary_by_path:
        jets = jets_of(
            {path: summary.branches for path, summary in summary_by_path.items()},
            era=era,
            btag=btag,
        )
    instance = TtbarProcessor(scorer, binning, jets)
    totals: dict[str, int] = {}
    samples = {file.sample.name: file.sample for file in files}
    for file in files:
        events = summary_by_path[file.path].events if file.events is None else file.events
        totals[file.sample.name] = totals.get(file.sample.name, 0) + events
    workers = _workers(client)
    start = time.perf_counter()
    delivered = delivery.deliver(
        files,
        columns(jets, assignment=scorer is not None),
        tree=TREE,
        cut=delivery.cut_for(jets),
        progress=progress,
        config=config,
        use_cached_results=use_cached_results,
    )
    work: list[tuple[Sequence[str], dict[str, Any]]] = [
        (
            group,
            {
                "dataset": name,
                "process": samples[name].process,
                "variation": samples[name].variation,
                "weight": event_weight(samples[name], totals[name]) if weights == "xsec" else 1.0,
            },
        )
        for name, urls in delivered.urls.items()
        for group in delivery.batches(urls, workers)
    ]

    def analyse(group_and_metadata: tuple[Sequence[str], dict[str, Any]]) -> dict[str, Any]:
        delivered_columns, size = delivery.read(group_and_metadata[0])
        result = instance.analyse_columns(delivered_columns, group_and_metadata[1])
        return {**result, "bytes": size}

    executor = _executor(client, progress=progress)
    kind = {"desc": "Processing", "unit": "chunk", "function_name": type(instance).__name__}
    result, _ = executor.copy(**kind)(work, analyse, None)
    seconds = time.perf_counter() - start
    weight_of = {metadata["dataset"]: metadata["weight"] for _, metadata in work}
    return Report(
        weighted_all(result["histograms"], weight_of, binning),
        weighted_all(result["features"], weight_of),
        totals,
        seconds,
        workers,
        [shown_address(file.path) for file in files],
        _chunks(result),
        result["bytes"],
        source="servicex",
        delivered=delivered.files,
        delivery_seconds=delivered.seconds,
        candidates=result["candidates"],
        notes=[UNCOUNTED] if weights == "xsec" and len(unknown) < len(files) else [],
        btag=str(jets),
    )


def columns_for(path: str, percent: float) -> list[str]:
    """Return branches with `percent` of a file's compressed bytes, the analysis' own first.

    The last branch may exceed that share.  Raises `InputError` where the file cannot be used.
    """
    known = summarize(path, COMMON).branches
    with uproot.open({path: None}, timeout=OPEN_TIMEOUT_S) as file:
        sizes = compressed_sizes(file[TREE])
    target_bytes = percent / 100 * sum(sizes.values())
    chosen: list[str] = []
    jets = Jets().branches if known.issuperset(Jets().branches) else ()
    for name in dict.fromkeys((*COMMON, *jets, *sizes)):
        if sum(sizes[column] for column in chosen) >= target_bytes:
            break
        chosen.append(name)
    return chosen


def read_only(
    files: Iterable[File], percent: float, *, client: Any = None, progress: bool = True
) -> Report:
    """Read a share of the files' bytes without analysis, to measure the input rate.

    With a Dask `client` the workers read.  Raises `InputError` where a file cannot be used,
    or `percent` is not a share.
    """
    files = list(files)
    check_files(files)
    if not 0 < percent <= 100:
        raise InputError(
            f"{percent:g} % of the bytes cannot be read: give more than 0 and at most 100"
        )
    branches = columns_for(files[0].path, percent)
    chosen = set(branches)

    def read(file: File) -> dict[str, Any]:
        began, spent, count = time.time(), time.thread_time(), 0
        with uproot.open({file.path: None}, timeout=OPEN_TIMEOUT_S) as opened:
            tree = opened[TREE]
            for first in range(0, tree.num_entries, CHUNK_SIZE):
                last = min(first + CHUNK_SIZE, tree.num_entries)
                tree.arrays(
                    filter_name=lambda name: name in chosen,
                    entry_start=first,
                    entry_stop=last,
                    library="ak",
                    how=dict,
                    array_cache=None,
                )
                count += last - first
            sizes = compressed_sizes(tree)
            size = sum(sizes[name] for name in branches)
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
        [shown_address(file.path) for file in files],
        _chunks(result),
        result["bytes"],
        source=f"{percent:g} % of the bytes, read only",
    )


def _chunks(result: dict[str, Any]) -> list[Chunk]:
    """Return the chunks of a run in the order of their start."""
    return sorted((Chunk(**chunk) for chunk in result["chunks"]), key=lambda chunk: chunk.start)


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
    use_cached_results: bool = True,
    binning: Binning | None = None,
    era: str | None = None,
    btag: str | None = None,
) -> Report:
    """Run the analysis and return its histograms.

    With a `scorer` jets are assigned, too.  With a Dask `client` the workers read and select;
    without one, this process does.  `chunk_size` is in events; results do not depend on it.
    With `source="servicex"` ServiceX delivers the columns, and files have their addresses at
    the origin; `config` and `use_cached_results` are those of `delivery.deliver`.  `era` and
    `btag` define the b tag, as in `nanoaod.jets_of`.  Raises `InputError` before anything is
    processed where a file cannot be used.
    """
    if source not in SOURCES:
        raise InputError(f"columns come from {' or '.join(SOURCES)}, not from {source!r}")
    listed = list(files)
    _check_weights(weights)
    before = scorer.counted() if isinstance(scorer, ServedModels) else {}
    options: dict[str, Any] = {"weights": weights, "era": era, "btag": btag, "client": client}
    options["progress"] = progress
    if source == "servicex":
        done = _delivered(
            listed, scorer, binning, config=config, use_cached_results=use_cached_results, **options
        )
    else:
        done = _read(listed, scorer, binning, chunk_size=chunk_size, **options)
    after = scorer.counted() if isinstance(scorer, ServedModels) else {}
    return replace(done, served={key: use.since(before[key]) for key, use in after.items()})


def _read(
    files: list[File],
    scorer: Scorer | None,
    binning: Binning | None,
    *,
    weights: str,
    era: str | None,
    btag: str | None,
    client: Any,
    chunk_size: int,
    progress: bool,
) -> Report:
    """Run the analysis on columns from the files themselves."""
    more = ASSIGNMENT_BRANCHES if scorer else ()
    inputs = opened(files, weights=weights, more=more, era=era, btag=btag, client=client)
    instance = TtbarProcessor(scorer, binning, inputs.jets)
    branches = columns(inputs.jets, assignment=scorer is not None)
    key = inputs.run

    def read(piece: WorkItem) -> tuple[Columns, int]:
        return read_columns(key, piece.filename, branches, piece.entrystart, piece.entrystop)

    def analyse(group: tuple[WorkItem, ...]) -> dict[str, Any]:
        results = []
        for piece, (chunk, size) in read_ahead(group, read):
            metadata = {"dataset": piece.dataset, **piece.usermeta}
            results.append({**instance.analyse_columns(chunk, metadata), "bytes": size})
        total: dict[str, Any] = processor.accumulate(results)
        return total

    workers = _workers(client)
    start = time.perf_counter()
    executor = _executor(client, progress=progress)
    kind = {"desc": "Processing", "unit": "chunk", "function_name": type(instance).__name__}
    result, _ = executor.copy(**kind)(inputs.groups(chunk_size, workers), analyse, None)
    weight_of = {name: entry["metadata"]["weight"] for name, entry in inputs.fileset.items()}
    return Report(
        weighted_all(result["histograms"], weight_of, binning),
        weighted_all(result["features"], weight_of),
        result["events"],
        time.perf_counter() - start,
        workers,
        [shown_address(file.path) for file in files],
        _chunks(result),
        result["bytes"],
        chunk_size,
        candidates=result["candidates"],
        notes=inputs.notes,
        btag=str(inputs.jets),
    )


def weighted_all(
    sums: dict[str, Sums], weight_of: dict[str, float], binning: Binning | None = None
) -> Histograms:
    """Return the histograms of all samples, each sample with its weight."""
    histograms: Histograms = {}
    for dataset, sums_of_sample in sums.items():
        histograms |= weighted(sums_of_sample, weight_of[dataset], binning)
    return histograms
