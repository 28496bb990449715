"""The exporter's command: listens beside a cache, and answers Prometheus."""

import argparse
import socket
import subprocess
import threading
import time
from collections.abc import Iterator

from prometheus_client import REGISTRY, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from xcache_exporter.stream import Ledger, parse, sent

PROBE_TIMEOUT_S = 10


class CacheCollector(Collector):
    """What the cache served, and whether its origins answer."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.sent = 0
        self.origins: dict[str, bool] = {}

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of this moment."""
        ledger = self.ledger
        for name, text, value in (
            ("xcache_sent_bytes", "Bytes sent on all links since the start", self.sent),
            ("xcache_origin_bytes", "Bytes fetched from origins", ledger.fetched),
            ("xcache_file_accesses", "Files opened and closed", ledger.files),
            (
                "xcache_file_accesses_without_origin",
                "Files opened, read and closed without asking an origin",
                ledger.from_cache_alone,
            ),
        ):
            yield CounterMetricFamily(name, text, value=value)
        up = GaugeMetricFamily("xcache_origin_up", "Whether the origin answers", labels=["origin"])
        for origin, answers in self.origins.items():
            up.add_metric([origin], float(answers))
        yield up


def listen(collector: CacheCollector, port: int) -> None:
    """Count what the cache's stream and reports tell, for ever."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", port))
        while True:
            datagram = receiver.recv(65536)
            total = sent(datagram)
            if total is not None:
                collector.sent = total
                continue
            for event in parse(datagram):
                collector.ledger.add(event)


def answers(origin: str) -> bool:
    """Return whether an XRootD server answers a question within 10 s."""
    question = ["xrdfs", origin, "query", "config", "version"]
    try:
        done = subprocess.run(question, capture_output=True, timeout=PROBE_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def watch(collector: CacheCollector, origins: list[str], interval: float) -> None:
    """Look at each origin in turn for ever."""
    while True:
        for origin in origins:
            collector.origins[origin] = answers(origin)
        time.sleep(interval)


def main() -> None:
    """Run the exporter until the pod ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stream-port", type=int, default=9930, help="UDP, of the cache's stream")
    parser.add_argument("--port", type=int, default=9931, help="HTTP, for Prometheus")
    parser.add_argument("--origin", action="append", default=[], help="HOST:PORT to watch")
    parser.add_argument("--interval", type=float, default=30, help="seconds between two looks")
    options = parser.parse_args()
    collector = CacheCollector()
    REGISTRY.register(collector)
    start_http_server(options.port)
    arguments = (collector, options.origin, options.interval)
    threading.Thread(target=watch, args=arguments, daemon=True).start()
    listen(collector, options.stream_port)


if __name__ == "__main__":
    main()
