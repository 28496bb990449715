"""The whole service on one machine, for its user alone: a laptop, or a test."""

import argparse
import contextlib
import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import yaml
from coffea_shoppe_contract import identity
from starlette.applications import Starlette

from coffea_shoppe_servicex import database, services
from coffea_shoppe_servicex.controller import Controller
from coffea_shoppe_servicex.settings import Auth, Front, Objects, Settings

LOCAL = Path.home() / ".local" / "share" / "coffea-shoppe-servicex"


@contextlib.contextmanager
def local(
    folder: Path, *, port: int, workers: int = 2, host: str = "127.0.0.1", cache: str = ""
) -> Iterator[tuple[Starlette, Path]]:
    """Yield the whole service as one application, and the client's configuration.

    State lies in `folder`; transformers are processes beside this one, which end with
    the context.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    key = folder / "pool-key"
    if not key.exists():
        key.touch(0o600)
        key.write_text(secrets.token_urlsafe(32))
    url = f"http://{host}:{port}"
    settings = Settings(
        database=f"sqlite:///{folder / 'requests.db'}",
        auth=Auth(enabled=False),
        objects=Objects(folder=folder / "results"),
        front=Front(endpoint=f"{host}:{port}"),
        pages=f"{url}/transformation-request",
        local_files=True,
        cache_prefix=cache,
        pool_key=key,
    )
    requests = services.delivery(settings)
    database.migrate(requests.engine)
    client = folder / identity.SERVICEX_FILE
    endpoint = {"name": "local", "endpoint": url}
    told = {"api_endpoints": [endpoint], "cache_path": str(folder / "client")}
    client.write_text(yaml.safe_dump(told, sort_keys=False))
    results = services.front(requests, None)
    whole = Starlette(
        routes=[*services.rest(settings, requests, None).routes, *results.routes],
        lifespan=results.router.lifespan_context,
    )
    stop = threading.Event()
    control = threading.Thread(target=Controller(requests).run, args=(stop,), daemon=True)
    control.start()
    program = [sys.executable, "-m", "coffea_shoppe_servicex.main", "worker"]
    memory = settings.limits.memory_max_mi_b
    # There are no pods of requests' own: every transformer takes everything.
    options = [f"--api={url}", f"--key={key}", f"--memory={memory}", "--everything"]
    started = [subprocess.Popen([*program, *options]) for _ in range(workers)]
    try:
        yield whole, client
    finally:
        stop.set()
        for process in started:
            process.terminate()
        for process in started:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
        control.join(10)
        requests.engine.dispose()


def main(arguments: list[str]) -> None:
    """Run the whole service until it is stopped."""
    parser = argparse.ArgumentParser(
        prog="coffea-shoppe-servicex local",
        description="The whole service on this machine, for whoever reaches it from here.",
    )
    parser.add_argument("--port", type=int, default=5000)
    parser.add_argument("--workers", type=int, default=max((os.cpu_count() or 2) // 2, 1))
    parser.add_argument("--folder", type=Path, default=LOCAL, help=f"state; default {LOCAL}")
    parser.add_argument("--cache", default="", help="root://HOST:PORT of a forwarding cache")
    options = parser.parse_args(arguments)
    started = local(options.folder, port=options.port, workers=options.workers, cache=options.cache)
    with started as (application, client):
        print(f"ServiceX at http://127.0.0.1:{options.port}; pages at /transformation-request")
        print(f"Its clients: cp {client} ~/servicex.yaml, or config_path={str(client)!r}")
        services.serve(application, options.port, "127.0.0.1")
