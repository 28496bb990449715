"""Runs on Dask go on after their connection to the scheduler was lost."""

import socket
import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from agc import executor
from distributed import Client, LocalCluster


class Relay:
    """Passes connections on to an address, until they are cut."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self.target = (parts.hostname, parts.port)
        self.pairs: list[socket.socket] = []
        self.server = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self.server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self.server.accept()
            except OSError:
                return
            far = socket.create_connection(self.target)
            self.pairs += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        finally:
            sink.close()

    def cut(self) -> None:
        """Break all connections; new ones are accepted."""
        while self.pairs:
            one = self.pairs.pop()
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def close(self) -> None:
        """Break all connections for good."""
        if self.server.fileno() >= 0:
            self.server.shutdown(socket.SHUT_RDWR)
            self.server.close()
        self.cut()


@pytest.fixture
def relay() -> Iterator[Relay]:
    options = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(processes=False, protocol="tcp", **options) as cluster:
        found = Relay(cluster.scheduler_address)
        yield found
        found.close()


def slow(item: int) -> int:
    time.sleep(0.1)
    return item


def run(relay: Relay, *, then: str) -> int:
    """Sum 30 slow items on the cluster; after a second the relay does as told."""
    with Client(relay.address) as client:
        blow = threading.Timer(1, getattr(relay, then))
        blow.start()
        runner = executor.PatientDaskExecutor(
            client=client, function_name="slow", unit="chunk", compression=None
        )
        total, _ = runner(range(30), slow, 0)
        blow.cancel()
        return int(total)


def test_a_connection_that_breaks_costs_time_and_nothing_else(relay: Relay) -> None:
    assert run(relay, then="cut") == sum(range(30))


def test_a_scheduler_out_of_reach_is_reported(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "RECONNECT_S", 1)
    with pytest.raises(RuntimeError, match="connection to the Dask scheduler was lost"):
        run(relay, then="close")
