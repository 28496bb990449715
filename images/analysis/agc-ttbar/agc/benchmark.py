"""CPU seconds of the analysis by stage, beside uproot's of the same columns and upstream's.

    taskset -c 0 python -m agc.benchmark --file LABEL=PATH … [--models FOLDER] [--upstream FOLDER]

prints JSON.  All files are nominal ttbar.  One thread of one process is measured, with the
files in the machine's memory; the tasks alternate, so that other load of the machine affects
all of them.  With `--workers N` the same runs on N Dask workers instead.
"""

import json
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import uproot

from agc import benchmark_stages, benchmark_upstream, training
from agc.inference import LocalModels, Scorer
from agc.nanoaod import Jets
from agc.run import run
from agc.samples import TREE, File, sample
from agc.selection import columns

REPEATS = 3
PUBLISHED = training.Settings(
    max_depth=41,
    rounds=251,
    learning_rate=0.78,
    min_child_weight=0.162,
    reg_lambda=0.5,
    reg_alpha=1,
    gamma=0.00207,
)
"""The settings of the models that were published for this analysis."""


def read_columns(path: str, branches: Sequence[str]) -> None:
    """Open a file with uproot, and read and decompress branches."""
    with uproot.open(path) as file:
        file[TREE].arrays(list(branches))


def cpu_seconds(task: Callable[[], Any]) -> float:
    """Return the CPU time of a task in this process."""
    began = time.process_time()
    task()
    return time.process_time() - began


def trained_models(file: File) -> LocalModels:
    """Return models of the published settings, trained on the file itself."""
    samples_by_parity = training.collect([file], progress=False)
    return LocalModels(
        {
            p: PUBLISHED.train_all(training_sample, threads=1)
            for p, training_sample in samples_by_parity.items()
        }
    )


def analysis(file: File, scorer: Scorer | None) -> Callable[[], Any]:
    """Return the analysis of a file as a task."""
    return lambda: run([file], scorer=scorer, weights="unit", progress=False)


def measure(
    files: dict[str, str],
    models: Path | None,
    *,
    upstream: Path | None = None,
    repeats: int = REPEATS,
) -> dict[str, Any]:
    """Return median CPU seconds of reading, of the analysis and of upstream's, and the stages.

    `files` are paths by label.  The result has for each label the number of events, the branches
    of the file, and `plain` and `assigned` (without and with the assignment of jets): the
    seconds of `read`, `run` and, where its checkout is named, `upstream`, and `stages`.  Raises
    `InputError` where a folder cannot be used.
    """
    inputs = {label: File(sample("ttbar"), path) for label, path in files.items()}
    scorer = LocalModels.load(models) if models else trained_models(next(iter(inputs.values())))
    read = {"plain": columns(Jets()), "assigned": columns(Jets(), assignment=True)}
    tasks: dict[tuple[str, str, str], Callable[[], Any]] = {}
    for label, file in inputs.items():
        for kind, used in (("plain", None), ("assigned", scorer)):
            tasks[label, kind, "read"] = partial(read_columns, file.path, read[kind])
            tasks[label, kind, "run"] = analysis(file, used)
            if upstream:
                processor_run = benchmark_upstream.task(upstream, file, models=kind == "assigned")
                tasks[label, kind, "upstream"] = processor_run
    seconds: dict[tuple[str, str, str], list[float]] = {key: [] for key in tasks}
    for turn in range(repeats + 1):
        for key, task in tasks.items():
            spent = cpu_seconds(task)
            if turn:  # the first turn warms caches and imports
                seconds[key].append(spent)
    results: dict[str, Any] = {}
    for label, file in inputs.items():
        with uproot.open(file.path) as opened:
            tree = opened[TREE]
            results[label] = {"events": int(tree.num_entries), "branches": len(tree.keys())}
        for kind, used in (("plain", None), ("assigned", scorer)):
            results[label][kind] = {
                name: statistics.median(values)
                for (owner, sort, name), values in seconds.items()
                if (owner, sort) == (label, kind)
            }
            stages = benchmark_stages.by_stage(analysis(file, used))
            results[label][kind]["stages"] = stages
    nodes = [len(booster.trees_to_dataframe()) for booster in scorer.boosters.values()]
    return {"files": results, "nodes": nodes}


def measure_workers(files: dict[str, str], workers: int) -> dict[str, Any]:
    """Return wall and CPU seconds of the analysis on Dask workers of this machine, by file.

    Each worker gets two chunks; the CPU time is that of the workers.
    """
    from distributed import Client, LocalCluster

    options: dict[str, Any] = {"n_workers": workers, "threads_per_worker": 1}
    results: dict[str, Any] = {}
    with LocalCluster(**options, dashboard_address=None) as cluster, Client(cluster) as client:
        client.wait_for_workers(workers, timeout=120)
        for label, path in files.items():
            file = File(sample("ttbar"), path)
            with uproot.open(path) as opened:
                events = int(opened[TREE].num_entries)
            size = -(-events // (2 * workers))
            for _ in range(2):  # the first one warms caches and imports
                before = sum(client.run(time.process_time).values())
                report = run([file], client=client, chunk_size=size, progress=False)
                spent = sum(client.run(time.process_time).values()) - before
            results[label] = {"events": events, "wall": report.seconds, "cpu": spent}
    return results


@click.command()
@click.option("--file", "files", multiple=True, required=True, metavar="LABEL=PATH")
@click.option("--models", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--upstream", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--workers", type=click.IntRange(1))
@click.option("--repeats", type=click.IntRange(1), default=REPEATS)
def main(
    files: tuple[str, ...],
    models: Path | None,
    upstream: Path | None,
    workers: int | None,
    repeats: int,
) -> None:
    """Print the measured times as JSON."""
    paths = dict(file.rsplit("=", 1) for file in files)
    if workers:
        click.echo(json.dumps(measure_workers(paths, workers)))
    else:
        click.echo(json.dumps(measure(paths, models, upstream=upstream, repeats=repeats)))


if __name__ == "__main__":
    main()
