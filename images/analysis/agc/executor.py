"""A Dask executor that shows progress and survives a lost connection to the scheduler."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from coffea import processor
from coffea.util import rich_bar
from distributed.client import FutureCancelledError

ATTEMPTS = 3
RECONNECT_S = 60
POLL_S = 0.5

T = TypeVar("T")


def persistently(client: Any, work: Callable[[], T]) -> T:
    """Do work through a Dask client, and again where its connection was lost on the way.

    A client whose connection breaks (a gateway's proxy restarts) connects again by
    itself, but all its futures are cancelled.  Raises `RuntimeError` where the
    scheduler stays out of reach for a minute, or the connection broke three times.
    """
    for _ in range(ATTEMPTS):
        try:
            return work()
        except FutureCancelledError:
            deadline = time.monotonic() + RECONNECT_S
            while client.status != "running" and time.monotonic() < deadline:
                time.sleep(POLL_S)
            if client.status != "running":
                break
    raise RuntimeError(
        "the connection to the Dask scheduler was lost: is the cluster still running? "
        "Make a new one and run again"
    )


def _finished(prefix: str, dask_scheduler: Any = None) -> int:
    """Return how many tasks of a name have ended since the scheduler's start."""
    known = dask_scheduler.task_prefixes.get(prefix)
    return known.state_counts["memory"] if known else 0


@contextmanager
def _bar(client: Any, prefix: str, total: int, title: str, unit: str) -> Iterator[None]:
    """Show how many of the tasks are done, as the scheduler counts them."""
    before = client.run_on_scheduler(_finished, prefix)
    ended = threading.Event()
    with rich_bar() as bar:
        task = bar.add_task(f"[green]{title}", total=total, unit=unit)

        def show() -> None:
            while not ended.wait(POLL_S):
                try:
                    done = client.run_on_scheduler(_finished, prefix) - before
                except Exception:  # noqa: S112  (the work itself tells of a lost connection)
                    continue
                bar.update(task, completed=min(done, total), refresh=True)

        watch = threading.Thread(target=show, daemon=True)
        watch.start()
        try:
            yield
            bar.update(task, completed=total, refresh=True)
        finally:
            ended.set()
            watch.join(timeout=5)


@dataclass
class PatientDaskExecutor(processor.DaskExecutor):
    """coffea's executor, with `persistently` around it and a bar of its own.

    The bar of coffea listens on a connection of its own and waits for ever when
    that is lost.
    """

    bar: bool = True

    def __post_init__(self) -> None:
        self.status = False

    def __call__(self, items: Iterable[Any], function: Any, accumulator: Any) -> Any:
        """Run the function over the items and return the sum of its results."""
        items = list(items)
        run = super().__call__
        # Only the processing has tasks by its own name; looking into files is brief.
        if not self.bar or self.unit != "chunk":
            return persistently(self.client, lambda: run(items, function, accumulator))
        with _bar(self.client, self.function_name, len(items), self.desc, self.unit):
            return persistently(self.client, lambda: run(items, function, accumulator))
