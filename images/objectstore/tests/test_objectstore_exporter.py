"""What the exporter counts of versitygw's datagrams; those here are versitygw 1.8's."""

import socket

import pytest
from objectstore_exporter.counters import Counters
from objectstore_exporter.datagrams import Increment, parse
from objectstore_exporter.main import LARGEST_DATAGRAM, receive
from prometheus_client import CollectorRegistry, generate_latest

SERVICE = "6c1d2f0e-2b63-4d2c-9f0e-0d6b3c5a7e11"


def tags(
    action: str = "PutObject",
    *,
    method: str = "PUT",
    bucket: str = "user-ann",
    status: int = 200,
    service: str = SERVICE,
) -> str:
    api = "unknown" if action == "ActionUnDetected" else "s3"
    own = f"service={service},method={method},api={api},action={action}"
    return f"{own},bucket={bucket},status={status}" if bucket else f"{own},status={status}"


PUT = "\n".join(
    f"versitygw.{name},{tags()}:{value}|c"
    for name, value in (("success_count", 1), ("bytes_written", 1234), ("object_created_count", 1))
)
GET = "\n".join(
    f"versitygw.{name},{tags('GetObject', method='GET', status=206)}:{value}|c"
    for name, value in (("success_count", 1), ("bytes_read", 7))
)


class Exporter:
    """Counters, and what they are."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.counters = Counters(SERVICE, self.registry)

    def add(self, *datagrams: str) -> None:
        for datagram in datagrams:
            self.counters.add(datagram.encode())

    def requests(self, action: str, status: int) -> float:
        labels = {"action": action, "status": str(status)}
        return self.registry.get_sample_value("objectstore_requests_total", labels) or 0

    def bytes(self, direction: str) -> float | None:
        labels = {"direction": direction}
        return self.registry.get_sample_value("objectstore_bytes_total", labels)

    @property
    def ignored(self) -> float | None:
        return self.registry.get_sample_value("objectstore_ignored_lines_total")

    @property
    def series(self) -> int:
        """How many series of requests there are."""
        text = generate_latest(self.registry).decode()
        return text.count("\nobjectstore_requests_total{")


@pytest.fixture
def exporter() -> Exporter:
    return Exporter()


def test_a_datagram_has_an_increment_a_line() -> None:
    assert list(parse(PUT.encode(), SERVICE)) == [
        Increment("success_count", "PutObject", 200, 1),
        Increment("bytes_written", "PutObject", 200, 1234),
        Increment("object_created_count", "PutObject", 200, 1),
    ]


def test_requests_and_bytes_are_counted(exporter: Exporter) -> None:
    assert (exporter.bytes("read"), exporter.bytes("written")) == (0, 0)
    exporter.add(PUT, f"{PUT}\n{GET}")
    assert (exporter.requests("PutObject", 200), exporter.requests("GetObject", 206)) == (2, 1)
    assert (exporter.bytes("read"), exporter.bytes("written")) == (7, 2468)
    assert exporter.ignored == 0


def test_all_operations_are_counted_by_their_names(exporter: Exporter) -> None:
    names = ("ListObjectsV2", "CompleteMultipartUpload", "HeadObject")
    exporter.add(*(f"versitygw.success_count,{tags(name)}:1|c" for name in names))
    assert [exporter.requests(name, 200) for name in names] == [1, 1, 1]
    assert exporter.ignored == 0


def test_a_refused_request_transfers_nothing(exporter: Exporter) -> None:
    refused = tags(status=403)
    exporter.add(f"versitygw.failed_count,{refused}:1|c\nversitygw.bytes_written,{refused}:9|c")
    assert (exporter.requests("PutObject", 403), exporter.bytes("written")) == (1, 0)
    assert exporter.ignored == 0


@pytest.mark.parametrize("action", ["", "ActionUnDetected"])
def test_a_request_that_is_no_operation_of_s3_counts_as_unknown(
    exporter: Exporter, action: str
) -> None:
    exporter.add(f"versitygw.failed_count,{tags(action, bucket='', status=400)}:1|c")
    assert (exporter.requests("unknown", 400), exporter.ignored) == (1, 0)


def test_labels_name_no_bucket(exporter: Exporter) -> None:
    exporter.add(PUT)
    text = generate_latest(exporter.registry).decode()
    assert 'objectstore_requests_total{action="PutObject",status="200"} 1.0' in text
    assert "ann" not in text
    assert SERVICE not in text


@pytest.mark.parametrize(
    "bucket",
    [
        "b,status=200",
        "b,status=200:5|c",
        "b,action=GetObject,status=200",
        f"b,{tags('GetObject')}:5|c",
        "b\r,status=200:5|c",
        "\udcff",
    ],
)
def test_a_bucket_that_looks_like_tags_is_a_bucket(exporter: Exporter, bucket: str) -> None:
    line = f"versitygw.failed_count,{tags('CreateBucket', bucket=bucket, status=400)}:1|c"
    exporter.counters.add(line.encode(errors="surrogateescape"))
    assert (exporter.requests("CreateBucket", 400), exporter.series) == (1, 1)
    assert exporter.ignored == 0


def test_a_line_within_a_bucket_s_name_is_not_versitygw_s(exporter: Exporter) -> None:
    """Who may open the store's port sends such a name, %0A in the path, without a key."""
    for guess in ("", "shoppe-objectstore-0", SERVICE[:-1]):
        forged = f"versitygw.success_count,{tags('GetObject', service=guess)}:1000|c"
        bucket = f"b\n{forged}\nrest"
        exporter.add(f"versitygw.failed_count,{tags(bucket=bucket, status=400)}:1|c\n{PUT}")
    assert (exporter.requests("GetObject", 200), exporter.requests("PutObject", 200)) == (0, 3)
    assert exporter.ignored == 9


@pytest.mark.parametrize(
    "line",
    [
        "",
        "\0",
        "versitygw",
        PUT.partition("\n")[0][:-1],
        f"other.success_count,{tags()}:1|c",
        f"versitygw.success_count,{tags()}:1|g",
        f"versitygw.success_count,{tags()}:-1|c",
        f"versitygw.success_count,{tags()}:1e3|c",
        f"versitygw.success_count,{tags()}:{'9' * 400}|c",
        f"versitygw.success_count,{tags(status=999)}:1|c",
        f"versitygw.success_count,{tags('Put Object')}:1|c",
        f"versitygw.success_count,{tags().partition(',')[2]}:1|c",
    ],
)
def test_other_lines_are_ignored_and_counted(exporter: Exporter, line: str) -> None:
    exporter.add(line, f"{line}\n{GET}")
    assert (exporter.series, exporter.requests("GetObject", 206)) == (1, 1)
    assert exporter.ignored == 2


def test_a_datagram_that_is_too_large_counts_as_far_as_it_is_read(exporter: Exporter) -> None:
    bucket = "b" * LARGEST_DATAGRAM
    large = f"{PUT}\nversitygw.success_count,{tags('GetObject', bucket=bucket)}:1|c"
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        receiver.bind(("127.0.0.1", 0))
        for datagram in (large, GET):
            sender.sendto(datagram.encode(), receiver.getsockname())
            receive(receiver, exporter.counters)
    assert (exporter.requests("PutObject", 200), exporter.requests("GetObject", 200)) == (1, 0)
    assert (exporter.requests("GetObject", 206), exporter.ignored) == (1, 1)
