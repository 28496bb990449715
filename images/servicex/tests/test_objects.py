"""Results in an S3 store: their sizes, as the store answers."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape

import pytest
from botocore.exceptions import ClientError
from coffea_shoppe_servicex.objects import ObjectPrefix, S3Store
from coffea_shoppe_servicex.settings import Objects

PREFIX = ObjectPrefix("ann", "request")
KEY = "servicex/request/000000-a.parquet"
SIZE = 12345


class Store(http.server.BaseHTTPRequestHandler):
    """A store with one object, in which all others are missing or, by name, unavailable."""

    def do_HEAD(self) -> None:
        path = self.path.partition("?")[0]
        status = 403 if "denied" in path else 200 if path.endswith(KEY) else 404
        self.send_response(status)
        self.send_header("Content-Length", str(SIZE))
        self.end_headers()

    def do_GET(self) -> None:
        body = (
            "<ListBucketResult><IsTruncated>false</IsTruncated>"
            f"<Contents><Key>{escape(KEY)}</Key><Size>{SIZE}</Size></Contents></ListBucketResult>"
        ).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def s3_store(tmp_path: Path) -> Iterator[S3Store]:
    credentials = tmp_path / "credentials"
    credentials.write_text("[default]\naws_access_key_id = a\naws_secret_access_key = b\n")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Store)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    yield S3Store(Objects(endpoint=endpoint, credentials=credentials))
    server.shutdown()
    server.server_close()


def test_sizes_are_those_of_the_stored_objects(s3_store: S3Store) -> None:
    assert s3_store.size(PREFIX, "000000-a.parquet") == SIZE
    assert s3_store.size(PREFIX, "000001-a.parquet") is None
    assert s3_store.sizes(PREFIX) == {"000000-a.parquet": SIZE}


def test_a_store_that_does_not_tell_a_size_is_an_error(s3_store: S3Store) -> None:
    with pytest.raises(ClientError):
        s3_store.size(PREFIX, "denied.parquet")
