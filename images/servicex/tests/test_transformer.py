"""A transformer with real transforms, and an API and a store that remember."""

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from coffea_shoppe_servicex.api_client import ApiClient
from coffea_shoppe_servicex.errors import LeaseLostError
from coffea_shoppe_servicex.transformer import Transformer
from http_server import Request, serving

Reply = tuple[int, str]


class FakeApi(ApiClient):
    """An API that gives out what it is told to, and keeps what it is told."""

    def __init__(self, upload: str, folder: Path) -> None:
        super().__init__("http://nowhere", folder / "key")
        self.upload = upload
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.gone = False

    def post(self, path: str, body: dict[str, Any]) -> Any:
        kind = path.rpartition("/")[2]
        if self.gone and kind == "renew":
            raise LeaseLostError("the request has ended")
        self.told.append((kind, body))
        return {"url": self.upload} if kind == "upload" else {}


@pytest.fixture
def store() -> Iterator[Callable[..., Any]]:
    """Yield a function that starts a store with one response to all uploads."""
    uploads: list[bytes] = []
    reply: list[Reply] = [(200, "")]

    def respond(request: Request) -> tuple[int, object]:
        uploads.append(request.body)
        status, text = reply[0]
        return status, text.encode()

    with serving(respond) as url:

        def start(*changed: Any) -> tuple[str, list[bytes]]:
            if changed:
                reply[0] = changed
            return f"{url}/object", uploads

        yield start


def lease(code: str, url: str = "a.root", **more: Any) -> dict[str, Any]:
    return {
        "file": 1,
        "attempt": 1,
        "request": "r",
        "codegen": "python",
        "selection": base64.b64encode(code.encode()).decode(),
        "result_format": "parquet",
        "source_urls": [url],
        "memory": 600,
        "deadline_s": 60,
        "lease_s": 30,
        **more,
    }


GOOD = (
    "def run_query(f):\n    print('hello')\n    import awkward; return awkward.Array({'x': [1]})\n"
)


def outcome(api: FakeApi, tmp_path: Path, given: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    Transformer(api, "w", memory=600, scratch=tmp_path).process(given)
    assert list(tmp_path.iterdir()) == [], "nothing is left on the disk"
    return api.told[-1]


def test_a_result_is_stored_before_its_file_counts(store: Any, tmp_path: Path) -> None:
    url, uploads = store()
    api = FakeApi(url, tmp_path)
    kind, told = outcome(api, tmp_path, lease(GOOD))
    assert [one for one, _ in api.told] == ["upload", "complete"]
    assert kind == "complete"
    assert uploads[0][:4] == b"PAR1"
    assert "bytes" not in told, "the API asks the store"
    assert "hello" in told["log"]


@pytest.mark.parametrize(
    ("code", "more", "reason", "message", "again"),
    [
        (
            "x = bytearray(10**9); import time; time.sleep(30)",
            *({}, "OutOfMemory", "larger servicex.transformer.memoryMaxMiB", False),
        ),
        (
            "import time; time.sleep(30)",
            *({"deadline_s": 1}, "TooSlow", "larger servicex.transformer.deadline", False),
        ),
        ("import os; os._exit(3)", {}, "Crashed", "exit code 3", True),
        ("import os; os.kill(os.getpid(), 9)", {}, "OutOfMemory", "it was killed", True),
        ("raise ValueError('why not')", {}, "UserCode", "why not", False),
    ],
)
def test_what_ends_a_transform_is_told(
    store: Any,
    tmp_path: Path,
    code: str,
    more: dict[str, Any],
    reason: str,
    message: str,
    again: bool,
) -> None:
    api = FakeApi(store()[0], tmp_path)
    kind, told = outcome(api, tmp_path, lease(f"def run_query(f):\n    {code}\n", **more))
    assert (kind, told["reason"]) == ("fail", reason)
    assert message in told["message"]
    assert told["again"] is again


@pytest.mark.parametrize(
    ("response", "message"),
    [
        ((507, "<Error><Code>InsufficientStorage</Code></Error>"), "the object store is full"),
        ((500, "<Code>InternalError</Code> no space left on device"), "the object store is full"),
        (
            (403, "<Error><Code>AccessDenied</Code></Error>"),
            "403 AccessDenied: if your bucket exceeds its quota",
        ),
        (
            (403, "<Error><Code>InvalidAccessKeyId</Code></Error>"),
            "403 InvalidAccessKeyId: it refuses ServiceX's own keys; ask the administrators",
        ),
        ((404, "<Error><Code>NoSuchBucket</Code></Error>"), "responded with 404 NoSuchBucket"),
    ],
)
def test_a_store_that_takes_nothing_is_told(
    store: Any, tmp_path: Path, response: Reply, message: str
) -> None:
    api = FakeApi(store(*response)[0], tmp_path)
    kind, told = outcome(api, tmp_path, lease(GOOD))
    assert (kind, told["reason"], told["again"]) == ("fail", "CannotStore", True)
    assert message in told["message"]


def test_a_store_that_is_away_is_told(tmp_path: Path) -> None:
    api = FakeApi("http://127.0.0.1:9/x", tmp_path)
    _, told = outcome(api, tmp_path, lease(GOOD))
    assert "is the object store up?" in told["message"]


def test_a_file_that_is_not_wanted_any_more_is_given_up(tmp_path: Path) -> None:
    api = FakeApi("http://127.0.0.1:9/x", tmp_path)
    api.gone = True
    slow = lease("def run_query(f):\n    import time; time.sleep(60)\n", lease_s=2)
    Transformer(api, "w", memory=600, scratch=tmp_path).process(slow)
    assert api.told == [], "neither done nor failed: it is another's"
