"""Why a file cannot be read, in one sentence, and whether a second attempt may succeed."""

from traceback import walk_tb

import aiohttp
import requests
from coffea_shoppe_contract import causes
from coffea_shoppe_contract.causes import Response, chain, cut_short
from coffea_shoppe_contract.origin_logins import login_failure

from agc.samples import InputError

__all__ = ["chain", "cut_short", "explain", "may_pass"]

PROBE_TIMEOUT_S = (5, 10)
READERS = ("uproot", "fsspec", "fsspec_xrootd", "aiohttp", "XRootD")


def may_pass(error: BaseException) -> bool:
    """Return whether a second attempt may succeed."""
    if any(isinstance(cause, InputError) for cause in chain(error)):
        return False
    return causes.may_pass(error)


def explain(path: str, error: BaseException) -> str:
    """Return why a file could not be read, or '' for an error that is not of reading."""
    if not any(_of_a_reader(cause) for cause in chain(error)):
        return ""
    return causes.find_cause(path, error, probe=_probe, login_failure=login_failure).sentence


def _of_a_reader(error: BaseException) -> bool:
    """Return whether an error was raised within a package that reads files."""
    if isinstance(error, OSError | aiohttp.ClientError):
        return True
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    names = {str(frame.f_globals.get("__name__", "")).partition(".")[0] for frame in frames}
    return bool(names.intersection(READERS))


def _probe(url: str) -> Response | None:
    """Request a file's first bytes from a web server; None if it does not respond."""
    address = url.replace("davs://", "https://", 1)
    try:
        with requests.get(
            address, headers=causes.HEAD_REQUEST, stream=True, timeout=PROBE_TIMEOUT_S
        ) as response:
            head = next(response.iter_content(causes.HEAD_BYTES), b"")
            return Response.of(response.status_code, response.headers, head)
    except requests.RequestException:
        return None
