"""What a client sends forges no line of a server's log."""

import logging

import pytest
from coffea_shoppe_contract.logs import FORMAT, OneLineFormatter


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("/a\n2026-11-26 ERROR all is lost", "/a\\n2026-11-26 ERROR all is lost"),
        ("/a\r\x1b[2Jb", "/a\\r\\x1b[2Jb"),
        ("/a\u2028b\x85c", "/a\\u2028b\\x85c"),
        ("/größe 1.root", "/größe 1.root"),
    ],
)
def test_a_message_is_one_line(path: str, line: str) -> None:
    record = logging.LogRecord("n", logging.INFO, __file__, 1, "GET %s", (path,), None)
    assert OneLineFormatter(FORMAT).format(record).endswith(f" INFO GET {line}")


def test_a_traceback_keeps_its_lines() -> None:
    try:
        raise ValueError("no")
    except ValueError as error:
        info = (ValueError, error, error.__traceback__)
    record = logging.LogRecord("n", logging.ERROR, __file__, 1, "failed", (), info)
    assert OneLineFormatter(FORMAT).format(record).splitlines()[-1] == "ValueError: no"
