import base64
import dataclasses
import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from xcache_exporter import credentials, main, renewal
from xcache_exporter.credentials import (
    UnusableCredentialError,
    copy_authorities,
    proxy_end,
    sentence,
    token_end,
)
from xcache_exporter.issuers import Given
from xcache_exporter.main import CacheCollector
from xcache_exporter.renewal import Renewal, State

EXPIRY = "xcache_credential_expiry_timestamp_seconds"
FAILED = "xcache_credential_renewal_failed"


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


ORIGIN = "cms.example:1094"


class Pod:
    """The paths of a pod whose Secret has one credential."""

    def __init__(self, folder: Path, kind: str = "token") -> None:
        self.folder, self.kind = folder, kind
        self.secret = folder / kind
        self.copy = folder / "copy"
        self.state = folder / "state"
        self.renewal = Renewal(Given(folder, kind), self.copy, self.state, ORIGIN)

    def look(self) -> str:
        """Return why there was no renewal; '' if nothing is wrong."""
        return self.renewal.look().problem

    def end(self) -> float | None:
        """Return the end that the exporter sees."""
        return State.load(self.state).end


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


FORMER, NEW = token(1_900_000_000), token(1_900_000_060)


def test_a_copy_is_for_its_owner_alone_where_the_secret_is_not(pod: Pod) -> None:
    pod.secret.write_bytes(FORMER)
    pod.secret.chmod(0o440)
    assert pod.look() == ""
    assert pod.copy.read_bytes() == FORMER
    assert pod.copy.stat().st_mode & 0o777 == 0o600


def test_a_changed_secret_replaces_the_copy_and_its_end(pod: Pod) -> None:
    pod.secret.write_bytes(FORMER)
    assert pod.renewal.renew()
    assert not pod.renewal.renew()
    with pod.copy.open("rb") as reader:
        pod.secret.write_bytes(NEW)
        assert pod.look() == ""
        # Who reads the former file reads it to its end.
        assert reader.read() == FORMER
    assert (pod.copy.read_bytes(), pod.end()) == (NEW, 1_900_000_060)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"nonsense", "the token is no JSON Web Token"),
        (token(1_700_000_000), "it expired at 2023-11-14 22:13:20 UTC"),
    ],
)
def test_an_unusable_secret_leaves_the_former_copy(pod: Pod, content: bytes, problem: str) -> None:
    pod.secret.write_bytes(FORMER)
    pod.look()
    pod.secret.write_bytes(content)
    assert pod.look().startswith(problem)
    assert (pod.copy.read_bytes(), pod.end()) == (FORMER, 1_900_000_000)
    # It is not forgotten at the next look, and ends with the former Secret.
    assert pod.look().startswith(problem)
    pod.secret.write_bytes(FORMER)
    assert pod.look() == ""


def test_a_copy_that_fails_leaves_the_former_and_is_made_again(
    pod: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod.secret.write_bytes(FORMER)
    pod.look()
    pod.secret.write_bytes(NEW)
    write = credentials.replace

    def full(path: Path, content: bytes) -> None:
        if path == pod.copy:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, content)

    with monkeypatch.context() as broken:
        broken.setattr(renewal, "replace", full)
        assert "No space left" in pod.look()
    assert (pod.copy.read_bytes(), pod.end()) == (FORMER, 1_900_000_000)
    assert pod.look() == ""
    assert (pod.copy.read_bytes(), pod.end()) == (NEW, 1_900_000_060)


def test_what_an_interrupted_process_left_is_made_good(pod: Pod) -> None:
    pod.secret.write_bytes(NEW)
    pod.copy.write_bytes(NEW)
    pod.state.write_text(json.dumps({"origin": ORIGIN, "end": 1_900_000_000}))
    pod.look()
    assert pod.end() == 1_900_000_060


def test_a_restarted_process_knows_the_former_copy(pod: Pod) -> None:
    pod.secret.write_bytes(FORMER)
    pod.look()
    pod.secret.write_bytes(b"nonsense")
    again = Renewal(Given(pod.folder, "token"), pod.copy, pod.state, ORIGIN)
    assert again.look().end == 1_900_000_000


