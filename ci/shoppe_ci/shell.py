"""Runs other programs, with their output in a log file; an error shows its last lines."""

import os
import re
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from shoppe_ci.errors import ShoppeError
from shoppe_ci.paths import cache

_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|[^\x20-\x7e]")


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """Return this process' environment with `more` variables."""
    return {**os.environ, **more}


def run(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    note: Callable[[str], None] | None = None,
    what: str = "",
    remedy: str = "",
    stdin: bytes | None = None,
    timeout: float = 3600,
) -> str:
    """Run a program, and return what it wrote to standard output and error together.

    The output also goes to a file under the cache's `logs`, named in the error.
    `note` is called with each line; `what` is the step's name in the error, `remedy` what to
    do about it.  Raises `ShoppeError` with the last lines
    when the program fails, is missing, or runs longer than `timeout` seconds.
    """
    words = [str(word) for word in command]
    stamp = time.strftime("%Y%m%d-%H%M%S")
    name = f"{stamp}-{Path(words[0]).name}-{uuid.uuid4().hex[:8]}.log"
    log = cache("logs", name)
    lines: list[str] = []
    deadline = time.monotonic() + timeout
    try:
        process = subprocess.Popen(
            words,
            cwd=cwd,
            env=environment(env or {}),
            stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    except FileNotFoundError as error:
        raise ShoppeError(f"the program {words[0]!r} is missing", remedy) from error
    if stdin is not None and process.stdin is not None:
        process.stdin.write(stdin)
        process.stdin.close()
    with log.open("a") as file, process:
        assert process.stdout is not None  # noqa: S101  (PIPE was passed)
        for raw in process.stdout:
            line = raw.decode(errors="replace")
            file.write(line)
            lines.append(line)
            if note and (text := _ESCAPES.sub("", line).strip()):
                note(text)
            if time.monotonic() > deadline:
                process.kill()
                break
    if process.returncode == 0:
        log.unlink()
        return "".join(lines)
    tail = "".join(lines[-25:]).rstrip()
    reason = f"failed with status {process.returncode}"
    if process.returncode < 0 and time.monotonic() > deadline:
        reason = f"took longer than {timeout:.0f} s"
    raise ShoppeError(f"{what or ' '.join(words[:4])} {reason}; log: {log}\n{tail}", remedy)


def output(
    command: Sequence[str | Path], *, env: Mapping[str, str] | None = None, remedy: str = ""
) -> str:
    """Run a program whose output is to be parsed, and return it without warnings.

    Nothing is written to a file, since the output may be secret.  Raises `ShoppeError` with the
    program's error output where it fails.
    """
    words = [str(word) for word in command]
    done = subprocess.run(
        words,
        env=environment(env or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        called = " ".join([Path(words[0]).name, *words[1:5]])
        raise ShoppeError(f"{called}: {done.stderr.strip()}", remedy)
    return done.stdout


def succeeds(command: Sequence[str | Path], *, timeout: float = 30) -> bool:
    """Return whether a command exits with status 0 within `timeout` seconds."""
    try:
        process = subprocess.run(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except (FileNotFoundError, PermissionError, subprocess.TimeoutExpired):
        return False
    return process.returncode == 0
