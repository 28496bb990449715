"""Each kind of flood reaches a server, and its effect on another user is reported by server."""

import json
import math
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest
from shoppe_ci import flood, overload, probes


class Handler(BaseHTTPRequestHandler):
    """Refuses bodies, and counts requests."""

    requests: ClassVar[Counter[str]] = Counter()

    def do_POST(self) -> None:
        self.requests["compressed" if self.headers["Content-Encoding"] else "plain"] += 1
        self.send_response(413)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def target() -> Iterator[flood.Target]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield flood.Target("here", "127.0.0.1", server.server_port, headers={"X-Own": "1"})
        server.shutdown()


def test_each_kind_reaches_the_server(
    target: flood.Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flood, "SLOW_CONNECTIONS", 3)
    monkeypatch.setattr(flood, "SILENT_CONNECTIONS", 5)
    tallies = flood.flood([target], 2)["here"]
    assert tallies.keys() == {kind.__name__ for kind in flood.KINDS}
    assert all(tally.connections for tally in tallies.values())
    assert tallies["silent"].bytes == 0
    assert tallies["many_keys"].responses["413"]
    assert Handler.requests["compressed"]
    assert Handler.requests["plain"]
    assert b"\r\nX-Own: 1\r\nX-Of-This: 2\r\n\r\n" in target.head(X_Of_This="2")


def test_uses_are_told_by_server() -> None:
    quiet = [["mlflow", 0, 0.1, ""], ["mlflow", 0.6, 0.3, ""], ["hub", 0, 0.2, ""]]
    loaded = [["mlflow", 0, 0.4, ""], ["hub", 0, 1.0, "500 no"], ["hub", 1.5, 3.0, ""]]
    outcome = overload.Outcome(
        quiet=overload.uses(json.dumps(quiet)),
        loaded=overload.uses(f"a warning\n{json.dumps(loaded)}\n"),
        sent={},
        restarted={},
        memory={},
    )
    rows = overload.rows(outcome)
    assert rows["mlflow"] == "quiet 200 ms, overload 400 ms (2.0x), slowest 0.40 s of 1"
    assert rows["hub"] == "quiet 200 ms, overload 2000 ms (10.0x), slowest 3.00 s of 2, 1 FAILED"


def test_an_interruption_is_between_two_successes() -> None:
    results = [
        ["hub", 0.0, 0.1, ""],
        ["hub", 0.6, 0.1, ""],
        ["hub", 1.2, 4.0, "502 Bad Gateway"],
        ["hub", 5.7, 0.1, "502 Bad Gateway"],
        ["hub", 6.3, 2.0, ""],
        ["hub", 8.8, 0.1, ""],
    ]
    use = overload.uses(json.dumps(results))["hub"]
    assert use.interruption == pytest.approx(8.3 - 0.7 - probes.PAUSE_S)
    never = overload.uses(json.dumps(results[2:4]))["hub"]
    assert never.interruption == math.inf


def test_every_server_has_a_probe() -> None:
    assert overload.SERVERS.keys() == probes.PROBES.keys()
    assert overload.hosts("root://o//f").keys() == probes.PROBES.keys()
