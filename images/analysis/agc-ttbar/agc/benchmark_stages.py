"""CPU time of a run by stage, measured by timers around functions.

`STAGES` is the only place that names them: adapt it where a function moves.  A stage's time
is without that of stages called from within it, so that columns that are read on first use
count as reading.
"""

import importlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any
from unittest.mock import patch

STAGES: dict[str, tuple[str, ...]] = {
    "open": (
        "uproot:open",
        "uproot.reading:ReadOnlyKey.get",
    ),
    "schema": (
        "coffea.nanoevents.factory:NanoEventsFactory.from_root",
        "coffea.nanoevents.factory:NanoEventsFactory.events",
    ),
    "read": (
        "uproot.behaviors.TBranch:TBranch.array",
        "uproot.behaviors.TBranch:HasBranches.arrays",
        "uproot.models.RNTuple:RField.array",
        "uproot.behaviors.RNTuple:HasFields.arrays",
    ),
    "decompress": ("uproot.compression:decompress",),
    "select": ("agc.kernel:KernelSelected.__init__", "agc.kernel:KernelSelected.regions"),
    "vary": (
        "agc.systematics:draws",
        "agc.systematics:jet_pt",
        "agc.systematics:weight_variations",
    ),
    "fill": ("agc.processor:_fill",),
    "infer": ("agc.inference:best",),
    "merge": ("coffea.processor.accumulator:iadd",),
}
"""Functions, as `module:name` or `module:Class.name`, by stage."""


class _Running(threading.local):
    """The stages that run in a thread, one within another, and since when the last one does."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.since = 0.0


class _Timers:
    """CPU seconds of all threads by stage, each without the stages within it."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.running = _Running()
        self.lock = threading.Lock()

    def _charge(self) -> None:
        now, running = time.thread_time(), self.running
        if running.stages:
            with self.lock:
                self.seconds[running.stages[-1]] += now - running.since
        running.since = now

    def around(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that also measures its time."""

        @wraps(function)
        def timed(*args: Any, **options: Any) -> Any:
            self._charge()
            self.running.stages.append(stage)
            try:
                return function(*args, **options)
            finally:
                self._charge()
                self.running.stages.pop()

        return timed


def located(name: str) -> tuple[Any, str]:
    """Return the module or class that has a function of `STAGES`, and its attribute's name."""
    module, _, path = name.partition(":")
    *classes, attribute = path.split(".")
    owner: Any = importlib.import_module(module)
    for part in classes:
        owner = getattr(owner, part)
    if not hasattr(owner, attribute):
        raise AttributeError(f"{name} does not exist: adapt agc.benchmark_stages.STAGES")
    return owner, attribute


@contextmanager
def timers() -> Iterator[dict[str, float]]:
    """Yield the CPU seconds by stage of what runs within the context: a thread reads ahead."""
    clocks = _Timers()
    with ExitStack() as stack:
        for stage, names in STAGES.items():
            for name in names:
                owner, attribute = located(name)
                # Class methods are bound to their class by the attribute's own kind.
                original = vars(owner)[attribute] if isinstance(owner, type) else None
                if isinstance(original, classmethod):
                    timed: Any = classmethod(clocks.around(stage, original.__func__))
                else:
                    timed = clocks.around(stage, getattr(owner, attribute))
                stack.enter_context(patch.object(owner, attribute, timed))
        yield clocks.seconds


def by_stage(task: Callable[[], Any]) -> dict[str, float]:
    """Return the CPU seconds of a task by stage, `other` for the rest, and their sum, `total`."""
    with timers() as seconds:
        began = time.process_time()
        task()
        total = time.process_time() - began
    return {**seconds, "other": total - sum(seconds.values()), "total": total}
