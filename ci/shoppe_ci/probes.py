"""What a user does at each server meanwhile, timed.  It runs in a user's pod.

Usage: python probes.py HOSTS SECONDS [FILE]; HOSTS is JSON, {server: "HOST:PORT"}; it ends earlier
when FILE exists.  Prints a JSON list of [server, start, seconds, error or ""], for each request
that was made; the start is in seconds since the first.
"""

import io
import json
import os
import sys
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import requests
from coffea_shoppe_contract.files import (
    IDENTITY_FOLDER,
    S3_BUCKET_FILE,
    WORKSPACE_FILE,
    token_file,
)

TIMEOUT_S = 30
"""A request succeeds within this time."""
PAUSE_S = 0.5
Probe = Callable[[str], None]
OK = requests.codes.ok


def _get(url: str, headers: dict[str, str] | None = None, expected: int = OK) -> requests.Response:
    """Return the response to a request on a new connection; raises where it is another one."""
    response = requests.get(url, headers=headers, timeout=TIMEOUT_S, allow_redirects=False)
    if response.status_code != expected:
        raise RuntimeError(f"{response.status_code} {response.text[:200]}")
    return response


def _own(name: str) -> str:
    """Return what a file of the user's identity has."""
    return (Path(IDENTITY_FOLDER) / name).read_text().strip()


def _token(audience: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {_own(token_file(audience))}"}


def _hub_token() -> dict[str, str]:
    return {"Authorization": f"token {os.environ['JUPYTERHUB_API_TOKEN']}"}


def proxy(host: str) -> None:
    """Open the login page, as a browser does."""
    _get(f"http://{host}/hub/login")


def hub(host: str) -> None:
    """Have the hub say whose token it is."""
    _get(f"http://{host}/hub/api/user", _hub_token())


def traefik(host: str) -> None:
    """List the own Dask clusters, through Traefik at the gateway."""
    authorization = f"jupyterhub {os.environ['JUPYTERHUB_API_TOKEN']}"
    _get(f"http://{host}/services/dask-gateway/api/v1/clusters/", {"Authorization": authorization})


def api(host: str) -> None:
    """Ask the facility API for the own quota, and for the keys by which services verify."""
    _get(f"http://{host}/quota", _token("api"))
    _get(f"http://{host}/keys")


@cache
def _run_folder(base: str) -> str:
    """Make a run in the own workspace; return the folder of its artifacts."""
    headers = _workspace()
    body = {"name": f"probes-{uuid.uuid4().hex[:8]}"}

    def post(path: str, content: dict[str, str]) -> Any:
        url = f"{base}/mlflow/{path}/create"
        response = requests.post(url, json=content, headers=headers, timeout=TIMEOUT_S)
        response.raise_for_status()
        return response.json()

    info = post("runs", post("experiments", body))["run"]["info"]
    return str(info["artifact_uri"]).removeprefix("mlflow-artifacts:/")


def _workspace() -> dict[str, str]:
    return _token("mlflow") | {"X-MLFLOW-WORKSPACE": _own(WORKSPACE_FILE)}


def mlflow(host: str) -> None:
    """Search the own experiments, store an artifact and read it."""
    base, headers = f"http://{host}/api/2.0", _workspace()
    _get(f"{base}/mlflow/experiments/search?max_results=5", headers)
    artifact = f"{base}/mlflow-artifacts/artifacts/{_run_folder(base)}/{uuid.uuid4().hex}"
    content = artifact.encode()
    requests.put(artifact, data=content, headers=headers, timeout=TIMEOUT_S).raise_for_status()
    if _get(artifact, headers).content != content:
        raise RuntimeError("the artifact is another one")


def servicex(host: str) -> None:
    """List the own requests."""
    _get(f"http://{host}/servicex/transformation", _token("servicex"))


def s3_gateway(host: str) -> None:
    """Ask for a result without a signature, which the gateway has to refuse."""
    _get(f"http://{host}/bucket/object", expected=requests.codes.forbidden)


def triton(host: str) -> None:
    """Ask Triton what it is."""
    _get(f"http://{host}/v2", _token("triton"))


def triton_grpc(host: str) -> None:
    """Ask Triton the same by gRPC."""
    import tritonclient.grpc as client

    with client.InferenceServerClient(host) as connection:
        headers = {"authorization": _token("triton")["Authorization"]}
        connection.get_server_metadata(headers=headers, client_timeout=TIMEOUT_S)


def objectstore(host: str) -> None:
    """Store an object in the own bucket and read it."""
    key, content = f"probes/{uuid.uuid4().hex}", b"x" * 100_000
    address = {"Bucket": _own(S3_BUCKET_FILE), "Key": key}
    client = boto3.client("s3", endpoint_url=f"http://{host}")
    client.put_object(**address, Body=io.BytesIO(content))
    if client.get_object(**address)["Body"].read() != content:
        raise RuntimeError("the object is another one")
    client.delete_object(**address)


def xcache(host: str) -> None:
    """Read a published file by the cache; `host` has its path, too."""
    _get(f"http://{host}", {"Range": "bytes=0-99"}, requests.codes.partial_content)


PROBES: dict[str, Probe] = {
    "proxy": proxy,
    "hub": hub,
    "traefik": traefik,
    "api": api,
    "mlflow": mlflow,
    "servicex": servicex,
    "s3-gateway": s3_gateway,
    "triton": triton,
    "triton-grpc": triton_grpc,
    "objectstore": objectstore,
    "xcache": xcache,
}


Result = tuple[str, float, float, str]
"""Server, start, duration, problem."""


def _timed(server: str, host: str, first: float) -> Result:
    start = time.monotonic()
    try:
        PROBES[server](host)
        problem = ""
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
    return server, start - first, time.monotonic() - start, problem


def probe(hosts: dict[str, str], seconds: float, stop: Path | None = None) -> list[Result]:
    """Use the servers side by side, each again and again, until a time or a file `stop`."""
    first = time.monotonic()

    def use(server: str) -> list[Result]:
        results = [_timed(server, hosts[server], first)]
        while time.monotonic() < first + seconds and not (stop and stop.exists()):
            time.sleep(PAUSE_S)
            results.append(_timed(server, hosts[server], first))
        return results

    with ThreadPoolExecutor(len(hosts)) as pool:
        return [result for results in pool.map(use, hosts) for result in results]


def main() -> None:
    """Probe the servers of the command line."""
    hosts, seconds, *stop = sys.argv[1:]
    print(json.dumps(probe(json.loads(hosts), float(seconds), *map(Path, stop))))


if __name__ == "__main__":
    main()
