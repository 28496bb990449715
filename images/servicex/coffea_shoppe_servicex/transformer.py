"""The process of a transformer: leases files from the API, one at a time, and transforms them.

Each transform runs in its own process, forked from one that has loaded the libraries: its
memory, and what a query does to its process, end with it.
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
import time
import traceback
from dataclasses import dataclass, replace
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import requests
from coffea_shoppe_contract.addresses import redacted, shown_address

from coffea_shoppe_servicex import codegens, liveness
from coffea_shoppe_servicex.api_client import ApiClient, ApiError
from coffea_shoppe_servicex.codegens import Codegens
from coffea_shoppe_servicex.errors import (
    LeaseLostError,
    QueryError,
    TransformError,
    UnknownCodegenError,
    UnreadableError,
)
from coffea_shoppe_servicex.transform import transform

LOG = logging.getLogger(__name__)
IDLE_INTERVAL_S = 0.5
WATCH_INTERVAL_S = 0.2
UPLOAD_TIMEOUT_S = (10, 300)
WRONG_KEYS = ("InvalidAccessKeyId", "SignatureDoesNotMatch")
"""Codes of S3 for a URL that was signed with keys that the store does not know."""
"""Timeouts to connect, and between two blocks."""
PRELOADED = [
    *("awkward", "numpy", "pyarrow.parquet", "uproot", "fsspec_xrootd", "qastle"),
    "coffea_shoppe_servicex.writers",
    *codegens.built_in_modules(),
]


@dataclass(frozen=True)
class Outcome:
    """The outcome of one attempt; `reason` is empty if it succeeded."""

    events: int = 0
    read: int = 0
    """Bytes read from the input."""
    reason: str = ""
    message: str = ""
    retry: bool = False
    log: str = ""


def _transform(
    lease: dict[str, Any],
    target: str,
    channel: Connection,
    *,
    local_files: bool,
    codegens_folder: Path | None,
) -> None:
    """Transform a file in the current process, send the outcome and exit."""
    output = io.StringIO()
    handler = logging.StreamHandler(output)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logging.getLogger().handlers = [handler]
    # The output of a user's function is part of the log.
    sys.stdout = sys.stderr = output
    result_format = lease["result_format"]
    try:
        loaded = Codegens.load(folder=codegens_folder)
        query = loaded.parse(lease["codegen"], lease["selection"], result_format)
        result = transform(
            query,
            lease["source_urls"],
            Path(target),
            result_format,
            local_files=local_files,
            identity=lease.get("identity", ()),  # none from an API of an earlier release
        )
        outcome = Outcome(events=result.events, read=result.read)
    except UnreadableError as error:
        outcome = Outcome(reason=error.reason, message=str(error), retry=error.retry_may_help)
    except TransformError as error:
        outcome = Outcome(reason=error.reason, message=str(error))
    except UnknownCodegenError as error:
        # During an upgrade, another transformer may have it already.
        outcome = Outcome(reason="UnknownCodegen", message=str(error), retry=True)
    except QueryError as error:
        outcome = Outcome(reason="BadQuery", message=str(error))
    except MemoryError:
        outcome = Outcome(reason="OutOfMemory", message="a memory allocation failed")
    except Exception as error:
        output.write(traceback.format_exc())
        outcome = Outcome(reason="Failed", message=f"{type(error).__name__}: {error}")
    # Libraries, and users' functions, may name a file by its signed URL.
    message, log = redacted(outcome.message), redacted(output.getvalue())
    channel.send(replace(outcome, message=message, log=log))
    channel.close()
    # Threads of XRootD's client may keep the process from ending by itself.
    os._exit(0)


def resident_mib(pid: int) -> float:
    """Return the resident memory of a process in MiB; 0 if there is no such process."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class Transformer:
    """Leases and transforms files until it is stopped.

    `memory` is the limit of a transform in MiB.  `everything` accepts users' own functions
    and files of this machine: for a laptop.  `codegens_folder` has further code generators.
    """

    def __init__(
        self,
        api: ApiClient,
        name: str,
        *,
        memory: int,
        scratch: Path,
        everything: bool = False,
        codegens_folder: Path | None = None,
    ) -> None:
        self.api, self.name, self.scratch = api, name, scratch
        self.memory, self.everything = memory, everything
        self.codegens_folder = codegens_folder
        self._processes = multiprocessing.get_context("forkserver")
        self._processes.set_forkserver_preload(PRELOADED)

    def run(self, *, until_idle: float = 0.0) -> None:
        """Work until stopped or, with `until_idle`, until idle for that many seconds."""
        LOG.info("transformer %s: files with up to %s MiB", self.name, self.memory)
        # Load the libraries before the first file comes.
        forkserver.ensure_running()
        body = {"transformer": self.name, "memory": self.memory, "everything": self.everything}
        last_busy = time.monotonic()
        while not self.api.stopping.is_set():
            liveness.report()
            try:
                lease = self.api.post("lease", body)
            except ApiError as error:
                LOG.info("no more files: %s", error)
                return
            if lease is None:
                if until_idle and time.monotonic() - last_busy > until_idle:
                    return
                time.sleep(IDLE_INTERVAL_S)
                continue
            self.process(lease)
            last_busy = time.monotonic()

    def process(self, lease: dict[str, Any]) -> None:
        """Transform one file, upload the result, and report the outcome."""
        path, source = f"files/{lease['file']}", shown_address(lease["source_urls"][-1])
        attempt = {"attempt": lease["attempt"]}
        started = time.monotonic()
        with tempfile.TemporaryDirectory(dir=self.scratch, ignore_cleanup_errors=True) as folder:
            target = Path(folder) / "result"
            try:
                outcome = self._supervise(lease, target, path)
                if not outcome.reason:
                    outcome = self._upload(outcome, target, path, attempt)
                if outcome.reason:
                    LOG.info("%s: %s: %s", source, outcome.reason, outcome.message)
                    failure = {
                        "reason": outcome.reason,
                        "message": outcome.message,
                        "again": outcome.retry,
                        "log": outcome.log,
                    }
                    self.api.post(f"{path}/fail", {**attempt, **failure})
                    return
                seconds = time.monotonic() - started
                result = {
                    "events": outcome.events,
                    "read": outcome.read,
                    "seconds": seconds,
                    "log": outcome.log,
                }
                self.api.post(f"{path}/complete", {**attempt, **result})
                LOG.info("%s: %s events, %.1f s", source, outcome.events, seconds)
            except LeaseLostError as error:
                LOG.info("%s: given up: %s", source, error)
            except ApiError as error:
                LOG.warning("%s: %s", source, error)

    def _supervise(self, lease: dict[str, Any], target: Path, path: str) -> Outcome:
        """Run a transform in its own process, and enforce memory limit, deadline and lease."""
        receiver, sender = self._processes.Pipe(duplex=False)
        process = self._processes.Process(
            target=_transform,
            args=(lease, str(target), sender),
            kwargs={"local_files": self.everything, "codegens_folder": self.codegens_folder},
        )
        process.start()
        sender.close()
        started = renewed = time.monotonic()
        outcome: Outcome | None = None
        try:
            while outcome is None:
                try:
                    if receiver.poll(WATCH_INTERVAL_S):
                        outcome = receiver.recv()
                        continue
                except EOFError:
                    process.join(5)
                    return _crash(process.exitcode)
                liveness.report()
                now = time.monotonic()
                if (used := resident_mib(process.pid or 0)) > lease["memory"]:
                    excess = f"it used {used:.0f} MiB, of {lease['memory']} that it may use"
                    message = _remedied(excess, "servicex.transformer.memoryMaxMiB")
                    return Outcome(reason="OutOfMemory", message=message)
                if now - started > lease["deadline_s"]:
                    excess = f"it took longer than {lease['deadline_s']:.0f} s"
                    message = _remedied(excess, "servicex.transformer.deadline")
                    return Outcome(reason="TooSlow", message=message)
                if now - renewed > lease["lease_s"] / 4:
                    self.api.post(f"{path}/renew", {"attempt": lease["attempt"]})
                    renewed = now
            return outcome
        finally:
            if process.is_alive():
                process.join(0 if outcome is None else 5)
                process.kill()
            process.join(5)
            receiver.close()

    def _upload(
        self, outcome: Outcome, target: Path, path: str, attempt: dict[str, Any]
    ) -> Outcome:
        """Upload the result to a presigned URL; return the outcome, or why the upload failed."""
        url = self.api.post(f"{path}/upload", attempt)["url"]
        try:
            with target.open("rb") as file:
                headers = {"Content-Length": str(target.stat().st_size)}
                response = requests.put(url, data=file, headers=headers, timeout=UPLOAD_TIMEOUT_S)
        except (OSError, requests.RequestException) as error:
            message = f"the result could not be stored ({type(error).__name__}); "
            message += "is the object store up?"
            return Outcome(reason="CannotStore", message=message, retry=True, log=outcome.log)
        if response.ok:
            return outcome
        message = _upload_problem(response)
        return Outcome(reason="CannotStore", message=message, retry=True, log=outcome.log)


