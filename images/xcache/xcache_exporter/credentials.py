"""Command that gives a cache the credential of a Secret, and renews it without a restart.

XRootD refuses a token that others may read, and files of a mounted Secret are readable by a group.
So the credential is checked and copied into a volume in memory, again whenever the Secret changes.
The cache reads the copy when it connects to an origin; a proxy that it has read serves to its end.
"""

import argparse
import base64
import binascii
import json
import logging
import os
import ssl
import subprocess
import time
from pathlib import Path

LOG = logging.getLogger("xcache_credentials")


class UnusableCredentialError(Exception):
    """The Secret's credential cannot be used; the message never contains the credential."""


def proxy_end(content: bytes) -> float:
    """Return when an X.509 proxy ends, in seconds since 1970.

    The proxy's own certificate is the first in its file, and ends no later than those after it.
    Raises `UnusableCredentialError` where there is no certificate or no private key.
    """
    if b"PRIVATE KEY-----" not in content:
        raise UnusableCredentialError("the proxy has no private key: give the entire proxy file")
    process = subprocess.run(
        ["openssl", "x509", "-noout", "-enddate"], input=content, capture_output=True, check=False
    )
    if process.returncode != 0:
        raise UnusableCredentialError("the proxy has no certificate: give a proxy file in PEM")
    return float(ssl.cert_time_to_seconds(process.stdout.decode().strip().partition("=")[2]))


def token_end(content: bytes) -> float:
    """Return when a bearer token ends, in seconds since 1970: its claim `exp`.

    Raises `UnusableCredentialError` where the token is no JSON Web Token with that claim.
    """
    try:
        _, payload, _ = content.strip().split(b".")
        claims = json.loads(base64.urlsafe_b64decode(payload + b"=" * (-len(payload) % 4)))
        return float(claims["exp"])
    except (ValueError, KeyError, TypeError, binascii.Error):
        message = "the token is no JSON Web Token with the claim exp: give a WLCG token"
        raise UnusableCredentialError(message) from None


ENDS = {"proxy": proxy_end, "token": token_end}


def replace(path: Path, content: bytes) -> None:
    """Write a file that only its owner reads; readers see the old content or the new."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    new.replace(path)


def renew(source: Path, target: Path, end_file: Path) -> bool:
    """Copy the credential if it changed, and write its end; return whether it was copied.

    The file's name is the kind of the credential: proxy or token.  Raises
    `UnusableCredentialError`, and then leaves the former credential in its place.
    """
    try:
        content = source.read_bytes()
    except OSError as error:
        message = f"the Secret's {source.name} cannot be read: {error.strerror}"
        raise UnusableCredentialError(message) from None
    if target.exists() and target.read_bytes() == content:
        return False
    end = ENDS[source.name](content)
    replace(target, content)
    replace(end_file, str(end).encode())
    return True


def sentence(origin: str, end: float, now: float) -> str:
    """Say when the facility's credential for an origin ends or ended."""
    moment = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(end))
    verb = "expires" if end > now else "expired"
    return f"the facility's credential for {origin} {verb} at {moment}"


def watch(source: Path, target: Path, end_file: Path, *, origin: str, interval: float) -> None:
    """Renew the credential every `interval` seconds, and log what changes; never returns."""
    logged = ""
    while True:
        try:
            renew(source, target, end_file)
            message = sentence(origin, float(end_file.read_text()), time.time())
        except UnusableCredentialError as error:
            message = f"the facility's credential for {origin} was not renewed: {error}"
        if message != logged:
            LOG.info(message)
            logged = message
        time.sleep(interval)


def main() -> None:
    """Renew the credential until the pod ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, required=True, help="file of the mounted Secret")
    parser.add_argument("--target", type=Path, required=True, help="file that the cache reads")
    parser.add_argument("--end-file", type=Path, required=True, help="gets the end, since 1970")
    parser.add_argument("--origin", required=True, help="name of the origin in the log")
    parser.add_argument("--interval", type=float, default=5, help="seconds between two looks")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    watch(
        options.source,
        options.target,
        options.end_file,
        origin=options.origin,
        interval=options.interval,
    )


if __name__ == "__main__":
    main()
