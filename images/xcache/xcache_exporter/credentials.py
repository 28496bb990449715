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
import re
import ssl
import subprocess
import time
from pathlib import Path

CERTIFICATE = re.compile(
    rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", flags=re.DOTALL
)
YEAR_10000 = 253_402_300_800
"""Seconds since 1970, after which no time can be printed."""
LOG = logging.getLogger("xcache_credentials")


class UnusableCredentialError(Exception):
    """The Secret's credential cannot be used; the message never contains the credential."""


def _openssl(*words: str, content: bytes) -> bytes:
    """Return what `openssl` prints for a part of a proxy file.

    Raises `UnusableCredentialError` where it refuses that.
    """
    # An encrypted key asks for its passphrase, which nobody can give.
    command = ["openssl", *words]
    process = subprocess.run(command, input=content, capture_output=True, check=False)
    if process.returncode != 0:
        raise UnusableCredentialError("the proxy is no file in PEM that openssl reads")
    return process.stdout


def proxy_end(content: bytes) -> float:
    """Return when an X.509 proxy ends, in seconds since 1970: the earliest end of its chain.

    Raises `UnusableCredentialError` where it is not the entire file of a proxy: its certificate,
    its private key, without a passphrase, and the certificate of its owner.
    """
    certificates = CERTIFICATE.findall(content)
    if not certificates:
        raise UnusableCredentialError("the proxy has no certificate: give a proxy file in PEM")
    if b"PRIVATE KEY-----" not in content:
        raise UnusableCredentialError("the proxy has no private key: give the entire proxy file")
    if b"ENCRYPTED" in content:
        raise UnusableCredentialError(
            "the private key has a passphrase: give a proxy, as voms-proxy-init writes it"
        )
    if len(certificates) == 1:
        raise UnusableCredentialError(
            "the proxy has one certificate alone: give the entire proxy file, with its owner's"
        )
    key = _openssl("pkey", "-pubout", "-passin", "pass:", content=content)
    if key != _openssl("x509", "-noout", "-pubkey", content=certificates[0]):
        raise UnusableCredentialError("the private key is not that of the first certificate")
    return min(_certificate_end(certificate) for certificate in certificates)


def _certificate_end(certificate: bytes) -> float:
    printed = _openssl("x509", "-noout", "-enddate", content=certificate)
    return float(ssl.cert_time_to_seconds(printed.decode().strip().partition("=")[2]))


def token_end(content: bytes) -> float:
    """Return when a bearer token ends, in seconds since 1970: its claim `exp`.

    Raises `UnusableCredentialError` where the token is no JSON Web Token with that claim.
    """
    try:
        _, payload, _ = content.strip().split(b".")
        claims = json.loads(base64.urlsafe_b64decode(payload + b"=" * (-len(payload) % 4)))
        end = float(claims["exp"])
    except (ValueError, KeyError, TypeError, OverflowError, binascii.Error):
        message = "the token is no JSON Web Token with the claim exp: give a WLCG token"
        raise UnusableCredentialError(message) from None
    if not 0 < end < YEAR_10000:
        raise UnusableCredentialError("the token's claim exp is no time: give a WLCG token")
    return end


ENDS = {"proxy": proxy_end, "token": token_end}


def replace(path: Path, content: bytes) -> None:
    """Write a file that only its owner reads; readers see the old content or the new."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    new.replace(path)


class Renewal:
    """Copies a credential whenever its Secret changes, and writes when it ends.

    The Secret's file is named after the kind of the credential: proxy or token.
    """

    def __init__(self, source: Path, target: Path, end_file: Path) -> None:
        self.source, self.target, self.end_file = source, target, end_file
        self.end = 0.0
        """When the copied credential ends, in seconds since 1970."""
        self._copied: bytes | None = None
        """What this process has copied: a former one may have been interrupted in between."""

    def renew(self) -> bool:
        """Copy the credential if it changed; return whether it was copied.

        Raises `UnusableCredentialError`, also for one that has expired, and `OSError`, and then
        leaves the former credential and its end in their places.
        """
        try:
            content = self.source.read_bytes()
        except OSError as error:
            message = f"the Secret's {self.source.name} cannot be read: {error.strerror}"
            raise UnusableCredentialError(message) from None
        if content == self._copied:
            return False
        end = ENDS[self.source.name](content)
        if end <= time.time():
            raise UnusableCredentialError(f"it expired at {_moment(end)}")
        replace(self.target, content)
        replace(self.end_file, str(end).encode())
        self._copied, self.end = content, end
        return True

    def look(self, origin: str) -> str:
        """Renew the credential if it changed; return the line of the log."""
        try:
            self.renew()
        except (UnusableCredentialError, OSError) as error:
            return f"the facility's credential for {origin} was not renewed: {error}"
        return sentence(origin, self.end, time.time())

    def watch(self, origin: str, interval: float) -> None:
        """Renew the credential every `interval` seconds, and log what changes; never returns."""
        logged = ""
        while True:
            message = self.look(origin)
            if message != logged:
                LOG.info(message)
                logged = message
            time.sleep(interval)


def _moment(end: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(end))


def sentence(origin: str, end: float, now: float) -> str:
    """Say when the facility's credential for an origin ends or ended."""
    verb = "expires" if end > now else "expired"
    return f"the facility's credential for {origin} {verb} at {_moment(end)}"


def main() -> None:
    """Renew the credential once, before the cache starts, or until the pod ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, required=True, help="file of the mounted Secret")
    parser.add_argument("--target", type=Path, required=True, help="file that the cache reads")
    parser.add_argument("--end-file", type=Path, required=True, help="gets the end, since 1970")
    parser.add_argument("--origin", required=True, help="name of the origin in the log")
    parser.add_argument("--interval", type=float, default=5, help="seconds between two looks")
    parser.add_argument("--once", action="store_true", help="end after the first look")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    renewal = Renewal(options.source, options.target, options.end_file)
    if options.once:
        # Without a usable credential the cache starts, too: it has files, and gets one later.
        LOG.info(renewal.look(options.origin))
    else:
        renewal.watch(options.origin, options.interval)


if __name__ == "__main__":
    main()