def _remedied(excess: str, key: str) -> str:
    """Return the message for a transform that exceeded the limit that a value of the chart sets."""
    return f"{excess}: request fewer columns, or ask the administrators for a larger {key}"


def _crash(exit_code: int | None) -> Outcome:
    """Return the outcome of a process that ended without sending one."""
    if exit_code == -signal.SIGKILL:
        message = "it was killed, most likely for its memory"
        return Outcome(reason="OutOfMemory", message=message, retry=True)
    message = f"its process ended without a result (exit code {exit_code})"
    return Outcome(reason="Crashed", message=message, retry=True)


def _upload_problem(response: requests.Response) -> str:
    """Return why the object store refused an upload, with the remedy if there is one."""
    code = response.text.partition("<Code>")[2].partition("</Code>")[0]
    full = response.status_code == 507 or "Storage" in code
    if full or "no space" in response.text.lower() or "QuotaExceeded" in code:
        return "the object store is full; delete results that you do not need"
    message = f"the object store responded with {response.status_code} {code}"
    if code in WRONG_KEYS:
        return f"{message}: it refuses ServiceX's own keys; ask the administrators to renew them"
    if response.status_code == 403:
        message += ": if your bucket exceeds its quota, delete objects from it"
    return message


def main(arguments: list[str]) -> None:
    """Run a transformer until it is stopped."""
    parser = argparse.ArgumentParser(prog="coffea-shoppe-servicex transformer", description=__doc__)
    parser.add_argument("--api", required=True, help="URL of the API")
    parser.add_argument("--key", type=Path, required=True, help="file with the transformer's key")
    parser.add_argument("--memory", type=int, default=1024, help="memory limit of a file, in MiB")
    scratch = Path(tempfile.gettempdir())
    parser.add_argument("--scratch", type=Path, default=scratch, help="folder for results")
    parser.add_argument(
        "--until-idle", type=float, default=0.0, metavar="S", help="exit after S idle seconds"
    )
    parser.add_argument(
        "--everything",
        action="store_true",
        help="for a laptop: accept users' own functions, and files of this machine",
    )
    parser.add_argument(
        "--codegens", type=Path, metavar="FOLDER", help="folder of further code generators, NAME.py"
    )
    options = parser.parse_args(arguments)
    # A file that cannot be loaded ends the transformer, not each of its transforms.
    Codegens.load(folder=options.codegens)
    api = ApiClient(options.api, options.key)
    transformer = Transformer(
        api,
        socket.gethostname(),
        memory=options.memory,
        scratch=options.scratch,
        everything=options.everything,
        codegens_folder=options.codegens,
    )

    def stop(*_: object) -> None:
        # Finish the current file first: otherwise its lease would have to expire.
        api.stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    transformer.run(until_idle=options.until_idle)
