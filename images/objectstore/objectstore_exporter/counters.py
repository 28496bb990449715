"""Counters of requests and bytes, without names of buckets or users."""

from http import HTTPStatus

from prometheus_client import REGISTRY, CollectorRegistry, Counter

from objectstore_exporter.datagrams import Increment, parse

REQUESTS = ("success_count", "failed_count")
DIRECTIONS = {"bytes_read": "read", "bytes_written": "written"}


class Counters:
    """Requests by action and status, and bytes of objects by direction."""

    def __init__(self, service: str, registry: CollectorRegistry = REGISTRY) -> None:
        self._service = service
        self._requests = Counter(
            "objectstore_requests",
            "Requests by action and status of the response.",
            ["action", "status"],
            registry=registry,
        )
        self._bytes = Counter(
            "objectstore_bytes",
            "Bytes of objects that were read and written by successful requests.",
            ["direction"],
            registry=registry,
        )
        for direction in DIRECTIONS.values():
            self._bytes.labels(direction)  # exported from the start, as zero
        self._ignored = Counter(
            "objectstore_ignored_lines",
            "Lines in datagrams that are not versitygw's, or incomplete.",
            registry=registry,
        )

    def add(self, datagram: bytes) -> None:
        """Count what a datagram says, and its lines that say nothing."""
        for increment in parse(datagram, self._service):
            if increment is None:
                self._ignored.inc()
            else:
                self._count(increment)

    def _count(self, increment: Increment) -> None:
        if increment.name in REQUESTS:
            self._requests.labels(increment.action, increment.status).inc(increment.value)
        direction = DIRECTIONS.get(increment.name)
        # A refused request has the bytes that it would have transferred.
        if direction and increment.status < HTTPStatus.BAD_REQUEST:
            self._bytes.labels(direction).inc(increment.value)
