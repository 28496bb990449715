"""The command `coffea-shoppe-servicex`: a service in a pod each, or all of it on a laptop."""

import argparse
import contextlib
import logging
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import uvicorn
import yaml
from coffea_shoppe_contract import identity
from coffea_shoppe_identity import Published, RefusedError, Verifier
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError
from starlette.applications import Starlette

from coffea_shoppe_servicex import access, api, database, objects, s3, worker
from coffea_shoppe_servicex.controller import Controller
from coffea_shoppe_servicex.delivery import Delivery
from coffea_shoppe_servicex.settings import Auth, Front, Objects, Settings

LOG = logging.getLogger(__name__)
SETTINGS = Path("/etc/coffea-shoppe/servicex.yaml")
DATABASE_S = 240
LOCAL = Path.home() / ".local" / "share" / "coffea-shoppe-servicex"


def verifier(auth: Auth) -> Verifier | None:
    """Return who verifies tokens; None where login is switched off."""
    if not auth.enabled:
        return None
    found = Verifier(Published(auth.api), issuer=auth.issuer, audience="servicex")
    found.start()
    return found


def delivery(settings: Settings) -> Delivery:
    """Return the requests of the settings' database."""
    engine = database.connect(settings.database)
    return Delivery(settings, engine, objects.store(settings.objects, settings.front))


def rest(settings: Settings, requests: Delivery, tokens: Verifier | None) -> Starlette:
    """Return the API."""
    users = access.Users(settings.auth, tokens)
    return api.application(requests, users, access.Transformers(requests, settings.pool_key))


def front(requests: Delivery, tokens: Verifier | None) -> Starlette:
    """Return the S3 front."""

    def revoked(uid: str, since: float) -> str:
        try:
            void = tokens.revoked.get(uid, -1.0) if tokens else -1.0
        except RefusedError as error:
            return str(error)
        return "the user's access was revoked" if since <= void else ""

    return s3.application(s3.Front(requests, revoked))


def await_database(engine: Engine) -> None:
    """Wait, bounded, for the database."""
    end = time.monotonic() + DATABASE_S
    while True:
        try:
            engine.connect().close()
            return
        except OperationalError as error:
            if time.monotonic() > end:
                sys.exit(f"the database did not answer within {DATABASE_S} s: {error.orig}")
            LOG.info("the database does not answer yet: %s", error.orig)
            time.sleep(2)


def _serve(application: Starlette, port: int, host: str = "0.0.0.0") -> None:  # noqa: S104
    # Who asked for what is logged above; the access log would be polling.
    uvicorn.run(application, host=host, port=port, proxy_headers=False, access_log=False)


def _control(settings: Settings) -> None:
    requests, tokens = delivery(settings), verifier(settings.auth)
    cluster = None
    if settings.pool.deployment or settings.python.namespace:
        from coffea_shoppe_servicex.kubernetes_pods import Kubernetes

        cluster = Kubernetes(settings.pool, settings.python)

    def revoked() -> Mapping[str, float]:
        return tokens.revoked if tokens else {}

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    Controller(requests, cluster=cluster, revoked=revoked).run(stop)


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
    settings = Settings(
        database=f"sqlite:///{folder / 'requests.db'}",
        auth=Auth(enabled=False),
        objects=Objects(folder=folder / "results"),
        front=Front(endpoint=f"{host}:{port}"),
        url=f"http://{host}:{port}",
        pages=f"http://{host}:{port}/transformation-request",
        cache_prefix=cache,
        pool_key=key,
    )
    requests = delivery(settings)
    database.migrate(requests.engine)
    # There are no pods: every transformer takes everything.
    client = folder / identity.SERVICEX_FILE
    endpoint = {"name": "local", "endpoint": settings.url}
    told = {"api_endpoints": [endpoint], "cache_path": str(folder / "client")}
    client.write_text(yaml.safe_dump(told, sort_keys=False))
    results = front(requests, None)
    whole = Starlette(
        routes=[*rest(settings, requests, None).routes, *results.routes],
        lifespan=results.router.lifespan_context,
    )
    stop = threading.Event()
    control = threading.Thread(target=Controller(requests).run, args=(stop,), daemon=True)
    control.start()
    program = [sys.executable, "-m", "coffea_shoppe_servicex.main", "worker"]
    memory = settings.limits.memory_max_mi_b
    options = [f"--api={settings.url}", f"--key={key}", f"--memory={memory}", "--everything"]
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


def _local(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="coffea-shoppe-servicex local",
        description="The whole service on this machine, for whoever reaches it from here.",
    )
    parser.add_argument("--port", type=int, default=5000)
    parser.add_argument("--workers", type=int, default=max((os.cpu_count() or 2) // 2, 1))
    parser.add_argument("--folder", type=Path, default=LOCAL, help=f"state; default {LOCAL}")
    parser.add_argument("--cache", default="", help="root://HOST:PORT of a forwarding cache")
    options = parser.parse_args(arguments)
    started = local(
        options.folder, port=options.port, workers=options.workers, cache=options.cache
    )
    with started as (application, client):
        print(f"ServiceX at http://127.0.0.1:{options.port}; pages at /transformation-request")
        print(f"Its clients: cp {client} ~/servicex.yaml, or config_path={str(client)!r}")
        _serve(application, options.port, "127.0.0.1")


COMMANDS = {
    "api": "the REST API",
    "s3": "the S3 front",
    "controller": "look-ups, clean-up, and the transformers' pods",
    "migrate": "bring the database up to date",
    "worker": "a transformer",
    "local": "everything, on a laptop",
}


def main() -> None:
    """Run one of the services."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    for name in ("alembic", "botocore"):
        logging.getLogger(name).setLevel(logging.WARNING)
    listed = "\n".join(f"  {name:12s}{what}" for name, what in COMMANDS.items())
    parser = argparse.ArgumentParser(
        description="The facility's delivery service.",
        epilog=f"commands:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND")
    parser.add_argument("--settings", type=Path, default=SETTINGS)
    parser.add_argument("--port", type=int, default=5000)
    command = sys.argv[1:2]
    if command == ["worker"]:
        worker.main(sys.argv[2:])
        return
    if command == ["local"]:
        _local(sys.argv[2:])
        return
    options = parser.parse_args()
    settings = Settings.load(options.settings)
    requests = delivery(settings)
    if options.command == "migrate":
        await_database(requests.engine)
        database.migrate(requests.engine)
    elif options.command == "api":
        _serve(rest(settings, requests, verifier(settings.auth)), options.port)
    elif options.command == "s3":
        _serve(front(requests, verifier(settings.auth)), options.port)
    else:
        _control(settings)


if __name__ == "__main__":
    main()
