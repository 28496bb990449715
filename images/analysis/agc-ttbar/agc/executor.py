"""A Dask executor that shows progress and survives a lost connection to the scheduler."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from coffea import processor
from coffea.util import rich_bar
from coffea_shoppe_contract.addresses import redacted, shown_address
from distributed.client import FutureCancelledError

from agc.causes import chain, explain, may_pass
from agc.samples import InputError

ATTEMPTS = 3
RECONNECT_S = 60
POLL_S = 0.5
PAUSES_S = (1, 2, 4)
"""Pauses between the attempts to read a piece of a file."""

T = TypeVar("T")


def retry_on_disconnect(client: Any, work: Callable[[], T]) -> T:
    """Call `work`, which uses a Dask client, again where the client lost its connection.

    A client that loses its connection (a gateway's proxy restarts) reconnects by itself, but
    all its futures are cancelled.  Raises `RuntimeError` where the scheduler is unreachable
    for a minute, or the connection was lost three times.
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
        "Start a new cluster and run again"
    )


def _finished(prefix: str, dask_scheduler: Any = None) -> int:
    """Return how many tasks with a name prefix have finished since the scheduler started."""
    known = dask_scheduler.task_prefixes.get(prefix)
    return known.state_counts["memory"] if known else 0


@contextmanager
def _bar(client: Any, prefix: str, total: int, title: str, unit: str) -> Iterator[None]:
    """Show a progress bar of the tasks that the scheduler has finished."""
    before = client.run_on_scheduler(_finished, prefix)
    ended = threading.Event()
    with rich_bar() as bar:
        task = bar.add_task(f"[green]{title}", total=total, unit=unit)

        def show() -> None:
            while not ended.wait(POLL_S):
                try:
                    done = client.run_on_scheduler(_finished, prefix) - before
                except Exception:  # noqa: S112  (the work itself reports a lost connection)
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


def _address(work: Any) -> str:
    """Return the address of the file that a piece of work reads, or ''."""
    piece = work[0] if type(work) is tuple and work else work
    address = getattr(piece, "filename", getattr(piece, "path", ""))
    return address if isinstance(address, str) else ""


@dataclass(frozen=True)
class Attempts:
    """A function that is called again where reading failed with a temporary error.

    Raises `InputError` that names file and cause where reading failed for good.
    """

    function: Callable[[Any], Any]

    def __call__(self, work: Any) -> Any:
        """Return the function's result."""
        for pause in (*PAUSES_S, None):
            try:
                return self.function(work)
            except Exception as error:
                if pause is not None and may_pass(error):
                    time.sleep(pause)
                    continue
                self._raise(work, error)
        return None

    @staticmethod
    def _raise(work: Any, error: Exception) -> NoReturn:
        for known in chain(error):
            if isinstance(known, InputError):
                raise known from None
        path = _address(work)
        if cause := explain(path, error):
            raise InputError(f"{shown_address(path)}: {cause}" if path else cause) from None
        if redacted(str(error)) != str(error):
            raise RuntimeError(redacted(str(error))) from None
        raise error


@dataclass
class AttemptingExecutor(processor.IterativeExecutor):
    """coffea's executor in this process, with `Attempts` instead of coffea's retries."""

    retries: int = 0

    def __call__(self, items: Iterable[Any], function: Any, accumulator: Any) -> Any:
        """Run the function over the items and return the sum of its results."""
        return super().__call__(items, Attempts(function), accumulator)


@dataclass
class PatientDaskExecutor(processor.DaskExecutor):
    """coffea's Dask executor, with `retry_on_disconnect` and a progress bar of its own.

    Workers retry with `Attempts`, as Dask cannot recognise temporary errors.  coffea's
    progress bar uses a connection of its own, and hangs when that is lost.
    """

    bar: bool = True
    retries: int = 0

    def __post_init__(self) -> None:
        self.status = False

    def __call__(self, items: Iterable[Any], function: Any, accumulator: Any) -> Any:
        """Run the function over the items and return the sum of its results."""
        items, function = list(items), Attempts(function)
        run = super().__call__
        # Only processing has tasks of a known name; opening files is brief.
        if not self.bar or self.unit != "chunk":
            return retry_on_disconnect(self.client, lambda: run(items, function, accumulator))
        with _bar(self.client, self.function_name, len(items), self.desc, self.unit):
            return retry_on_disconnect(self.client, lambda: run(items, function, accumulator))
