"""Checks that run beside each other, each for a limited time."""

import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from coffea_shoppe_preflight.findings import Cause, Finding
from coffea_shoppe_preflight.snapshot import ForbiddenError, UnreachableError

API_SERVER = "API server"
"""The component of findings about the API server itself."""


@dataclass(frozen=True)
class Check:
    """Something to check: whose, what it is, and how; it returns what is wrong."""

    component: str
    what: str
    run: Callable[[], Iterable[Finding]]


def run_all(checks: list[Check], timeout: float) -> list[Finding]:
    """Run all checks at once; one that has not ended after `timeout` seconds is a finding.

    An error of a check is a finding, too.  Threads of checks that have not ended are left behind:
    the process must end without waiting for them.
    """
    outcomes: queue.Queue[tuple[int, list[Finding]]] = queue.Queue()

    def work(number: int, check: Check) -> None:
        try:
            findings = list(check.run())
        except ForbiddenError as error:
            findings = [Finding(check.component, Cause.UNCHECKED, f"{check.what}: {error}")]
        except UnreachableError as error:
            findings = [Finding(API_SERVER, Cause.API_SERVER, str(error))]
        except Exception as error:  # whatever it is, the others go on
            detail = f"{check.what}: {type(error).__name__}: {error}"
            findings = [Finding(check.component, Cause.CHECK_FAILED, detail)]
        outcomes.put((number, findings))

    for number, check in enumerate(checks):
        threading.Thread(target=work, args=(number, check), daemon=True).start()
    ended: dict[int, list[Finding]] = {}
    end = time.monotonic() + timeout
    while len(ended) < len(checks):
        try:
            number, findings = outcomes.get(timeout=max(end - time.monotonic(), 0))
        except queue.Empty:
            break
        ended[number] = findings
    results = []
    for number, check in enumerate(checks):
        detail = f"{check.what} took over {timeout:g} s"
        results += ended.get(number, [Finding(check.component, Cause.NO_ANSWER, detail)])
    return results
