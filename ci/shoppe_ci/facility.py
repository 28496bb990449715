"""A facility as a user's browser uses it: log in, start a server, run a notebook."""

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
    """Return the password that the release generated for logging in, as `user` or `admin`."""
    secret = cluster.get("secret", f"{name}-hub", "-n", namespace)
    key = f"hub.config.SharedPasswordAuthenticator.{kind}_password"
    return base64.b64decode(secret["data"][key]).decode()


def _patient_session() -> requests.Session:
    """Return a session that retries while proxies restart (about 40 s)."""
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
    """A user logged in at the hub, with the cookies of a browser."""

    url: str
    name: str
    session: requests.Session = field(default_factory=_patient_session)

    @classmethod
    def with_token(cls, url: str, token: str) -> "User":
        """Return the user that a token of the hub belongs to.

        Raises `ShoppeError` where the hub refuses the token, or does not respond.
        """
        user = cls(url.rstrip("/"), "")
        user.session.headers["Authorization"] = f"token {token}"
        response = user.hub("GET", "/user")
        if response.status_code != requests.codes.ok:
            raise ShoppeError(
                f"{url} refused the token: HTTP status {response.status_code}",
                "create a token at the facility's page /hub/token, without limited permissions",
            )
        user.name = response.json()["name"]
        return user

    def login(self, secret: str) -> None:
        """Log in through the hub's form; raises `ShoppeError` where it is refused."""
        self._page("/hub/login")
        response = self._request(
            "POST",
            "/hub/login",
            data={"username": self.name, "password": secret, "_xsrf": self._xsrf("/hub/")},
            allow_redirects=False,
        )
        if response.status_code != 302:
            raise ShoppeError(
                f"the hub refused the login of {self.name!r} ({response.status_code})"
            )

    def _xsrf(self, path: str) -> str:
        """Return the XSRF token of a path."""
        for cookie in self.session.cookies:
            if cookie.name == "_xsrf" and cookie.path == path:
                return cookie.value or ""
        return ""

    def _request(self, method: str, path: str, **options: Any) -> requests.Response:
        """Send a request; raises `ShoppeError` if nothing responds."""
        try:
            return self.session.request(method, f"{self.url}{path}", timeout=60, **options)
        except requests.RequestException as error:
            raise ShoppeError(
                f"{method} {path}: the facility does not respond ({type(error).__name__})",
                "`ci/shoppe status` shows what was restarted; run it again",
            ) from error

    def _page(self, path: str) -> None:
        """Open a page, as a browser does; raises `ShoppeError` where it cannot be opened."""
        response = self._request("GET", path)
        if not response.ok:
            raise ShoppeError(
                f"{path} cannot be opened: HTTP status {response.status_code}",
                "`ci/shoppe status` shows what does not run",
            )

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
        response = self._request(
            method,
            f"{self.server_path}{path}",
            headers={"X-XSRFToken": self._xsrf(f"{self.server_path}/")},
            **options,
        )
        if response.status_code >= 400:
            raise ShoppeError(f"{method} {path}: {response.status_code} {response.text[:300]}")
        return response

    def spawn(
        self,
        *,
        options: dict[str, Any] | None = None,
        timeout: float = 300,
        note: Note | None = None,
    ) -> float:
        """Start the user's server, wait until it responds, and return the seconds it took.

        `options` are what the hub's form would ask for: {"profile": SLUG}.
        """
        start = time.monotonic()
        response = self.hub("POST", f"/users/{quote(self.name)}/server", json=options or {})
        if response.status_code not in (201, 202, 400):
            raise ShoppeError(
                f"the hub refused to spawn: {response.status_code} {response.text[:300]}"
            )

        def ready() -> bool:
            server = self.hub("GET", f"/users/{quote(self.name)}").json()["servers"].get("", {})
            if not server:
                raise ShoppeError(f"no server for {self.name!r}: {self._spawn_failure()}")
            return bool(server.get("ready"))

        eventually(ready, f"the server of {self.name!r} is ready", timeout=timeout, note=note)
        # The first page logs the browser in at the user's server.
        self._page(f"{self.server_path}/lab")
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
        """Copy a file into the user's home, with its folders."""
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
        response = self.server("GET", f"/files/{quote(source)}")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(response.content)
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
        # An interrupted run leaves its kernel and its Dask cluster behind.
        for old in self.server("GET", "/api/sessions").json():
            if old["path"].startswith(prefix):
                self.close_session(old["id"])
        kernelspec = notebook.metadata.get("kernelspec", {}).get("name", "python3")
        session, kernel_id = self.open_session(f"{prefix}{uuid.uuid4().hex[:8]}.ipynb", kernelspec)
        try:
            with self.kernel(kernel_id, timeout=timeout, note=note) as kernel:
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
            # The kernel closes its Dask cluster as it ends, if the gateway is available.
            self._await_gateway()
            raise
        finally:
            self.close_session(session)
        return notebook

    def open_session(self, path: str, kernelspec: str = "python3") -> tuple[str, str]:
        """Start a kernel in a session of that path; return the ids of session and kernel."""
        body = {"path": path, "type": "notebook", "name": "", "kernel": {"name": kernelspec}}
        opened = self.server("POST", "/api/sessions", json=body).json()
        return opened["id"], opened["kernel"]["id"]

    def kernel(
        self, kernel_id: str, *, timeout: float = REPLY_TIMEOUT_S, note: Note | None = None
    ) -> Kernel:
        """Return a connection to a running kernel; `timeout` bounds each cell, in seconds."""
        return Kernel(partial(self._channel, kernel_id, timeout), timeout=timeout, note=note)

    def _authorization(self) -> list[str]:
        """Return the header with the user's token, if the user has no cookies."""
        token = self.session.headers.get("Authorization")
        return [f"Authorization: {token!s}"] if token else []

    def _await_gateway(self) -> None:
        """Wait until the gateway of Dask clusters responds."""

        def responds() -> bool:
            return self.session.get(f"{self.url}{GATEWAY_HEALTH}", timeout=5).status_code < 500

        try:
            eventually(responds, "the Dask gateway responds", timeout=GATEWAY_S, every=1)
        except ShoppeError as error:
            say(f"  warning: {error.problem}; the run's Dask cluster may be left behind")

    def close_session(self, session: str) -> None:
        """End a kernel's session; a server that has stopped has ended it already."""
        try:
            self.server("DELETE", f"/api/sessions/{session}")
        except ShoppeError as error:
            say(f"  warning: the kernel's session could not be ended: {error.problem}")

    def _channel(self, kernel: str, timeout: float, session: str) -> websocket.WebSocket:
        """Open the websocket of a browser's session to a kernel."""
        parts = urlsplit(self.url)
        cookies = "; ".join(
            f"{c.name}={c.value}"
            for c in self.session.cookies
            if f"{self.server_path}/".startswith(c.path)
        )
        scheme = "wss" if parts.scheme == "https" else "ws"
        return websocket.create_connection(
            f"{scheme}://{parts.netloc}{parts.path}{self.server_path}/api/kernels/{kernel}/channels"
            f"?session_id={session}",
            cookie=cookies,
            header=self._authorization(),
            origin=self.url,
            timeout=timeout,
        )
