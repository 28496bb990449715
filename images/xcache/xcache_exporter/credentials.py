"""Credentials for origins: when they end, and files that only their owner reads."""

import base64
import binascii
import json
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


class UnusableCredentialError(Exception):
    """There is no usable credential; the message never contains it."""


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
"""Kind of credential → function of its content that returns its end."""


def replace(path: Path, content: bytes) -> None:
    """Write a file that only its owner reads; readers see the old content or the new."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    new.replace(path)


def copy_authorities(source: Path, target: Path) -> None:
    """Make a folder have the files of a mounted ConfigMap, and nobody else write to it.

    XRootD refuses to verify hosts with a folder that others may write to, as mounted ones seem to
    be.  Raises `OSError`.
    """
    target.mkdir(mode=0o755, exist_ok=True)
    # Names with two dots are the kubelet's own.
    files = {path.name: path for path in source.iterdir() if not path.name.startswith("..")}
    for name, path in files.items():
        content, copy = path.read_bytes(), target / name
        if not copy.exists() or copy.read_bytes() != content:
            replace(copy, content)
    for copy in target.iterdir():
        if copy.name not in files:
            copy.unlink()


def moment(end: float) -> str:
    """Return a time since 1970 as messages have it."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(end))


def sentence(origin: str, end: float, now: float) -> str:
    """Say when the facility's credential for an origin ends or ended."""
    verb = "expires" if end > now else "expired"
    return f"the facility's credential for {origin} {verb} at {moment(end)}"
