"""Why a file cannot be read: told by errors and responses, with what may help."""

from pathlib import Path

import pytest
from coffea_shoppe_contract.causes import HEAD_BYTES, Kind, Response, find_cause

WEB, XROOTD = "https://h/a.root", "root://h//a.root"
HEAD = b"root" + (63_000).to_bytes(4, "big") + bytes(4) + (1000).to_bytes(4, "big") + bytes(48)
"""The header of a file of 1,000 bytes."""


class ClientError(Exception):
    """As aiohttp's, which is recognised by its name and module."""

    def __init__(self, status: int = 0) -> None:
        super().__init__(f"{status}, message='…'")
        self.status = status


ClientError.__module__ = "aiohttp.client_exceptions"


@pytest.mark.parametrize(
    ("address", "error", "kind", "retry"),
    [
        (WEB, ClientError(403), Kind.REFUSED, False),
        (WEB, ClientError(404), Kind.ABSENT, False),
        (WEB, ClientError(503), Kind.BUSY, True),
        (WEB, ClientError(418), Kind.RESPONSE, False),
        (WEB, ClientError(), Kind.UNREACHABLE, True),
        (WEB, FileNotFoundError(WEB), Kind.ABSENT, False),
        (WEB, OSError("expected Chunk of length 8,\nreceived 7"), Kind.DAMAGED, False),
        (XROOTD, OSError("[ERROR] Server responded: [3010] denied"), Kind.REFUSED, False),
        (XROOTD, OSError("[ERROR] Server responded: [3030] invalid exchange"), Kind.LOGIN, False),
        (XROOTD, OSError("[FATAL] Auth failed: No protocols left"), Kind.LOGIN, False),
        (XROOTD, OSError("[ERROR] Server responded: [3011] none"), Kind.ABSENT, False),
        (XROOTD, OSError("[ERROR] Server responded: [3016] folder"), Kind.FOLDER, False),
        (XROOTD, OSError("[ERROR] Operation expired"), Kind.UNREACHABLE, True),
        (XROOTD, OSError("[FATAL] Unknown error"), Kind.UNREACHABLE, True),
        (XROOTD, TimeoutError(), Kind.UNREACHABLE, True),
        (XROOTD, ValueError("not a ROOT file: first four bytes are b'text'"), Kind.NOT_ROOT, False),
        (XROOTD, ValueError("unknown class X"), Kind.UNSUPPORTED, False),
        (XROOTD, ValueError("odd bytes"), Kind.DAMAGED, False),
    ],
)
def test_errors_tell_causes_apart(address: str, error: Exception, kind: Kind, retry: bool) -> None:
    cause = find_cause(address, error)
    assert (cause.kind, cause.retry_may_help) == (kind, retry)
    assert cause.other_address_may_help is (kind is not Kind.UNSUPPORTED)
    wrapped = RuntimeError("while reading")
    wrapped.__cause__ = error
    assert find_cause(address, wrapped).kind is kind


@pytest.mark.parametrize(
    ("response", "kind"),
    [
        (Response(403, "", b""), Kind.REFUSED),
        (Response(410, "", b""), Kind.ABSENT),
        (Response(200, "text/html", b"<html>"), Kind.NOT_ROOT),
        (Response(206, "", b"\n<!DOCTYPE html>"), Kind.NOT_ROOT),
        (Response(206, "", b"event,x"), Kind.NOT_ROOT),
        (Response(200, "", HEAD), Kind.NO_RANGES),
        (Response(206, "", HEAD, 999), Kind.DAMAGED),
        (Response(206, "", HEAD, 1000), Kind.UNREACHABLE),
        (Response(503, "", b""), Kind.UNREACHABLE),
        (None, Kind.UNREACHABLE),
    ],
)
def test_what_a_web_server_sends_is_more_than_the_error(
    response: Response | None, kind: Kind
) -> None:
    cause = find_cause(WEB, OSError("no"), probe=lambda _: response)
    assert cause.kind is kind
    assert cause.retry_may_help is (kind is Kind.UNREACHABLE)


def test_a_server_that_is_busy_is_not_asked_again() -> None:
    probed: list[str] = []
    assert find_cause(WEB, ClientError(503), probe=probed.append).kind is Kind.BUSY
    assert find_cause(XROOTD, OSError("no"), probe=probed.append).kind is Kind.UNREACHABLE
    assert probed == []
    find_cause(WEB, ClientError(403), probe=probed.append)
    assert probed == [WEB]


def test_a_response_gives_the_size_of_the_file() -> None:
    ranged = {"Content-Range": "bytes 0-63/700", "Content-Type": "application/root"}
    assert Response.of(206, ranged, HEAD) == Response(206, "application/root", HEAD, 700)
    assert Response.of(200, {"Content-Length": "700"}, HEAD).size is None


def test_local_files_are_looked_into(tmp_path: Path) -> None:
    contents = {
        b"": "is empty",
        b"<html>": "is a web page, not a ROOT file",
        b"event,x": "not a ROOT file",
        HEAD: f"is cut short: {HEAD_BYTES} of its 1,000 bytes are present",
        HEAD + bytes(1000): "is damaged or cut short (odd)",
    }
    path = tmp_path / "a.root"
    for content, sentence in contents.items():
        path.write_bytes(content)
        cause = find_cause(str(path), ValueError("odd"))
        assert cause.sentence.startswith(sentence)
        assert not cause.retry_may_help


def test_no_sentence_has_a_secret() -> None:
    error = OSError("cannot open https://h/a.root?sig=5ec7e7")
    assert "5ec7e7" not in find_cause(WEB, error).sentence


def test_a_failed_login_is_explained_by_who_logs_in() -> None:
    error = OSError("[ERROR] Server responded: [3030] invalid exchange")
    cause = find_cause(XROOTD, error, login_failure=lambda address: f"{address} is refused")
    assert cause.sentence == f"{XROOTD} is refused"
    unknown = find_cause(XROOTD, error, login_failure=lambda _: "")
    assert unknown.sentence == "its origin demands a login, which failed: may you read it?"
    other = find_cause(XROOTD, OSError("[3011] none"), login_failure=lambda _: "never")
    assert other.kind is Kind.ABSENT
    assert "never" not in other.sentence
