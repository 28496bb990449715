"""Command of the exporter: receives versitygw's datagrams, serves Prometheus."""

import argparse
import socket

from prometheus_client import start_http_server

from objectstore_exporter.counters import Counters

LARGEST_DATAGRAM = 16 * 2**10
"""Bytes.  versitygw sends 1,432 at most, or one line with a name of a bucket from a request whose
head has at most 8 KiB; the rest of a larger datagram is dropped."""


def receive(receiver: socket.socket, counters: Counters) -> None:
    """Count what the next datagram says."""
    counters.add(receiver.recv(LARGEST_DATAGRAM))


def main() -> None:
    """Run the exporter until the pod ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--service", required=True, help="versitygw's --metrics-service-name")
    parser.add_argument("--statsd-port", type=int, default=8125, help="UDP, of versitygw")
    parser.add_argument("--port", type=int, default=9090, help="HTTP, for Prometheus")
    options = parser.parse_args()
    counters = Counters(options.service)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", options.statsd_port))
        host = "::" if socket.has_dualstack_ipv6() else "0.0.0.0"  # noqa: S104
        start_http_server(options.port, host)
        while True:
            receive(receiver, counters)


if __name__ == "__main__":
    main()
