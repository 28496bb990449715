"""How the cost of the analysis grows with its input and with its workers, and of what it is.

    python -m agc.benchmark_scale FILE

prints JSON.  The input is FILE 1, 4 and 16 times, under other names; the workers are
processes of this machine: more of them than it has cores show no more than that.
"""

import cProfile
import json
import pstats
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client, LocalCluster

from agc.report import busy
from agc.run import Report, run
from agc.samples import File, sample

SIZES, WORKERS = (1, 4, 16), (1, 2, 4)
PARTS = {
    "read": ("uproot/source/chunk.py", "wait"),
    "decompress": ("uproot/compression.py", "decompress"),
    "fill": ("agc/processor.py", "_fill"),
    "merge": ("coffea/processor/accumulator.py", "iadd"),
}
"""Function whose time, with all that it calls, is a part's."""
ANALYSIS = ("agc/processor.py", "analyse")


def copies(path: Path, folder: Path, count: int) -> list[File]:
    """Return a file `count` times, each under a name of its own."""
    found = []
    for number in range(count):
        link = folder / f"{number:03d}-{path.name}"
        if not link.exists():
            link.symlink_to(path.resolve())
        found.append(File(sample("ttbar"), str(link)))
    return found


def parts(files: Sequence[File]) -> dict[str, float]:
    """Return what share of a run in this process each part takes, by the profiler.

    `compute` is the analysis without what else is named, `other` the rest: opening
    files, planning, and the frameworks.
    """
    run(files, progress=False)  # warms caches and imports
    profile = cProfile.Profile()
    began = time.perf_counter()
    profile.runcall(run, files, progress=False)
    total = time.perf_counter() - began
    stats: Any = pstats.Stats(profile)

    def spent(where: tuple[str, str]) -> float:
        # Functions of one name call one another: the outer one's time is the whole.
        return max(
            (
                float(cumulative)
                for (file, _, name), (_, _, _, cumulative, _) in stats.stats.items()
                if file.endswith(where[0]) and name == where[1]
            ),
            default=0.0,
        )

    found = {name: spent(where) for name, where in PARTS.items()}
    # Columns are read where the analysis first touches them; merging comes after it.
    within = ("read", "decompress", "fill")
    found["compute"] = spent(ANALYSIS) - sum(found[name] for name in within)
    found["other"] = total - sum(found.values())
    return {name: seconds / total for name, seconds in found.items()}


def fitted(sizes: Sequence[float], seconds: Sequence[float]) -> dict[str, float]:
    """Return the straight line through costs: a start, a slope, and how far it misses.

    `exponent` is the power of the size that the cost would grow with; 1 is linear.
    """
    slope, start = np.polyfit(sizes, seconds, 1)
    missed = np.abs(np.polyval((slope, start), sizes) / np.asarray(seconds) - 1)
    # The start-up does not grow: it would pass for a cost that grows less than linearly.
    above = np.maximum(np.asarray(seconds) - max(start, 0.0), 1e-9)
    exponent = np.polyfit(np.log(sizes), np.log(above), 1)[0]
    told = {"start": start, "slope": slope, "missed": missed.max(), "exponent": exponent}
    return {name: float(value) for name, value in told.items()}


GOAL_GBPS = 200.0
CACHE_GBPS = 25.0
"""Of one XCache: eight served the published runs at 200 Gbps."""


def needed(rate: float, size: float, *, goal: float = GOAL_GBPS) -> dict[str, float]:
    """Return what reading at `goal` Gbps takes, linear in everything.

    `rate` is in events/s of one core, `size` in bytes that are read of an event; the
    assumptions are in docs/explanation/scale.md.
    """
    core = rate * size * 8 / 1e9
    return {"core": core, "cores": goal / core, "caches": goal / CACHE_GBPS}


def _told(report: Report) -> dict[str, float]:
    return {
        "seconds": report.seconds,
        "events": sum(report.events.values()),
        "bytes": report.bytes_read,
        # What is left is Dask's: scheduling, transfer, merging, and waiting for the last.
        "idle": 1 - busy(report),
    }


def measure(path: Path) -> dict[str, Any]:
    """Return runs by workers and size, the fit of each number of workers, and the parts."""
    found: dict[str, Any] = {"runs": {}, "fits": {}}
    with tempfile.TemporaryDirectory() as folder:
        inputs = {size: copies(path, Path(folder), size) for size in SIZES}
        found["parts"] = parts(inputs[4])
        for workers in WORKERS:
            options: dict[str, Any] = {"n_workers": workers, "threads_per_worker": 1}
            with LocalCluster(**options, dashboard_address=None) as cluster, Client(cluster) as one:
                one.wait_for_workers(workers, timeout=120)
                run(inputs[4], client=one, progress=False)  # each worker has its imports
                told = {
                    size: _told(run(files, client=one, progress=False))
                    for size, files in inputs.items()
                }
            found["runs"][workers] = told
            seconds = [one["seconds"] for one in told.values()]
            found["fits"][workers] = fitted(SIZES, seconds)
    # Of one worker's largest run, in which the start-up counts least.
    alone = found["runs"][1][SIZES[-1]]
    rate, size = alone["events"] / alone["seconds"], alone["bytes"] / alone["events"]
    found["needed"] = {"rate": rate, "size": size, **needed(rate, size)}
    return found


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]))))
