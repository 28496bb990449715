"""Serves the counters of all processes of the server, on a port that is not for users.

It runs in a container beside the server and reads the files that the processes write.  It imports
nothing of MLflow, so that it needs little memory.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from coffea_shoppe_contract.listening import every_address
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

PREFIX = "shoppe_"
"""Of the exported metrics: those of MLflow and its libraries may have labels of any number."""


class Processes(Collector):
    """The sums over all processes that write, or have written, to a folder."""

    def __init__(self, folder: Path) -> None:
        self.files = MultiProcessCollector(None, str(folder))  # type: ignore[no-untyped-call]

    def collect(self) -> Iterator[Metric]:
        """Yield our own metrics."""
        for metric in self.files.collect():  # type: ignore[no-untyped-call]
            if metric.name.startswith(PREFIX):
                yield metric


def registry(folder: Path) -> CollectorRegistry:
    """Return a registry of the counters in a folder."""
    counters = CollectorRegistry()
    counters.register(Processes(folder))
    return counters


def main() -> None:
    """Serve until a signal ends the process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="PROMETHEUS_MULTIPROC_DIR")
    parser.add_argument("--port", type=int, default=9090)
    options = parser.parse_args()
    _, thread = start_http_server(options.port, every_address(), registry=registry(options.folder))
    thread.join()
