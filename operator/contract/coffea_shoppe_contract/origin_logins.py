"""Why the login at a file's origin failed, for the user who wanted to read the file.

The facility's cache logs in to origins, and its metrics have the state of its credential.
"""

import re
import time
import urllib.request
from urllib.parse import urlsplit

METRICS_PORT = 9931
"""Port of a cache's metrics."""
TIMEOUT_S = 5
RESPONSE_BYTES = 1 << 20
"""Metrics are read up to here."""
SAMPLE = re.compile(
    r'^xcache_credential_(?P<name>\w+)\{origin="(?P<origin>[^"]*)"\} (?P<value>\S+)$', re.MULTILINE
)
EXPIRY, FAILED = "expiry_timestamp_seconds", "renewal_failed"
WITHOUT_CREDENTIAL = (
    "its origin demands a login, and the facility's cache has no credential for it: ask the "
    "facility's operators for one"
)


def login_failure(address: str) -> str:
    """Return why a cache could not log in to the origin of a file, in one sentence.

    `address` is the file's in the cache.  Returns '' if there is no cache at this address, or if
    it does not respond.
    """
    host = urlsplit(address).hostname
    if not host:
        return ""
    url = f"http://{host}:{METRICS_PORT}/metrics"
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:
            text = response.read(RESPONSE_BYTES).decode(errors="replace")
    except (OSError, ValueError):
        return ""
    return explained(text, time.time())


def explained(metrics: str, now: float) -> str:
    """Return why a cache with these metrics could not log in to its origin."""
    if "xcache_" not in metrics:
        return ""
    samples = {match["name"]: match for match in SAMPLE.finditer(metrics)}
    if FAILED not in samples:
        return WITHOUT_CREDENTIAL
    origin = samples[FAILED]["origin"]
    if EXPIRY not in samples:
        return f"the facility has no usable credential for {origin}: tell the facility's operators"
    end = float(samples[EXPIRY]["value"])
    if end <= now:
        moment = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(end))
        return (
            f"the facility's credential for {origin} expired at {moment}: tell the facility's "
            "operators"
        )
    return (
        f"{origin} refuses the facility's credential, which may be revoked, or lack the right to "
        "read this file: tell the facility's operators"
    )
