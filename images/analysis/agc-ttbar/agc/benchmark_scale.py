"""How the cost of the analysis grows with its input and its workers, and where it arises.

    python -m agc.benchmark_scale FILE

prints JSON.  The input is FILE 1, 4 and 16 times, under different names.  The workers are
processes of this machine, so results with more workers than cores show no speed-up.
"""

import cProfile
import json
import pstats
import shutil
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
"""The function of each part; its time includes the functions that it calls."""
ANALYSIS = ("agc/processor.py", "summed")


def copies(path: Path, folder: Path, count: int) -> list[File]:
    """Return a file `count` times, each time under another name.

    The names are hard links, or copies on another file system: the analysis regards a
    symbolic link as the file that it points to.
    """
    files = []
    for number in range(count):
        link = folder / f"{number:03d}-{path.name}"
        if not link.exists():
            try:
                link.hardlink_to(path.resolve())
            except OSError:
                shutil.copyfile(path, link)
        files.append(File(sample("ttbar"), str(link)))
    return files


def parts(files: Sequence[File]) -> dict[str, float]:
    """Return the share of each part in the time of a run in this process, by the profiler.

    `compute` is the analysis without the other parts, `other` the rest: opening files,
    planning, and the frameworks.
    """
    run(files, progress=False)  # warms caches and imports
    profile = cProfile.Profile()
    began = time.perf_counter()
    profile.runcall(run, files, progress=False)
    total = time.perf_counter() - began
    stats: Any = pstats.Stats(profile)

    def spent(function: tuple[str, str]) -> float:
        # Functions of one name call one another: the time of the outer one includes the others.
        return max(
            (
                float(cumulative)
                for (file, _, name), (_, _, _, cumulative, _) in stats.stats.items()
                if file.endswith(function[0]) and name == function[1]
            ),
            default=0.0,
        )

    seconds_by_part = {name: spent(function) for name, function in PARTS.items()}
    seconds_by_part["compute"] = spent(ANALYSIS) - seconds_by_part["fill"]
    seconds_by_part["other"] = total - sum(seconds_by_part.values())
    return {name: seconds / total for name, seconds in seconds_by_part.items()}


def fitted(sizes: Sequence[float], seconds: Sequence[float]) -> dict[str, float]:
    """Return a straight line through costs: start, slope, and largest relative deviation.

    `exponent` is the power of the size with which the cost grows; 1 is linear.
    """
    slope, start = np.polyfit(sizes, seconds, 1)
    missed = np.abs(np.polyval((slope, start), sizes) / np.asarray(seconds) - 1)
    # The start-up is constant: included, it would make the growth look less than linear.
    above = np.maximum(np.asarray(seconds) - max(start, 0.0), 1e-9)
    exponent = np.polyfit(np.log(sizes), np.log(above), 1)[0]
    line = {"start": start, "slope": slope, "missed": missed.max(), "exponent": exponent}
    return {name: float(value) for name, value in line.items()}


GOAL_GBPS = 200.0
CACHE_GBPS = 25.0
"""Rate of one XCache: eight served the published runs at 200 Gbps."""


def needed(rate: float, size: float, *, goal: float = GOAL_GBPS) -> dict[str, float]:
    """Return the cores and caches that reading at `goal` Gbps needs, if all scales linearly.

    `rate` is in events/s of one core, `size` in bytes read per event; the assumptions are in
    docs/explanation/scale.md.
    """
    core = rate * size * 8 / 1e9
    return {"core": core, "cores": goal / core, "caches": goal / CACHE_GBPS}


def _summary(report: Report) -> dict[str, float]:
    return {
        "seconds": report.seconds,
        "events": sum(report.events.values()),
        "bytes": report.bytes_read,
        # The rest is Dask's: scheduling, transfer, merging, and waiting for the last chunk.
        "idle": 1 - busy(report),
    }


def measure(path: Path) -> dict[str, Any]:
    """Return runs by workers and size, the fit of each number of workers, and the parts."""
    result: dict[str, Any] = {"runs": {}, "fits": {}}
    with tempfile.TemporaryDirectory() as folder:
        inputs = {size: copies(path, Path(folder), size) for size in SIZES}
        result["parts"] = parts(inputs[4])
        for workers in WORKERS:
            options: dict[str, Any] = {"n_workers": workers, "threads_per_worker": 1}
            with (
                LocalCluster(**options, dashboard_address=None) as cluster,
                Client(cluster) as client,
            ):
                client.wait_for_workers(workers, timeout=120)
                run(inputs[4], client=client, progress=False)  # each worker imports its modules
                runs = {
                    size: _summary(run(files, client=client, progress=False))
                    for size, files in inputs.items()
                }
            result["runs"][workers] = runs
            seconds = [entry["seconds"] for entry in runs.values()]
            result["fits"][workers] = fitted(SIZES, seconds)
    # The largest run of one worker, where the start-up matters least.
    alone = result["runs"][1][SIZES[-1]]
    rate, size = alone["events"] / alone["seconds"], alone["bytes"] / alone["events"]
    result["needed"] = {"rate": rate, "size": size, **needed(rate, size)}
    return result


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]))))
