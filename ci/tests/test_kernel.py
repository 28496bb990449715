import json
from collections.abc import Callable
from typing import Any

import nbformat
import pytest
import websocket
from shoppe_ci import kernel
from shoppe_ci.errors import ShoppeError


class Channel:
    """One connection: what the kernel says in it, and how it ends."""

    def __init__(self, *says: Callable[[str], dict[str, Any]] | Exception) -> None:
        self.says, self.request, self.closed = list(says), "", False

    def send(self, text: str) -> None:
        self.request = json.loads(text)["header"]["msg_id"]

    def recv(self) -> str:
        next_one = self.says.pop(0)
        if isinstance(next_one, Exception):
            raise next_one
        return json.dumps(next_one(self.request))

    def close(self) -> None:
        self.closed = True


def message(kind: str, **content: Any) -> Callable[[str], dict[str, Any]]:
    return lambda request: {
        "parent_header": {"msg_id": request},
        "header": {"msg_type": kind, "date": f"2026-11-27T00:00:0{len(content)}Z"},
        "msg_type": kind,
        "metadata": {},
        "content": content,
    }


def stream(text: str) -> Callable[[str], dict[str, Any]]:
    return message("stream", name="stdout", text=text)


END = (message("execute_reply", status="ok"), message("status", execution_state="idle"))
LOST = websocket.WebSocketConnectionClosedException("gone")


def run(*channels: Channel, timeout: float = 5) -> Any:
    """Run a cell over one connection after the other; return its outputs."""
    return run_cell(*channels, timeout=timeout).outputs


def run_cell(*channels: Channel, timeout: float = 5) -> Any:
    """Run a cell over one connection after the other, and return it."""
    opened: list[Channel] = []
    sessions: set[str] = set()

    def connect(session: str) -> Any:
        sessions.add(session)
        if len(opened) == len(channels):
            raise OSError("refused")
        opened.append(channels[len(opened)])
        if len(opened) > 1:
            opened[-1].request = opened[0].request
        return opened[-1]

    cell = nbformat.v4.new_code_cell("work()")
    with kernel.Kernel(connect, timeout=timeout) as running:
        running.run_cell(cell, 1)
    assert len(sessions) == 1, "the server keeps messages for the same session only"
    assert all(channel.closed for channel in opened)
    return cell


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "RECONNECT_S", 0.01)
    monkeypatch.setattr("shoppe_ci.wait.time.sleep", lambda _: None)


def test_the_times_of_a_cell_are_in_its_metadata() -> None:
    cell = run_cell(Channel(message("status", execution_state="busy", since=0), *END))
    assert cell.metadata["execution"] == {
        "iopub.status.busy": "2026-11-27T00:00:02Z",
        "iopub.status.idle": "2026-11-27T00:00:01Z",
    }


def test_streams_are_joined() -> None:
    outputs = run(Channel(stream("a\n"), stream("b\n"), *END))
    assert [out.text for out in outputs] == ["a\nb\n"]


def test_a_lost_connection_is_made_again_and_nothing_is_lost() -> None:
    outputs = run(Channel(stream("a\n"), LOST), Channel(stream("b\n"), *END))
    assert [out.text for out in outputs] == ["a\nb\n"]


def test_a_kernel_out_of_reach_is_reported_in_words() -> None:
    with pytest.raises(ShoppeError, match=r"connection to the kernel was lost \(gone\)") as told:
        run(Channel(stream("a\n"), LOST))
    assert "ci/shoppe status" in told.value.remedy


def test_silence_is_reported() -> None:
    with pytest.raises(ShoppeError, match="sent no output for 5 s"):
        run(Channel(websocket.WebSocketTimeoutException("timed out")))


def test_what_a_cell_cleared_is_not_shown() -> None:
    outputs = run(Channel(stream("10 %\n"), message("clear_output"), stream("20 %\n"), *END))
    assert [out.text for out in outputs] == ["20 %\n"]
