"""A facility as a user's browser meets it: log in, spawn, run a notebook."""

import base64
import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import nbformat
import requests
import websocket

from shoppe_ci.cluster import Cluster
from shoppe_ci.errors import ShoppeError
from shoppe_ci.release import NAMESPACE, RELEASE
from shoppe_ci.wait import eventually

Note = Callable[[str], None]
REPLY_TIMEOUT_S = 1800


def password(cluster: Cluster, *, namespace: str = NAMESPACE, name: str = RELEASE) -> str:
    """Return the password that the release made for logging in."""
    secret = cluster.get("secret", f"{name}-hub", "-n", namespace)
    key = "hub.config.SharedPasswordAuthenticator.user_password"
    return base64.b64decode(secret["data"][key]).decode()


@dataclass
class User:
    """A user logged in at the hub, with the cookies that a browser would hold."""

    url: str
    name: str
    session: requests.Session = field(default_factory=requests.Session)

    def login(self, secret: str) -> None:
        """Log in through the hub's form; raises `ShoppeError` where it is refused."""
        form = self.session.get(f"{self.url}/hub/login", timeout=30)
        form.raise_for_status()
        answer = self.session.post(
            f"{self.url}/hub/login",
            data={"username": self.name, "password": secret, "_xsrf": self._xsrf("/hub/")},
            allow_redirects=False,
            timeout=30,
        )
        if answer.status_code != 302:
            raise ShoppeError(f"the hub refused the login of {self.name!r} ({answer.status_code})")

    def _xsrf(self, path: str) -> str:
        """Return the token against forged requests that belongs to a path."""
        for cookie in self.session.cookies:
            if cookie.name == "_xsrf" and cookie.path == path:
                return cookie.value or ""
        return ""

    def hub(self, method: str, path: str, **options: Any) -> requests.Response:
        """Send a request to the hub's API."""
        return self.session.request(
            method,
            f"{self.url}/hub/api{path}",
            headers={"X-XSRFToken": self._xsrf("/hub/"), "Referer": f"{self.url}/hub/home"},
            timeout=60,
            **options,
        )

    @property
    def server_path(self) -> str:
        """Return the path of the user's own server."""
        return f"/user/{quote(self.name)}"

    def server(self, method: str, path: str, **options: Any) -> requests.Response:
        """Send a request to the user's own server."""
        answer = self.session.request(
            method,
            f"{self.url}{self.server_path}{path}",
            headers={"X-XSRFToken": self._xsrf(f"{self.server_path}/")},
            timeout=60,
            **options,
        )
        if answer.status_code >= 400:
            raise ShoppeError(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
        return answer

    def spawn(self, *, timeout: float = 300, note: Note | None = None) -> float:
        """Start the user's server, wait until it answers, and return the seconds it took."""
        start = time.monotonic()
        asked = self.hub("POST", f"/users/{quote(self.name)}/server")
        if asked.status_code not in (201, 202, 400):
            raise ShoppeError(f"the hub refused to spawn: {asked.status_code} {asked.text[:300]}")

        def ready() -> bool:
            server = self.hub("GET", f"/users/{quote(self.name)}").json()["servers"].get("", {})
            if not server:
                raise ShoppeError(f"the server of {self.name!r} failed to start; see the hub's log")
            return bool(server.get("ready"))

        eventually(ready, f"the server of {self.name!r} is ready", timeout=timeout, note=note)
        # The first page logs the browser in at the user's server.
        self.session.get(f"{self.url}{self.server_path}/lab", timeout=60).raise_for_status()
        return time.monotonic() - start

    def stop(self, *, timeout: float = 120) -> None:
        """Stop the user's server and wait until it is gone."""
        self.hub("DELETE", f"/users/{quote(self.name)}/server")

        def stopped() -> bool:
            return not self.hub("GET", f"/users/{quote(self.name)}").json()["servers"]

        eventually(stopped, f"the server of {self.name!r} has stopped", timeout=timeout)

    def upload(self, source: Path, target: str) -> None:
        """Copy a file into the user's home, its folders made."""
        folders = target.split("/")[:-1]
        for depth in range(len(folders)):
            path = "/".join(folders[: depth + 1])
            self.server("PUT", f"/api/contents/{quote(path)}", json={"type": "directory"})
        content = base64.b64encode(source.read_bytes()).decode()
        model = {"type": "file", "format": "base64", "content": content}
        self.server("PUT", f"/api/contents/{quote(target)}", json=model)

    def download(self, source: str, target: Path) -> None:
        """Copy a file or a folder from the user's home."""
        model = self.server("GET", f"/api/contents/{quote(source)}?content=1").json()
        if model["type"] == "directory":
            for entry in model["content"]:
                self.download(entry["path"], target / entry["name"])
            return
        answer = self.server("GET", f"/files/{quote(source)}")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(answer.content)

    def run_notebook(
        self,
        notebook: Any,
        *,
        folder: str = "",
        note: Note | None = None,
        timeout: float = REPLY_TIMEOUT_S,
    ) -> Any:
        """Run a notebook's cells in a kernel of the user's server, as JupyterLab does.

        Returns the notebook with its outputs.  A cell that raises ends the run;
        the notebook so far is the `notebook` of the `NotebookError` raised.
        """
        session = {
            "path": f"{folder}/run-{uuid.uuid4().hex[:8]}.ipynb".lstrip("/"),
            "type": "notebook",
            "name": "",
            "kernel": {"name": notebook.metadata.get("kernelspec", {}).get("name", "python3")},
        }
        opened = self.server("POST", "/api/sessions", json=session).json()
        try:
            channel = self._channel(opened["kernel"]["id"], timeout)
            try:
                cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
                for count, cell in enumerate(cells, 1):
                    first = (cell.source.strip().splitlines() or [""])[0]
                    if note:
                        note(f"cell {count}/{len(cells)}: {first}")
                    _run_cell(channel, cell, count, timeout, note)
                    error = next((out for out in cell.outputs if out.output_type == "error"), None)
                    if error:
                        raise NotebookError(notebook, count, error)
            except (websocket.WebSocketException, OSError) as error:
                raise ShoppeError(
                    f"the connection to the kernel was lost: {error or type(error).__name__}",
                    "`ci/shoppe status` shows what was restarted; run it again",
                ) from error
            finally:
                channel.close()
        finally:
            self.server("DELETE", f"/api/sessions/{opened['id']}")
        return notebook

    def _channel(self, kernel: str, timeout: float) -> websocket.WebSocket:
        """Open the websocket over which a browser talks to a kernel."""
        parts = urlsplit(self.url)
        cookies = "; ".join(
            f"{c.name}={c.value}"
            for c in self.session.cookies
            if f"{self.server_path}/".startswith(c.path)
        )
        return websocket.create_connection(
            f"ws://{parts.netloc}{self.server_path}/api/kernels/{kernel}/channels",
            cookie=cookies,
            origin=self.url,
            timeout=timeout,
        )


class NotebookError(ShoppeError):
    """A cell raised; `notebook` holds all outputs up to it."""

    def __init__(self, notebook: Any, cell: int, error: Any) -> None:
        super().__init__(f"cell {cell} of the notebook raised {error.ename}: {error.evalue}")
        self.notebook = notebook


def _run_cell(
    channel: websocket.WebSocket, cell: Any, count: int, timeout: float, note: Note | None
) -> None:
    """Run one cell and collect its outputs as a front end would show them."""
    request = uuid.uuid4().hex
    header = {"msg_id": request, "msg_type": "execute_request", "version": "5.4"}
    header |= {"username": "", "session": uuid.uuid4().hex, "date": ""}
    content = {"code": cell.source, "silent": False, "store_history": True}
    content |= {"allow_stdin": False, "stop_on_error": True, "user_expressions": {}}
    message = {"header": header, "parent_header": {}, "metadata": {}, "content": content}
    channel.send(json.dumps({**message, "channel": "shell"}))
    cell.outputs, cell.execution_count = [], count
    replied = idle = clear = False
    deadline = time.monotonic() + timeout
    while not (replied and idle):
        if time.monotonic() > deadline:
            raise ShoppeError(f"cell {count} of the notebook ran longer than {timeout:.0f} s")
        answer = json.loads(channel.recv())
        if answer.get("parent_header", {}).get("msg_id") != request:
            continue
        kind, body = answer["msg_type"], answer["content"]
        replied |= kind == "execute_reply"
        idle |= kind == "status" and body["execution_state"] == "idle"
        if kind == "clear_output":
            clear = True
            continue
        if kind == "update_display_data":
            _update_display(cell, body)
        if kind not in ("stream", "display_data", "execute_result", "error"):
            continue
        if clear:
            cell.outputs, clear = [], False
        if kind == "stream" and note and body["text"].strip():
            note(body["text"].strip().splitlines()[-1])
        output = nbformat.v4.output_from_msg(answer)
        if kind in ("display_data", "execute_result") and body.get("transient"):
            output.metadata["display_id"] = body["transient"].get("display_id")
        last = cell.outputs[-1] if cell.outputs else None
        if last and kind == "stream" == last.output_type and last.name == output.name:
            last.text += output.text
        else:
            cell.outputs.append(output)


def _update_display(cell: Any, body: dict[str, Any]) -> None:
    """Replace what a display handle showed before."""
    wanted = body.get("transient", {}).get("display_id")
    for output in cell.outputs:
        if wanted and output.get("metadata", {}).get("display_id") == wanted:
            output.data = body["data"]
