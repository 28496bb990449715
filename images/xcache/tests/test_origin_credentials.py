import base64
import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from xcache_exporter import credentials, main
from xcache_exporter.credentials import (
    Renewal,
    UnusableCredentialError,
    proxy_end,
    sentence,
    token_end,
)
from xcache_exporter.main import CacheCollector

METRIC = "xcache_credential_expiry_seconds"


def token(exp: object) -> bytes:
    payload = base64.urlsafe_b64encode(json.dumps({"exp": exp}).encode()).rstrip(b"=")
    return b"e30." + payload + b".c2ln\n"


def openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with certificates and keys of an owner, and of a proxy that lasts longer."""
    folder = tmp_path_factory.mktemp("pki")
    new = ("-newkey", "rsa:2048", "-nodes")
    owner = ("-keyout", folder / "owner.key", "-out", folder / "owner.pem")
    openssl("req", "-x509", *new, "-days", "2", "-subj", "/CN=robot", *owner)
    request = folder / "request"
    openssl("req", *new, "-subj", "/CN=robot/CN=1", "-keyout", folder / "key", "-out", request)
    issuer = ("-CA", folder / "owner.pem", "-CAkey", folder / "owner.key", "-set_serial", "1")
    openssl("x509", "-req", "-in", request, *issuer, "-days", "9", "-out", folder / "pem")
    locked = ("-aes128", "-passout", "pass:word", "-out", folder / "locked")
    openssl("pkey", "-in", folder / "key", *locked)
    return folder


def parts(pki: Path, *names: str) -> bytes:
    return b"".join((pki / name).read_bytes() for name in names)


class Pod:
    """The paths of a pod whose Secret has one credential."""

    def __init__(self, folder: Path) -> None:
        self.secret = folder / "token"
        self.copy = folder / "copy"
        self.end = folder / "end"
        self.renewal = Renewal(self.secret, self.copy, self.end)

    def renew(self) -> bool:
        return self.renewal.renew()


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    return Pod(tmp_path)


def test_a_proxy_ends_with_the_first_of_its_chain(pki: Path) -> None:
    proxy = parts(pki, "pem", "key", "owner.pem")
    assert proxy_end(proxy) == pytest.approx(time.time() + 2 * 86400, abs=3600)


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (["key"], "the proxy has no certificate"),
        (["pem", "owner.pem"], "the proxy has no private key"),
        (["pem", "key"], "the proxy has one certificate alone"),
        (["pem", "locked", "owner.pem"], "the private key has a passphrase"),
        (["pem", "owner.key", "owner.pem"], "the private key is not that of the first certificate"),
    ],
)
def test_another_file_than_a_proxy_is_refused_by_name(
    pki: Path, names: list[str], problem: str
) -> None:
    with pytest.raises(UnusableCredentialError, match=problem):
        proxy_end(parts(pki, *names))


def test_a_damaged_proxy_is_refused(pki: Path) -> None:
    proxy = parts(pki, "pem", "key", "owner.pem").replace(b"MII", b"M!!")
    with pytest.raises(UnusableCredentialError, match="no file in PEM that openssl reads"):
        proxy_end(proxy)


def test_a_token_ends_with_its_claim() -> None:
    assert token_end(token(1_900_000_000)) == 1_900_000_000


@pytest.mark.parametrize(
    "content", [b"", b"secret", b"a.b.c", token(None), b"e30.e30.c2ln", b"\xff.\xff.\xff"]
)
def test_another_token_is_refused_without_its_content(content: bytes) -> None:
    with pytest.raises(UnusableCredentialError) as caught:
        token_end(content)
    assert str(caught.value) == (
        "the token is no JSON Web Token with the claim exp: give a WLCG token"
    )


@pytest.mark.parametrize("end", [float("inf"), float("nan"), 1e300, -1, 0])
def test_a_token_whose_end_is_no_time_is_refused(end: float) -> None:
    with pytest.raises(UnusableCredentialError, match="the token's claim exp is no time"):
        token_end(token(end))


def test_a_copy_is_for_its_owner_alone_where_the_secret_is_not(pod: Pod) -> None:
    pod.secret.write_bytes(token(1_900_000_000))
    pod.secret.chmod(0o440)
    assert pod.renew()
    assert pod.copy.read_bytes() == token(1_900_000_000)
    assert pod.copy.stat().st_mode & 0o777 == 0o600


def test_a_changed_secret_replaces_the_copy_and_its_end(pod: Pod) -> None:
    pod.secret.write_bytes(token(1_900_000_000))
    pod.renew()
    assert not pod.renew()
    with pod.copy.open("rb") as reader:
        pod.secret.write_bytes(token(1_900_000_060))
        assert pod.renew()
        # Who reads the former file reads it to its end.
        assert reader.read() == token(1_900_000_000)
    assert pod.copy.read_bytes() == token(1_900_000_060)
    assert float(pod.end.read_text()) == 1_900_000_060


def test_an_unusable_secret_leaves_the_former_copy(pod: Pod) -> None:
    pod.secret.write_bytes(token(1_900_000_000))
    pod.renew()
    pod.secret.write_bytes(b"nonsense")
    with pytest.raises(UnusableCredentialError):
        pod.renew()
    assert pod.copy.read_bytes() == token(1_900_000_000)
    assert float(pod.end.read_text()) == 1_900_000_000


def test_an_expired_secret_leaves_the_former_copy(pod: Pod) -> None:
    pod.secret.write_bytes(token(1_900_000_000))
    pod.renew()
    pod.secret.write_bytes(token(1_700_000_000))
    with pytest.raises(UnusableCredentialError, match="it expired at 2023-11-14 22:13:20 UTC"):
        pod.renew()
    assert pod.copy.read_bytes() == token(1_900_000_000)
    assert float(pod.end.read_text()) == 1_900_000_000


FORMER, NEW = token(1_900_000_000), token(1_900_000_060)


def test_a_copy_that_fails_leaves_the_former_and_is_made_again(
    pod: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod.secret.write_bytes(FORMER)
    pod.renew()
    pod.secret.write_bytes(NEW)

    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as broken:
        broken.setattr(credentials, "replace", full)
        assert "was not renewed: [Errno 28] No space left" in pod.renewal.look("cms.example:1094")
    assert (pod.copy.read_bytes(), float(pod.end.read_text())) == (FORMER, 1_900_000_000)
    assert pod.renew()
    assert (pod.copy.read_bytes(), float(pod.end.read_text())) == (NEW, 1_900_000_060)


def test_what_an_interrupted_process_left_is_made_good(pod: Pod) -> None:
    pod.secret.write_bytes(NEW)
    pod.copy.write_bytes(NEW)
    pod.end.write_text("1900000000.0")
    assert pod.renew()
    assert float(pod.end.read_text()) == 1_900_000_060


def test_a_missing_program_does_not_end_the_renewals(
    tmp_path: Path, pki: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "proxy").write_bytes(parts(pki, "pem", "key", "owner.pem"))
    renewal = Renewal(tmp_path / "proxy", tmp_path / "copy", tmp_path / "end")
    with monkeypatch.context() as bare:
        bare.setenv("PATH", str(tmp_path))
        assert "was not renewed" in renewal.look("cms.example:1094")
    assert "expires at" in renewal.look("cms.example:1094")


@pytest.mark.parametrize("usable", [True, False])
def test_a_cache_starts_after_one_look(
    pod: Pod, usable: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pod.secret.write_bytes(token(1_900_000_000) if usable else b"nonsense")
    paths = ["--source", str(pod.secret), "--target", str(pod.copy), "--end-file", str(pod.end)]
    command = ["xcache-credentials", *paths, "--origin", "cms.example:1094", "--once"]
    monkeypatch.setattr(sys, "argv", command)
    caplog.set_level("INFO")
    credentials.main()
    assert pod.copy.exists() is usable
    (record,) = caplog.records
    expected = (
        "expires at 2030-03-17 17:46:40 UTC" if usable else "was not renewed: the token is no"
    )
    assert expected in record.getMessage()


def test_a_missing_key_is_named(pod: Pod) -> None:
    with pytest.raises(UnusableCredentialError, match="the Secret's token cannot be read"):
        pod.renew()


def test_the_log_names_origin_and_end() -> None:
    start = "the facility's credential for cms.example:1094"
    assert sentence("cms.example:1094", 1_900_000_000, 1_900_000_001) == (
        f"{start} expired at 2030-03-17 17:46:40 UTC"
    )
    assert sentence("cms.example:1094", 1_900_000_000, 1_899_999_999) == (
        f"{start} expires at 2030-03-17 17:46:40 UTC"
    )


@pytest.mark.parametrize("remaining", [3600, -3600])
def test_the_end_is_a_metric(tmp_path: Path, remaining: int) -> None:
    end = tmp_path / "end"
    end.write_text(str(time.time() + remaining))
    values = {
        sample.name: sample.value
        for metric in CacheCollector(end).collect()
        for sample in metric.samples
    }
    assert values[METRIC] == pytest.approx(remaining, abs=60)


def test_a_cache_without_a_credential_has_no_such_metric(tmp_path: Path) -> None:
    for collector in (CacheCollector(), CacheCollector(tmp_path / "absent")):
        assert METRIC not in [metric.name for metric in collector.collect()]


@pytest.mark.parametrize(
    ("printed", "status", "expected"),
    [
        ("v5.5.3", 0, True),
        ("[FATAL] Auth failed: No protocols left to try", 52, True),
        ("[FATAL] Connection error", 51, False),
    ],
)
def test_an_origin_that_demands_a_login_responds(
    printed: str, status: int, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = tmp_path / "xrdfs"
    client.write_text(f"#!/bin/sh\necho '{printed}' >&2\nexit {status}\n")
    client.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert main.responds("cms.example:1094") is expected
