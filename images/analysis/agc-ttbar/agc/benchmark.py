"""Rates of one core: reading, and the analysis with and without the assignment of jets.

    taskset -c 0 python -m agc.benchmark FILE [MODELS]

prints JSON.  All rates are of one process over one file of nominal ttbar.  The measurements
alternate, so that other load of the machine affects all of them.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uproot

from agc import training
from agc.inference import LocalModels
from agc.run import run
from agc.samples import TREE, File, sample
from agc.selection import ASSIGNMENT_BRANCHES, BRANCHES

REPEATS = 3
EVENT_ID = ("run", "luminosityBlock", "event")
"""Not used by any cut, and so not part of the reading limit."""
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


def read_rate(path: str, branches: list[str]) -> float:
    """Return the events/s at which uproot reads and decompresses branches."""
    start = time.perf_counter()
    with uproot.open(path) as file:
        file[TREE].arrays(branches)
        events = int(file[TREE].num_entries)
    return events / (time.perf_counter() - start)


def trained_models(file: File) -> LocalModels:
    """Return models of the published settings, trained on the file itself."""
    samples_by_parity = training.collect([file], progress=False)
    return LocalModels(
        {
            p: PUBLISHED.train_all(training_sample, threads=1)
            for p, training_sample in samples_by_parity.items()
        }
    )


def measure(path: str, models: Path | None, *, repeats: int = REPEATS) -> dict[str, Any]:
    """Return the median rates, in events/s, and the size of the models."""
    file = File(sample("ttbar"), path)
    scorer = LocalModels.load(models) if models else trained_models(file)
    plain = [branch for branch in BRANCHES if branch not in EVENT_ID]
    assigning = list(dict.fromkeys((*plain, *ASSIGNMENT_BRANCHES)))
    tasks: dict[str, Callable[[], float]] = {
        "read": lambda: read_rate(path, plain),
        "run": lambda: run([file], progress=False).rate,
        "read_ml": lambda: read_rate(path, assigning),
        "run_ml": lambda: run([file], scorer=scorer, progress=False).rate,
    }
    for task in tasks.values():
        task()  # warms caches and imports
    measured: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(repeats):
        for name, task in tasks.items():
            measured[name].append(task())
    nodes = [len(booster.trees_to_dataframe()) for booster in scorer.boosters.values()]
    rates = {name: statistics.median(values) for name, values in measured.items()}
    with uproot.open(path) as opened:
        events = int(opened[TREE].num_entries)
    return {"events": events, "nodes": nodes, **rates}


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], Path(sys.argv[2]) if len(sys.argv) > 2 else None)))
