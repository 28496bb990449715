"""A facility as a user's browser meets it: log in, spawn, run a notebook."""

import base64
import json
import time
import uuid
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import requests
import websocket
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from shoppe_ci.cluster import Cluster
from shoppe_ci.errors import ShoppeError
from shoppe_ci.kernel import Kernel, Note, NotebookError
from shoppe_ci.progress import say
from shoppe_ci.release import NAMESPACE, RELEASE
from shoppe_ci.wait import eventually

REPLY_TIMEOUT_S = 1800
GATEWAY_HEALTH = "/services/dask-gateway/api/health"
GATEWAY_S = 60


def password(
    cluster: Cluster, *, namespace: str = NAMESPACE, name: str = RELEASE, kind: str = "user"
) -> str:
    """Return the password that the release made for logging in, as `user` or `admin`."""
    secret = cluster.get("secret", f"{name}-hub", "-n", namespace)
    key = f"hub.config.SharedPasswordAuthenticator.{kind}_password"
    return base64.b64decode(secret["data"][key]).decode()


def _patient_session() -> requests.Session:
    """Return a session that asks again while a part of the way restarts (about 40 s)."""
    session = requests.Session()
    again = Retry(
        total=10,
        backoff_factor=0.3,
        backoff_max=8,
        status_forcelist=(502, 503, 504),
        raise_on_status=False,
    )
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=again))
    return session


@dataclass
class User:
    """A user logged in at the hub, with the cookies that a browser would hold."""

    url: str
    name: str
    session: requests.Session = field(default_factory=_patient_session)

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

    def _request(self, method: str, path: str, **options: Any) -> requests.Response:
        """Send a request; raises `ShoppeError` where nothing answers."""
        try:
            return self.session.request(method, f"{self.url}{path}", timeout=60, **options)
        except requests.RequestException as error:
            raise ShoppeError(
                f"{method} {path}: the facility does not answer ({type(error).__name__})",
                "`ci/shoppe status` shows what was restarted; run it again",
            ) from error

    def hub(self, method: str, path: str, **options: Any) -> requests.Response:
        """Send a request to the hub's API."""
        return self._request(
            method,
            f"/hub/api{path}",
            headers={"X-XSRFToken": self._xsrf("/hub/"), "Referer": f"{self.url}/hub/home"},
            **options,
        )

    @property
    def server_path(self) -> str:
        """Return the path of the user's own server."""
        return f"/user/{quote(self.name, safe='@~')}"  # as the hub does

    def server(self, method: str, path: str, **options: Any) -> requests.Response:
        """Send a request to the user's own server."""
        answer = self._request(
            method,
            f"{self.server_path}{path}",
            headers={"X-XSRFToken": self._xsrf(f"{self.server_path}/")},
            **options,
        )
        if answer.status_code >= 400:
            raise ShoppeError(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
        return answer

    def spawn(
        self,
        *,
        options: dict[str, Any] | None = None,
        timeout: float = 300,
        note: Note | None = None,
    ) -> float:
        """Start the user's server, wait until it answers, and return the seconds it took.

        `options` are what the hub's form would ask for: {"profile": SLUG}.
        """
        start = time.monotonic()
        asked = self.hub("POST", f"/users/{quote(self.name)}/server", json=options or {})
        if asked.status_code not in (201, 202, 400):
            raise ShoppeError(f"the hub refused to spawn: {asked.status_code} {asked.text[:300]}")

        def ready() -> bool:
            server = self.hub("GET", f"/users/{quote(self.name)}").json()["servers"].get("", {})
            if not server:
                raise ShoppeError(f"no server for {self.name!r}: {self._spawn_failure()}")
            return bool(server.get("ready"))

        eventually(ready, f"the server of {self.name!r} is ready", timeout=timeout, note=note)
        # The first page logs the browser in at the user's server.
        self.session.get(f"{self.url}{self.server_path}/lab", timeout=60).raise_for_status()
        return time.monotonic() - start

    def _spawn_failure(self) -> str:
        """Return why the server did not start, in the hub's words."""
        events = self.hub("GET", f"/users/{quote(self.name)}/server/progress").text
        lines = [line.removeprefix("data: ") for line in events.splitlines() if "data: " in line]
        if not lines:
            return "see the hub's log"
        return str(json.loads(lines[-1])["message"])

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

    def download(self, source: str, target: Path) -> list[Path]:
        """Copy a file or a folder from the user's home; return the files written."""
        model = self.server("GET", f"/api/contents/{quote(source)}?content=1").json()
        if model["type"] == "directory":
            below = (self.download(e["path"], target / e["name"]) for e in model["content"])
            return [path for paths in below for path in paths]
        answer = self.server("GET", f"/files/{quote(source)}")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(answer.content)
        return [target]

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
        prefix = f"{folder}/run-".lstrip("/")
        # A run that was cut short has left its kernel, and that its Dask cluster.
        for old in self.server("GET", "/api/sessions").json():
            if old["path"].startswith(prefix):
                self._close(old["id"])
        session = {
            "path": f"{prefix}{uuid.uuid4().hex[:8]}.ipynb",
            "type": "notebook",
            "name": "",
            "kernel": {"name": notebook.metadata.get("kernelspec", {}).get("name", "python3")},
        }
        opened = self.server("POST", "/api/sessions", json=session).json()
        try:
            connect = partial(self._channel, opened["kernel"]["id"], timeout)
            with Kernel(connect, timeout=timeout, note=note) as kernel:
                cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
                for count, cell in enumerate(cells, 1):
                    first = (cell.source.strip().splitlines() or [""])[0]
                    if note:
                        note(f"cell {count}/{len(cells)}: {first}")
                    kernel.run_cell(cell, count)
                    error = next((out for out in cell.outputs if out.output_type == "error"), None)
                    if error:
                        raise NotebookError(notebook, count, error)
        except Exception:
            # The kernel gives back its Dask cluster as it ends, if anybody hears it.
            self._await_gateway()
            raise
        finally:
            self._close(opened["id"])
        return notebook

    def _await_gateway(self) -> None:
        """Wait until the gateway of Dask clusters answers, should it be away just now."""

        def answers() -> bool:
            return self.session.get(f"{self.url}{GATEWAY_HEALTH}", timeout=5).status_code < 500

        try:
            eventually(answers, "the Dask gateway answers", timeout=GATEWAY_S, every=1)
        except ShoppeError as error:
            say(f"  warning: {error.problem}; the run's Dask cluster may be left behind")

    def _close(self, session: str) -> None:
        """End a kernel's session; a server that is gone has ended it already."""
        try:
            self.server("DELETE", f"/api/sessions/{session}")
        except ShoppeError as error:
            say(f"  warning: the kernel's session could not be ended: {error.problem}")

    def _channel(self, kernel: str, timeout: float, session: str) -> websocket.WebSocket:
        """Open the websocket over which a browser's session talks to a kernel."""
        parts = urlsplit(self.url)
        cookies = "; ".join(
            f"{c.name}={c.value}"
            for c in self.session.cookies
            if f"{self.server_path}/".startswith(c.path)
        )
        return websocket.create_connection(
            f"ws://{parts.netloc}{self.server_path}/api/kernels/{kernel}/channels"
            f"?session_id={session}",
            cookie=cookies,
            origin=self.url,
            timeout=timeout,
        )
