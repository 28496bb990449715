"""versitygw's statsd metrics: counters, one a line, with tags as InfluxDB writes them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

LINE = re.compile(
    rb"versitygw\.(?P<name>[a-z_]+),service=(?P<service>[^,]*),method=[A-Z]+,api=[a-z0-9]*"
    rb",action=(?P<action>[A-Za-z0-9]*)(?:,bucket=.*)?,status=(?P<status>[1-5]\d\d)"
    rb":(?P<value>\d{1,18})\|c",
    re.DOTALL,
)
"""A line.  The bucket is text of whoever sent the request, which may look like tags, so
all other fields are read from before it and from after it."""
UNKNOWN = ("", "ActionUnDetected")
"""Actions of requests that versitygw refuses before it knows what they are for."""


@dataclass(frozen=True)
class Increment:
    """By how much a counter of versitygw grows."""

    name: str
    """`success_count`, `failed_count`, `bytes_read`, `bytes_written`, …"""
    action: str
    """S3 operation, such as `PutObject`; `unknown` for a request that is none."""
    status: int
    """HTTP status of the response."""
    value: int


def parse(datagram: bytes, service: str) -> Iterator[Increment | None]:
    """Yield a datagram's increments; None for a line that versitygw did not write, or was cut.

    `service` is the text that versitygw puts into each line (`--metrics-service-name`).  A
    bucket's name in a request may contain a line break, and what follows it reads like a line of
    its own.  Such lines are known by the missing text, which therefore is a secret.
    """
    for line in datagram.split(b"\n"):
        match = LINE.fullmatch(line)
        if match is None or match["service"] != service.encode():
            yield None
            continue
        action = match["action"].decode()
        yield Increment(
            name=match["name"].decode(),
            action="unknown" if action in UNKNOWN else action,
            status=int(match["status"]),
            value=int(match["value"]),
        )
