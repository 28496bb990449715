"""Command of the exporter: receives a cache's monitoring packets, serves Prometheus."""

import argparse
import logging
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import REGISTRY, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from xcache_exporter.renewal import State
from xcache_exporter.stream import Ledger, parse, sent

PROBE_TIMEOUT_S = 10
LOGIN_DEMANDED = b"Auth failed"
"""What XRootD's client prints for a server that accepts none of its logins."""
LOG = logging.getLogger("xcache_exporter")


class CacheCollector(Collector):
    """Traffic of the cache, and health of its origins."""

    def __init__(self, credential_state: Path | None = None) -> None:
        """Collect, too, the state of a credential, which is in a file."""
        self.ledger = Ledger()
        self.sent = 0
        self.credential_state = credential_state
        self.origins: dict[str, bool] = {}

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of this moment."""
        ledger = self.ledger
        for name, text, total in (
            ("xcache_sent_bytes", "Bytes sent on all links since the start", self.sent),
            ("xcache_origin_bytes", "Bytes fetched from origins", ledger.fetched),
            ("xcache_file_accesses", "Files opened and closed", ledger.files),
            (
                "xcache_file_accesses_without_origin",
                "Files opened, read and closed without a request to an origin",
                ledger.from_cache_alone,
            ),
        ):
            yield CounterMetricFamily(name, text, value=total)
        up = GaugeMetricFamily("xcache_origin_up", "Whether the origin responds", labels=["origin"])
        for origin, responds in self.origins.items():
            up.add_metric([origin], float(responds))
        yield up
        if self.credential_state and self.credential_state.exists():
            yield from _of_credential(State.load(self.credential_state))


def _of_credential(state: State) -> Iterator[Metric]:
    """Yield the metrics of a credential."""
    failed = GaugeMetricFamily(
        "xcache_credential_renewal_failed",
        "Whether the last renewal of the credential for the origin failed",
        labels=["origin"],
    )
    failed.add_metric([state.origin], float(bool(state.problem)))
    yield failed
    # Without a usable credential there is no end: no metric, which an alert sees by absent().
    if state.end is not None:
        expiry = GaugeMetricFamily(
            "xcache_credential_expiry_timestamp_seconds",
            "When the credential for the origin ends, in seconds since 1970",
            labels=["origin"],
        )
        expiry.add_metric([state.origin], state.end)
        yield expiry


def listen(collector: CacheCollector, port: int) -> None:
    """Count the cache's monitoring packets and reports; log each closed file."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", port))
        while True:
            datagram = receiver.recv(65536)
            total = sent(datagram)
            if total is not None:
                collector.sent = total
                continue
            for event in parse(datagram):
                fetched = collector.ledger.add(event)
                # A name that a client sends must not add lines to the log.
                name = event.name.encode("unicode_escape").decode()
                LOG.info("closed %s: %d bytes from an origin", name, fetched)


def responds(origin: str) -> bool:
    """Return whether an XRootD server responds within `PROBE_TIMEOUT_S`.

    One that demands a login responds, too: the exporter has no credential.
    """
    command = ["xrdfs", origin, "query", "config", "version"]
    try:
        process = subprocess.run(command, capture_output=True, timeout=PROBE_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return False
    return process.returncode == 0 or LOGIN_DEMANDED in process.stdout + process.stderr


def watch(collector: CacheCollector, origins: list[str], interval: float) -> None:
    """Probe all origins every `interval` seconds; never returns."""
    while True:
        for origin in origins:
            collector.origins[origin] = responds(origin)
        time.sleep(interval)


def main() -> None:
    """Run the exporter until the pod ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stream-port", type=int, default=9930, help="UDP, of the cache's stream")
    parser.add_argument("--port", type=int, default=9931, help="HTTP, for Prometheus")
    parser.add_argument("--origin", action="append", default=[], help="HOST:PORT to probe")
    parser.add_argument("--interval", type=float, default=30, help="seconds between probes")
    parser.add_argument("--credential-state", type=Path, help="file with the credential's state")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    collector = CacheCollector(options.credential_state)
    REGISTRY.register(collector)
    host = "::" if socket.has_dualstack_ipv6() else "0.0.0.0"  # noqa: S104
    start_http_server(options.port, host)
    arguments = (collector, options.origin, options.interval)
    threading.Thread(target=watch, args=arguments, daemon=True).start()
    listen(collector, options.stream_port)


if __name__ == "__main__":
    main()
