"""The real MLflow server, run as its chart would have it: with our login, in a folder."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import requests
from coffea_shoppe_contract.api import (
    ARTIFACT_QUOTA_PATH,
    KEYS_PATH,
    REVOCATIONS_PATH,
    WORKSPACE_HEADER,
)
from coffea_shoppe_contract.claims import SIGNING_ALGORITHM, token_claims
from coffea_shoppe_contract.names import workspace_name
from coffea_shoppe_identity import bearer
from cryptography.hazmat.primitives.asymmetric import ec
from http_server import Request, serving
from rendering import Manifest, template

KEY = ec.generate_private_key(ec.SECP256R1())
ISSUER = "here"
START_S = 180
FOLDERS = re.compile(r"/(etc/mlflow|data|tmp|run/metrics)\b")
"""Of the container."""


def token(user: str, audience: str = "mlflow") -> str:
    """Return a user's token for a service, signed by the facility."""
    claims = token_claims(
        issuer=ISSUER, audience=audience, user=user, uid=f"u-{user}", groups=(), now=time.time()
    )
    return jwt.encode(claims, KEY, algorithm=SIGNING_ALGORITHM, headers={"kid": "k1"})


@contextmanager
def facility_api(quotas: dict[str, dict[str, int]]) -> Iterator[str]:
    """Serve what the facility API publishes, and users' quotas; yield its address."""
    public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(KEY.public_key()))
    documents: dict[str, Any] = {
        KEYS_PATH: {"keys": [{**public, "kid": "k1"}]},
        REVOCATIONS_PATH: {"revoked": {}},
    }

    def respond(request: Request) -> tuple[int, Any]:
        if request.path != ARTIFACT_QUOTA_PATH:
            return 200, documents[request.path]
        own = bearer(request.headers["Authorization"])
        algorithms, key = [SIGNING_ALGORITHM], KEY.public_key()
        claims = jwt.decode(own, key, algorithms=algorithms, audience="mlflow")
        return 200, quotas.get(claims["sub"], {"limit": 0, "elsewhere": 0})

    with serving(respond) as url:
        yield url


@dataclass
class MlflowServer:
    """MLflow as the chart's Deployment runs it, its folders moved below `folder`."""

    folder: Path
    url: str
    container: Manifest
    exporter: Manifest
    migration: Manifest
    garbage: Manifest
    quotas: dict[str, dict[str, int]]
    """What the facility API says of users whose storage is limited."""

    def _moved(self, text: str) -> str:
        return FOLDERS.sub(lambda path: str(self.folder / path[0].rpartition("/")[2]), text)

    def _environment(self, container: Manifest) -> dict[str, str]:
        entries = container.get("env", [])
        own = {e["name"]: self._moved(e.get("value", "a" * 24)) for e in entries}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return {"PATH": path, "MLFLOW_DISABLE_TELEMETRY": "true", **own}

    def migrate(self) -> None:
        """Run the init container."""
        words = [self._moved(word) for word in self.migration["args"]]
        subprocess.run(words, env=self._environment(self.migration), check=True)

    def collect_garbage(self) -> int:
        """Run the container of the CronJob; return its exit code."""
        words = [self._moved(word) for word in self.garbage["args"]]
        return subprocess.run(words, env=self._environment(self.garbage), check=False).returncode

    @contextmanager
    def exporting(self) -> Iterator[str]:
        """Run the exporter meanwhile; yield the address of the metrics."""
        with socket.socket() as chosen:
            chosen.bind(("127.0.0.1", 0))
            port = chosen.getsockname()[1]
        words = [*map(self._moved, self.exporter["args"]), f"--port={port}"]
        with subprocess.Popen(words, env=self._environment(self.exporter)) as process:
            try:
                yield f"http://127.0.0.1:{port}/metrics"
            finally:
                process.terminate()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Serve meanwhile; what it prints is in server.log."""
        port = self.url.rpartition(":")[2]
        words = [self._moved(word) for word in self.container["args"]]
        words = [word for word in words if not word.startswith(("--host", "--port", "--allowed"))]
        words += ["--host=127.0.0.1", f"--port={port}"]
        with (self.folder / "server.log").open("a") as log:
            environment = self._environment(self.container)
            with subprocess.Popen(words, env=environment, stdout=log, stderr=log) as process:
                try:
                    self._wait(process)
                    yield
                finally:
                    process.terminate()

    def _wait(self, process: "subprocess.Popen[bytes]") -> None:
        end = time.monotonic() + START_S
        while True:
            try:
                if requests.get(f"{self.url}/health", timeout=5).ok:
                    return
            except requests.ConnectionError:
                pass
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError((self.folder / "server.log").read_text()[-5000:])
            time.sleep(0.2)

    def welcome(self, user: str) -> None:
        """Make a user known, as the operator does."""
        headers = {"Authorization": f"Bearer {token(user)}"}
        url = f"{self.url}/api/2.0/mlflow/users/current"
        requests.get(url, headers=headers, timeout=60).raise_for_status()

    def ask(self, user: str, method: str, path: str, **options: Any) -> requests.Response:
        """Send a request as a user, to the user's own workspace unless told."""
        headers = {
            "Authorization": f"Bearer {token(user)}",
            WORKSPACE_HEADER: workspace_name(user),
            **options.pop("headers", {}),
        }
        return requests.request(
            method, f"{self.url}/{path}", headers=headers, timeout=60, **options
        )


@contextmanager
def mlflow_server(folder: Path) -> Iterator[MlflowServer]:
    """Lay the chart's files out below a folder, and migrate; it does not run yet."""
    quotas: dict[str, dict[str, int]] = {}
    with facility_api(quotas) as api, socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{chosen.getsockname()[1]}"
        manifests = template("mlflow", {"auth": {"api": api, "issuer": ISSUER}})
        (pod,) = [
            manifest["spec"]["template"]["spec"]
            for manifest in manifests
            if manifest["kind"] == "Deployment"
        ]
        (container, exporter), (migration,) = pod["containers"], pod["initContainers"]
        (garbage,) = [
            manifest["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
            for manifest in manifests
            if manifest["kind"] == "CronJob"
        ]
        server = MlflowServer(folder, url, container, exporter, migration, garbage, quotas)
        for name in ("mlflow", "data", "tmp", "metrics"):
            (folder / name).mkdir()
        (files,) = [manifest["data"] for manifest in manifests if manifest["kind"] == "ConfigMap"]
        for name, text in files.items():
            (folder / "mlflow" / name).write_text(server._moved(text))
        chosen.close()
        server.migrate()
        yield server
