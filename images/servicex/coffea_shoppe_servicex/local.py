"""The whole service on one machine, for a single user: a laptop, or a test."""

import argparse
import contextlib
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import yaml
from coffea_shoppe_contract.files import SERVICEX_FILE
from starlette.applications import Starlette

from coffea_shoppe_servicex import database, isolation, servers
from coffea_shoppe_servicex.controller import Controller
from coffea_shoppe_servicex.settings import Auth, Objects, S3Gateway, Settings

FOLDER = Path.home() / ".local" / "share" / "coffea-shoppe-servicex"


@contextlib.contextmanager
def local(
    folder: Path,
    *,
    port: int,
    transformers: int = 2,
    host: str = "127.0.0.1",
    cache: str = "",
    codegens: Path | None = None,
) -> Iterator[tuple[Starlette, Path]]:
    """Yield the service as one ASGI application, and the path of the client's configuration.

    All state is in `folder`.  Transformers are child processes; they end with the context.
    `cache` is root://HOST:PORT of a cache, or ''.  `codegens` is a folder of further
    code generators.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    pool_key = folder / "pool-key"
    if not pool_key.exists():
        pool_key.touch(0o600)
        pool_key.write_text(secrets.token_urlsafe(32))
    url = f"http://{host}:{port}"
    settings = Settings(
        database=f"sqlite:///{folder / 'requests.db'}",
        auth=Auth(enabled=False),
        objects=Objects(folder=folder / "results"),
        s3_gateway=S3Gateway(endpoint=f"{host}:{port}"),
        pages=f"{url}/transformation-request",
        local_files=True,
        cache_prefix=cache,
        pool_key=pool_key,
        codegens_folder=codegens,
    )
    # A laptop has a single user, whose files these are; it may be without Linux.
    isolation.configure(require_landlock=False)
    backend = servers.create_backend(settings)
    database.migrate(backend.context.engine)
    client_file = folder / SERVICEX_FILE
    endpoint = {"name": "local", "endpoint": url}
    client_settings = {"api_endpoints": [endpoint], "cache_path": str(folder / "client")}
    client_file.write_text(yaml.safe_dump(client_settings, sort_keys=False))
    gateway = servers.s3_gateway(backend, None)
    application = Starlette(
        routes=[*servers.rest_api(backend, None).routes, *gateway.routes],
        lifespan=gateway.router.lifespan_context,
    )
    stop = threading.Event()
    controller = threading.Thread(target=Controller(backend).run, args=(stop,), daemon=True)
    controller.start()
    program = [sys.executable, "-m", "coffea_shoppe_servicex.main", "transformer"]
    memory = settings.limits.memory_max_mib
    # No dedicated pods here: each transformer takes all files, users' functions included.
    options = [f"--api={url}", f"--key={pool_key}", f"--memory={memory}", "--everything"]
    options += [f"--codegens={codegens}"] if codegens else []
    processes = [subprocess.Popen([*program, *options]) for _ in range(transformers)]
    try:
        yield application, client_file
    finally:
        stop.set()
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
        controller.join(10)
        backend.context.engine.dispose()


def main(arguments: list[str]) -> None:
    """Run the service until it is stopped."""
    parser = argparse.ArgumentParser(
        prog="coffea-shoppe-servicex local",
        description="The whole service on this machine, for all its users without a login.",
    )
    parser.add_argument("--port", type=int, default=5000, help="port of API and S3 gateway")
    number = max((os.cpu_count() or 2) // 2, 1)
    parser.add_argument(
        "--transformers", type=int, default=number, help=f"number of transformers; default {number}"
    )
    parser.add_argument("--folder", type=Path, default=FOLDER, help=f"state; default {FOLDER}")
    parser.add_argument("--cache", default="", help="root://HOST:PORT of a forwarding cache")
    parser.add_argument(
        "--codegens", type=Path, metavar="FOLDER", help="folder of further code generators, NAME.py"
    )
    options = parser.parse_args(arguments)
    # Python's default ends the process at once, and leaves its transformers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    service = local(
        options.folder,
        port=options.port,
        transformers=options.transformers,
        cache=options.cache,
        codegens=options.codegens,
    )
    with service as (application, client_file):
        print(f"ServiceX at http://127.0.0.1:{options.port}; pages at /transformation-request")
        print(f"For clients: cp {client_file} ~/servicex.yaml, or config_path={str(client_file)!r}")
        servers.serve(application, options.port, "127.0.0.1")
