"""A transformer: takes files from the API, one at a time, and stores what it makes of them.

Each file is transformed in a process of its own, forked from one in which the libraries
are loaded already: what a query does to memory, or to the process, ends there.
"""

import argparse
import io
import logging
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import requests

from coffea_shoppe_servicex import queries
from coffea_shoppe_servicex.errors import QueryError, TransformError, UnreadableError

LOG = logging.getLogger(__name__)
ALIVE = Path(tempfile.gettempdir()) / "alive"
"""Touched while it works or waits: what the pod's probe looks at."""
IDLE_S = 0.5
LOOK_S = 0.2
TIMEOUT_S = 30
TELL_S = 30
PATIENCE_S = 600
"""So long is an API waited for that does not answer."""
PRELOADED = [
    *("awkward", "numpy", "pyarrow.parquet", "uproot", "fsspec_xrootd", "qastle"),
    "coffea_shoppe_servicex.transform",
]


class ApiError(Exception):
    """The API refused; its answer is the text."""


class GoneError(ApiError):
    """The file is not this transformer's any more."""


class Api:
    """The API, as a transformer sees it."""

    def __init__(self, url: str, key: Path) -> None:
        self.url, self.key = url.rstrip("/"), key
        self.session = requests.Session()
        self.stopping = threading.Event()
        """Set once the transformer is to end: nothing is waited for any more."""

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Send something; asks again while the API is away.

        Raises `GoneError`, or `ApiError` where it refuses or stays away.
        """
        end = time.monotonic() + PATIENCE_S
        told = 0.0
        while True:
            try:
                answer = self.session.post(
                    f"{self.url}/servicex/internal/{path}",
                    json=body,
                    headers={"Authorization": f"Bearer {self.key.read_text().strip()}"},
                    timeout=TIMEOUT_S,
                )
            except requests.RequestException as error:
                problem = type(error).__name__
            else:
                if answer.status_code == 204:
                    return None
                if answer.ok:
                    return answer.json()
                problem = f"{answer.status_code} {answer.text[:300]}"
                if answer.status_code == 409:
                    raise GoneError(problem)
                if answer.status_code < 500:
                    raise ApiError(problem)
            if time.monotonic() > end or self.stopping.is_set():
                raise ApiError(f"the API at {self.url} does not answer: {problem}")
            if time.monotonic() - told > TELL_S:
                LOG.warning("the API at %s does not answer yet: %s", self.url, problem)
                told = time.monotonic()
            ALIVE.touch()
            self.stopping.wait(1)


@dataclass(frozen=True)
class Made:
    """What the process of a transform told."""

    events: int = 0
    read: int = 0
    reason: str = ""
    message: str = ""
    again: bool = False
    log: str = ""


def _work(lease: dict[str, Any], target: str, channel: Connection) -> None:
    """Transform a file, in a process of its own; tell of it through `channel`."""
    from coffea_shoppe_servicex.transform import transform

    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logging.getLogger().handlers = [handler]
    # What a user's function prints is part of its log.
    sys.stdout = sys.stderr = text
    form = lease["result_format"]
    try:
        query = queries.parse(lease["codegen"], lease["selection"], form)
        done = transform(query, lease["places"], Path(target), form)
        made = Made(events=done.events, read=done.read, log=text.getvalue())
    except UnreadableError as error:
        made = Made(reason=error.reason, message=str(error), again=True, log=text.getvalue())
    except TransformError as error:
        made = Made(reason=error.reason, message=str(error), log=text.getvalue())
    except QueryError as error:
        made = Made(reason="BadQuery", message=str(error), log=text.getvalue())
    except MemoryError:
        made = Made(reason="OutOfMemory", message="memory could not be had", log=text.getvalue())
    except Exception as error:
        log = text.getvalue() + traceback.format_exc()
        made = Made(reason="Failed", message=f"{type(error).__name__}: {error}", log=log)
    channel.send(made)
    channel.close()
    # Threads of XRootD's client may not end by themselves.
    os._exit(0)


def resident_mib(pid: int) -> float:
    """Return what a process holds in memory; 0 where there is none of that number."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class Transformer:
    """Works through files until it is told to stop."""

    def __init__(
        self, api: Api, name: str, *, memory: int, scratch: Path, everything: bool = False
    ) -> None:
        self.api, self.name, self.scratch = api, name, scratch
        self.memory, self.everything = memory, everything
        self._processes = multiprocessing.get_context("forkserver")
        self._processes.set_forkserver_preload(PRELOADED)

    def run(self, *, until_idle: float = 0.0) -> None:
        """Take files until stopped; with `until_idle`, until none was there for so many seconds."""
        LOG.info("transformer %s takes files with up to %s MiB", self.name, self.memory)
        # The libraries are loaded before the first file comes.
        forkserver.ensure_running()
        last = time.monotonic()
        while not self.api.stopping.is_set():
            ALIVE.touch()
            try:
                told = {"worker": self.name, "memory": self.memory, "everything": self.everything}
                lease = self.api.post("lease", told)
            except ApiError as error:
                LOG.info("no more files: %s", error)
                return
            if lease is None:
                if until_idle and time.monotonic() - last > until_idle:
                    return
                time.sleep(IDLE_S)
                continue
            self.one(lease)
            last = time.monotonic()

    def one(self, lease: dict[str, Any]) -> None:
        """Transform one file, and tell the API how it went."""
        where = f"files/{lease['file']}"
        attempt = {"attempt": lease["attempt"]}
        began = time.monotonic()
        with tempfile.TemporaryDirectory(dir=self.scratch, ignore_cleanup_errors=True) as folder:
            target = Path(folder) / "result"
            try:
                made = self._watched(lease, target, where)
                if not made.reason:
                    made = self._stored(made, target, where, attempt)
                if made.reason:
                    LOG.info("%s: %s: %s", lease["places"][-1], made.reason, made.message)
                    told = {k: getattr(made, k) for k in ("reason", "message", "again", "log")}
                    self.api.post(f"{where}/fail", {**attempt, **told})
                    return
                seconds = time.monotonic() - began
                size = target.stat().st_size
                told = {"bytes": size, "events": made.events, "read": made.read}
                done = {**attempt, **told, "seconds": seconds, "log": made.log}
                self.api.post(f"{where}/complete", done)
                LOG.info("%s: %s events, %.1f s", lease["places"][-1], made.events, seconds)
            except GoneError as error:
                LOG.info("%s given up: %s", lease["places"][-1], error)
            except ApiError as error:
                LOG.warning("%s: %s", lease["places"][-1], error)

    def _watched(self, lease: dict[str, Any], target: Path, where: str) -> Made:
        """Run the transform and watch it: its memory, its time, and whether it is still wanted."""
        ours, theirs = self._processes.Pipe(duplex=False)
        process = self._processes.Process(target=_work, args=(lease, str(target), theirs))
        process.start()
        theirs.close()
        began = renewed = time.monotonic()
        made: Made | None = None
        try:
            while made is None:
                try:
                    if ours.poll(LOOK_S):
                        made = ours.recv()
                        continue
                except EOFError:
                    process.join(5)
                    code = process.exitcode
                    told = f"the transform ended without a word (exit code {code})"
                    killed = code == -signal.SIGKILL
                    return Made(
                        reason="OutOfMemory" if killed else "Crashed",
                        message="it was killed, most likely for its memory" if killed else told,
                        again=True,
                    )
                ALIVE.touch()
                now = time.monotonic()
                if (used := resident_mib(process.pid or 0)) > lease["memory"]:
                    told = f"it used {used:.0f} MiB; {lease['memory']} were allowed"
                    return Made(reason="OutOfMemory", message=told)
                if now - began > lease["deadline_s"]:
                    told = f"it took longer than {lease['deadline_s']:.0f} s"
                    return Made(reason="TooSlow", message=told)
                if now - renewed > lease["lease_s"] / 4:
                    self.api.post(f"{where}/renew", {"attempt": lease["attempt"]})
                    renewed = now
            return made
        finally:
            if process.is_alive():
                process.join(0 if made is None else 5)
                process.kill()
            process.join(5)
            ours.close()

    def _stored(self, made: Made, target: Path, where: str, attempt: dict[str, Any]) -> Made:
        """Send the result to where the API says."""
        url = self.api.post(f"{where}/upload", attempt)["url"]
        try:
            with target.open("rb") as file:
                size = {"Content-Length": str(target.stat().st_size)}
                answer = requests.put(url, data=file, headers=size, timeout=(10, 300))
        except (OSError, requests.RequestException) as error:
            told = f"the result could not be stored ({type(error).__name__}); "
            told += "is the object store up?"
            return Made(reason="CannotStore", message=told, again=True, log=made.log)
        if answer.ok:
            return made
        code = answer.text.partition("<Code>")[2].partition("</Code>")[0]
        full = answer.status_code == 507 or "Storage" in code or "no space" in answer.text.lower()
        told = f"the object store answered {answer.status_code} {code}"
        if full or "QuotaExceeded" in code:
            told = "the object store is full; delete results that you do not need"
        elif answer.status_code == 403:
            told += ": does the bucket hold more than its quota? Then delete from it"
        return Made(reason="CannotStore", message=told, again=True, log=made.log)


def main(arguments: list[str]) -> None:
    """Run a transformer until the pod ends."""
    parser = argparse.ArgumentParser(prog="coffea-shoppe-servicex worker", description=__doc__)
    parser.add_argument("--api", required=True, help="address of the API")
    parser.add_argument("--key", type=Path, required=True, help="file of the transformer's key")
    parser.add_argument("--memory", type=int, default=1024, help="MiB that a file may need")
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument(
        "--until-idle", type=float, default=0.0, metavar="S", help="end after S idle seconds"
    )
    parser.add_argument(
        "--everything", action="store_true", help="on a laptop: also users' own functions"
    )
    options = parser.parse_args(arguments)
    api = Api(options.api, options.key)
    worker = Transformer(
        api,
        socket.gethostname(),
        memory=options.memory,
        scratch=options.scratch,
        everything=options.everything,
    )

    def stop(*_: object) -> None:
        # The file under way is finished; its lease would only run out.
        api.stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    worker.run(until_idle=options.until_idle)