def test_a_missing_program_does_not_end_the_renewals(
    tmp_path: Path, pki: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = Pod(tmp_path, "proxy")
    pod.secret.write_bytes(parts(pki, "pem", "key", "owner.pem"))
    with monkeypatch.context() as bare:
        bare.setenv("PATH", str(tmp_path))
        assert "No such file" in pod.look()
    assert pod.look() == ""


@pytest.mark.parametrize("usable", [True, False])
def test_a_cache_starts_after_one_look(
    pod: Pod, usable: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pod.secret.write_bytes(FORMER if usable else b"nonsense")
    paths = ["--secret", str(pod.folder), "--target", str(pod.copy), "--state-file", str(pod.state)]
    cas = pod.folder / "cas"
    cas.mkdir()
    (cas / "12345678.0").write_text("a certificate")
    paths += ["--authorities", str(cas), "--authorities-copy", str(pod.folder / "authorities")]
    command = ["xcache-credentials", "--kind", "token", *paths, "--origin", ORIGIN, "--once"]
    monkeypatch.setattr(sys, "argv", command)
    caplog.set_level("INFO")
    renewal.main()
    assert pod.copy.exists() is usable
    assert (pod.folder / "authorities" / "12345678.0").read_text() == "a certificate"
    (record,) = caplog.records
    expected = (
        "expires at 2030-03-17 17:46:40 UTC" if usable else "was not renewed: the token is no"
    )
    assert expected in record.getMessage()


def test_authorities_are_copied_as_xrootd_accepts_them(tmp_path: Path) -> None:
    mounted, copy = tmp_path / "mounted", tmp_path / "copy"
    content = mounted / "..data"
    content.mkdir(parents=True)
    mounted.chmod(0o777)
    for name in ("1.0", "1.signing_policy"):
        (content / name).write_text(name)
        (mounted / name).symlink_to(content / name)
    copy_authorities(mounted, copy)
    assert {path.name: path.read_text() for path in copy.iterdir()} == {
        name: name for name in ("1.0", "1.signing_policy")
    }
    assert copy.stat().st_mode & 0o022 == 0
    (mounted / "1.0").unlink()
    (content / "1.signing_policy").write_text("changed")
    copy_authorities(mounted, copy)
    assert {path.name: path.read_text() for path in copy.iterdir()} == {
        "1.signing_policy": "changed"
    }


def test_a_missing_key_is_named(pod: Pod) -> None:
    assert pod.look() == "the Secret's token cannot be read: No such file or directory"


def test_the_log_names_origin_and_end() -> None:
    start = f"the facility's credential for {ORIGIN}"
    assert sentence(ORIGIN, 1_900_000_000, 1_900_000_001) == (
        f"{start} expired at 2030-03-17 17:46:40 UTC"
    )
    assert sentence(ORIGIN, 1_900_000_000, 1_899_999_999) == (
        f"{start} expires at 2030-03-17 17:46:40 UTC"
    )


class Issuer:
    """A source whose credentials are issued, for some seconds each."""

    kind, is_issued = "token", True

    def __init__(self, lifetime: float) -> None:
        self.lifetime, self.secret, self.requests = lifetime, b"a", 0
        self.problem = ""

    def read(self) -> dict[str, bytes]:
        return {"key": self.secret}

    def credential(self, secret: dict[str, bytes]) -> tuple[bytes, float]:
        self.requests += 1
        if self.problem:
            raise UnusableCredentialError(self.problem)
        return f"{self.requests}".encode(), time.time() + self.lifetime


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The present time, which tests set."""
    moments = [1_900_000_000.0]
    monkeypatch.setattr(time, "time", lambda: moments[0])
    return moments


def test_an_issued_credential_is_renewed_when_half_of_its_time_is_over(
    tmp_path: Path, clock: list[float]
) -> None:
    issuer = Issuer(600)
    renewed = Renewal(issuer, tmp_path / "copy", tmp_path / "state", ORIGIN)
    requests = []
    for second in (0, 5, 299, 300, 599, 600, 601):
        clock[0] = 1_900_000_000 + second
        assert renewed.look().problem == ""
        requests.append(issuer.requests)
    assert requests == [1, 1, 1, 2, 2, 3, 3]
    assert (tmp_path / "copy").read_bytes() == b"3"


def test_an_issuer_that_fails_is_asked_again_after_a_while_or_with_another_secret(
    tmp_path: Path, clock: list[float]
) -> None:
    issuer = Issuer(600)
    renewed = Renewal(issuer, tmp_path / "copy", tmp_path / "state", ORIGIN)
    renewed.look()
    issuer.problem = "the server is away"
    requests = []
    for second in (300, 305, 329, 330, 335):
        clock[0] = 1_900_000_000 + second
        assert renewed.look() == State(ORIGIN, 1_900_000_600, "the server is away")
        requests.append(issuer.requests)
    assert requests == [2, 2, 2, 3, 3]
    issuer.problem, issuer.secret = "", b"b"
    assert renewed.look() == State(ORIGIN, 1_900_000_935)
    assert (tmp_path / "copy").read_bytes() == b"4"


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (State(ORIGIN, 1_900_000_000.5), {EXPIRY: 1_900_000_000.5, FAILED: 0}),
        (State(ORIGIN, 1_900_000_000, "no"), {EXPIRY: 1_900_000_000, FAILED: 1}),
        (State(ORIGIN, None, "no"), {FAILED: 1}),
    ],
)
def test_the_state_is_in_the_metrics(
    tmp_path: Path, state: State, expected: dict[str, float]
) -> None:
    path = tmp_path / "state"
    path.write_text(json.dumps(dataclasses.asdict(state)))
    samples = [sample for metric in CacheCollector(path).collect() for sample in metric.samples]
    credential = [s for s in samples if s.name.startswith("xcache_credential")]
    assert {s.name: s.value for s in credential} == expected
    assert {s.labels["origin"] for s in credential} == {ORIGIN}


def test_a_cache_without_a_credential_has_no_such_metrics(tmp_path: Path) -> None:
    for collector in (CacheCollector(), CacheCollector(tmp_path / "absent")):
        names = [metric.name for metric in collector.collect()]
        assert not [name for name in names if name.startswith("xcache_credential")]


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
