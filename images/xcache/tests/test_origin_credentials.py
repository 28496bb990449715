import base64
import json
import subprocess
import time
from pathlib import Path

import pytest
from xcache_exporter.credentials import (
    UnusableCredentialError,
    proxy_end,
    renew,
    sentence,
    token_end,
)
from xcache_exporter.main import CacheCollector

METRIC = "xcache_credential_expiry_seconds"


def token(exp: object) -> bytes:
    payload = base64.urlsafe_b64encode(json.dumps({"exp": exp}).encode()).rstrip(b"=")
    return b"e30." + payload + b".c2ln\n"


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A user's certificate of two days, then its key, as in a proxy file."""
    folder = tmp_path_factory.mktemp("proxy")
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=robot",
    ]
    command += ["-keyout", str(folder / "key"), "-out", str(folder / "certificate")]
    subprocess.run(command, check=True, capture_output=True)
    return (folder / "certificate").read_bytes() + (folder / "key").read_bytes()


class Pod:
    """The paths of a pod whose Secret has one credential."""

    def __init__(self, folder: Path) -> None:
        self.secret = folder / "token"
        self.copy = folder / "copy"
        self.end = folder / "end"

    def renew(self) -> bool:
        return renew(self.secret, self.copy, self.end)


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    return Pod(tmp_path)


def test_a_proxy_ends_with_its_certificate(proxy: bytes) -> None:
    assert proxy_end(proxy) == pytest.approx(time.time() + 2 * 86400, abs=3600)


@pytest.mark.parametrize("missing", ["certificate", "private key"])
def test_a_part_of_a_proxy_is_refused_by_name(proxy: bytes, missing: str) -> None:
    certificate, key = proxy.split(b"-----BEGIN PRIVATE", 1)
    part = certificate if missing == "private key" else b"-----BEGIN PRIVATE" + key
    with pytest.raises(UnusableCredentialError, match=f"the proxy has no {missing}"):
        proxy_end(part)


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
