"""Progress on the terminal: one line a step, with the time it took.

On a terminal the running step shows a spinner; elsewhere (CI) a heartbeat line
appears every half minute, so that a long step is never silent.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

console = Console(stderr=True, highlight=False, soft_wrap=True)
HEARTBEAT_S = 30.0

Note = Callable[[str], None]


def elapsed(seconds: float) -> str:
    """Return a duration as people read it: `3.2 s`, `4 min 05 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"


def say(message: str) -> None:
    """Print one line of plain information."""
    console.print(message, markup=False)


@contextmanager
def step(title: str) -> Iterator[Note]:
    """Show `title` while the body runs, then its elapsed time.

    Yields a function that sets the step's latest detail (a line of output, a
    count), shown beside the spinner or in the next heartbeat.
    """
    start = time.monotonic()
    latest = [""]
    done = threading.Event()
    live = console.is_terminal

    def heartbeat() -> None:
        while not done.wait(HEARTBEAT_S):
            say(f"  … {title}: {elapsed(time.monotonic() - start)}  {latest[0]}"[:160])

    if live:
        with console.status(title) as status:

            def note(text: str) -> None:
                latest[0] = text
                status.update(f"{title} [dim]{elapsed(time.monotonic() - start)}  {text[:90]}")

            try:
                yield note
            except BaseException:
                say(f"✗ {title} ({elapsed(time.monotonic() - start)})")
                raise
    else:
        say(f"▸ {title}")
        beat = threading.Thread(target=heartbeat, daemon=True)
        beat.start()
        try:
            yield lambda text: latest.__setitem__(0, text)
        except BaseException:
            say(f"✗ {title} ({elapsed(time.monotonic() - start)})")
            raise
        finally:
            done.set()
    say(f"✓ {title} ({elapsed(time.monotonic() - start)})")
