"""A kernel of a user's server, over a websocket, as a browser uses it."""

import json
import time
import uuid
from collections.abc import Callable
from typing import Any

import nbformat
import websocket

from shoppe_ci.errors import ShoppeError
from shoppe_ci.wait import eventually

Note = Callable[[str], None]
Connect = Callable[[str], websocket.WebSocket]
RECONNECT_S = 90


class NotebookError(ShoppeError):
    """A cell raised; `notebook` contains all outputs up to it."""

    def __init__(self, notebook: Any, cell: int, error: Any) -> None:
        super().__init__(f"cell {cell} of the notebook raised {error.ename}: {error.evalue}")
        self.notebook = notebook


class Kernel:
    """A running kernel; a lost connection is opened again, as JupyterLab does.

    The server keeps what the kernel sends for the session's next connection, so
    that nothing is lost with a proxy that restarts.  A context manager.
    """

    def __init__(self, connect: Connect, *, timeout: float, note: Note | None = None) -> None:
        """Connect; `connect` opens a websocket for a session's id, `timeout` is of a cell."""
        self.connect, self.timeout, self.note = connect, timeout, note
        self.session = uuid.uuid4().hex
        self.channel = connect(self.session)

    def __enter__(self) -> "Kernel":
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()

    def _again(self, problem: Exception) -> None:
        """Connect again; raises `ShoppeError` if the kernel stays unreachable."""

        def connected() -> websocket.WebSocket:
            return self.connect(self.session)

        self.channel.close()
        what = "the kernel can be reached again"
        try:
            self.channel = eventually(connected, what, timeout=RECONNECT_S, every=2, note=self.note)
        except ShoppeError as error:
            raise ShoppeError(
                f"the connection to the kernel was lost ({problem or type(problem).__name__})"
                f"; {error.problem}",
                "`ci/shoppe status` shows what was restarted; run it again",
            ) from problem

    def _send(self, message: dict[str, Any]) -> None:
        text = json.dumps(message)
        try:
            self.channel.send(text)
        except (websocket.WebSocketException, OSError) as error:
            self._again(error)
            self.channel.send(text)

    def _receive(self) -> dict[str, Any]:
        while True:
            try:
                return dict(json.loads(self.channel.recv()))
            except websocket.WebSocketTimeoutException as error:
                raise ShoppeError(f"the kernel sent no output for {self.timeout:.0f} s") from error
            except (websocket.WebSocketException, OSError) as error:
                self._again(error)

    def run_cell(self, cell: Any, count: int) -> None:
        """Run one cell and collect its outputs as a front end would show them.

        The times at which the kernel was busy and idle again are in its metadata, as
        JupyterLab records them.
        """
        request = uuid.uuid4().hex
        header = {"msg_id": request, "msg_type": "execute_request", "version": "5.4"}
        header |= {"username": "", "session": self.session, "date": ""}
        content = {"code": cell.source, "silent": False, "store_history": True}
        content |= {"allow_stdin": False, "stop_on_error": True, "user_expressions": {}}
        execute = {"header": header, "parent_header": {}, "metadata": {}, "content": content}
        self._send({**execute, "channel": "shell"})
        cell.execution_count = count
        outputs = _Outputs(cell, self.note)
        times: dict[str, str] = {}
        replied = idle = False
        deadline = time.monotonic() + self.timeout
        while not (replied and idle):
            if time.monotonic() > deadline:
                raise ShoppeError(
                    f"cell {count} of the notebook ran longer than {self.timeout:.0f} s"
                )
            message = self._receive()
            if message.get("parent_header", {}).get("msg_id") != request:
                continue
            replied |= message["msg_type"] == "execute_reply"
            idle |= (
                message["msg_type"] == "status" and message["content"]["execution_state"] == "idle"
            )
            if message["msg_type"] == "status":
                state = message["content"]["execution_state"]
                times[f"iopub.status.{state}"] = message["header"]["date"]
            outputs.take(message)
        cell.metadata["execution"] = times


class _Outputs:
    """What a front end would show below a cell."""

    def __init__(self, cell: Any, note: Note | None) -> None:
        self.cell, self.note = cell, note
        self.clear = False
        cell.outputs = []

    def take(self, message: dict[str, Any]) -> None:
        """Show one message of the kernel."""
        kind, body = message["msg_type"], message["content"]
        if kind == "clear_output":
            self.clear = True
            return
        if kind == "update_display_data":
            self._update(body)
        if kind not in ("stream", "display_data", "execute_result", "error"):
            return
        if self.clear:
            self.cell.outputs, self.clear = [], False
        if kind == "stream" and self.note and body["text"].strip():
            self.note(body["text"].strip().splitlines()[-1])
        output = nbformat.v4.output_from_msg(message)
        if kind in ("display_data", "execute_result") and body.get("transient"):
            output.metadata["display_id"] = body["transient"].get("display_id")
        last = self.cell.outputs[-1] if self.cell.outputs else None
        if last and kind == "stream" == last.output_type and last.name == output.name:
            last.text += output.text
        else:
            self.cell.outputs.append(output)

    def _update(self, body: dict[str, Any]) -> None:
        """Replace what a display handle showed before."""
        display = body.get("transient", {}).get("display_id")
        for output in self.cell.outputs:
            if display and output.get("metadata", {}).get("display_id") == display:
                output.data = body["data"]
