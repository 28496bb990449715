"""Progress on the terminal: one line a step, with the time it took.

Steps may run beside each other, each in a thread of its own.  On a terminal one
spinner shows all that run; elsewhere (CI) a heartbeat line per running step appears
every half minute, so that a long step is never silent.
"""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.status import Status

console = Console(stderr=True, highlight=False, soft_wrap=True)
HEARTBEAT_S = 30.0
WIDTH = 160
RECORD = "SHOPPE_STEPS"
"""Environment variable: the file in which all processes of a run record their steps."""

Note = Callable[[str], None]


@dataclass(frozen=True)
class Step:
    """A finished step, and its duration."""

    title: str
    seconds: float


def _record(title: str, seconds: float) -> None:
    if path := os.environ.get(RECORD):
        with Path(path).open("a") as file:
            file.write(json.dumps(asdict(Step(title, seconds))) + "\n")


def recorded() -> list[Step]:
    """Return the steps that the processes of this run have recorded; none without a record."""
    path = Path(os.environ.get(RECORD) or os.devnull)
    lines = path.read_text().splitlines() if path.exists() else []
    return [Step(**json.loads(line)) for line in lines]


class _Running:
    """A running step: its title, its start, and its latest detail."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.start = time.monotonic()
        self.latest = ""

    def note(self, text: str) -> None:
        self.latest = text

    def took(self) -> str:
        return elapsed(time.monotonic() - self.start)


_lock = threading.Lock()
_running: list[_Running] = []


def elapsed(seconds: float) -> str:
    """Return a duration for output: `3.2 s`, `4 min 05 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"


def say(message: str) -> None:
    """Print one line of plain information."""
    console.print(message, markup=False)


def _beat(running: _Running, done: threading.Event) -> None:
    """Print a line every half minute, until the step is done."""
    while not done.wait(HEARTBEAT_S):
        say(f"  … {running.title}: {running.took()}  {running.latest}"[:WIDTH])


def _spin(done: threading.Event) -> None:
    """Show all running steps on the one line of a spinner."""
    with Status("", console=console) as status:
        while not done.wait(0.2):
            with _lock:
                shown = [f"{r.title} ({r.took()}) {r.latest[:60]}".strip() for r in _running]
            status.update(" · ".join(shown)[:WIDTH].replace("[", r"\["))


class _Spinner:
    """The spinner; it runs while any step runs."""

    def __init__(self) -> None:
        self._done = threading.Event()
        self._thread = threading.Thread(target=_spin, args=(self._done,), daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._done.set()
        self._thread.join()


_spinner: list[_Spinner] = []
_switching = threading.Lock()


def _enter(running: _Running) -> Callable[[], None]:
    """Show that a step runs; return a function that ends it."""
    if not console.is_terminal:
        say(f"▸ {running.title}")
        done = threading.Event()
        threading.Thread(target=_beat, args=(running, done), daemon=True).start()
        return done.set
    with _switching:
        with _lock:
            _running.append(running)
        if not _spinner:
            _spinner.append(_Spinner())
    return lambda: _leave(running)


def _leave(running: _Running) -> None:
    """Remove a step from the spinner; the last one stops it."""
    with _switching:
        with _lock:
            _running.remove(running)
        if not _running:
            _spinner.pop().end()


@contextmanager
def step(title: str, detail: str = "") -> Iterator[Note]:
    """Show a step while the body runs, then its elapsed time, and record that.

    `detail` is shown after the title and not recorded: what changes from run to run,
    such as a version.  Yields a function that sets the step's latest line of output or
    count, shown beside the spinner or in the next heartbeat.
    """
    running = _Running(f"{title} {detail}".strip())
    leave = _enter(running)
    try:
        yield running.note
    except BaseException:
        leave()
        say(f"✗ {running.title} ({running.took()})")
        raise
    leave()
    _record(title, time.monotonic() - running.start)
    say(f"✓ {running.title} ({running.took()})")
