"""The long-running commands of a facility: API, S3 gateway and controller; and migrations."""

import argparse
import logging
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import uvicorn
from coffea_shoppe_contract import listening
from coffea_shoppe_identity import Published, RefusedError, Verifier
from coffea_shoppe_identity.connections import UVICORN
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError
from starlette.applications import Starlette

from coffea_shoppe_servicex import api, database, isolation, objects, s3
from coffea_shoppe_servicex.access import TransformerAuthenticator, UserAuthenticator
from coffea_shoppe_servicex.backend import Backend
from coffea_shoppe_servicex.context import Context
from coffea_shoppe_servicex.controller import Controller
from coffea_shoppe_servicex.settings import Auth, Settings

LOG = logging.getLogger(__name__)
SETTINGS_FILE = Path("/etc/coffea-shoppe/servicex.yaml")
DATABASE_TIMEOUT_S = 240


def start_verifier(auth: Auth) -> Verifier | None:
    """Return a verifier of the facility's tokens; None if authentication is disabled."""
    if not auth.enabled:
        return None
    verifier = Verifier(Published(auth.api), issuer=auth.issuer, audience="servicex")
    verifier.start()
    return verifier


def create_backend(settings: Settings) -> Backend:
    """Return a backend with the settings' database and result store."""
    engine = database.connect(settings.database)
    store = objects.store(settings.objects, settings.s3_gateway)
    return Backend(Context(settings, engine, store))


def rest_api(backend: Backend, verifier: Verifier | None) -> Starlette:
    """Return the REST API as an ASGI application."""
    users = UserAuthenticator(backend.context.settings.auth, verifier)
    return api.application(backend, users, TransformerAuthenticator(backend))


def s3_gateway(backend: Backend, verifier: Verifier | None) -> Starlette:
    """Return the S3 gateway as an ASGI application."""

    def revocation(uid: str, key_created: float) -> str:
        try:
            revoked_at = verifier.revoked.get(uid, -1.0) if verifier else -1.0
        except RefusedError as error:
            return str(error)
        return "the user's access was revoked" if key_created <= revoked_at else ""

    return s3.application(s3.Gateway(backend, revocation))


def wait_for_database(engine: Engine) -> None:
    """Wait until the database responds; exit after a timeout."""
    deadline = time.monotonic() + DATABASE_TIMEOUT_S
    while True:
        try:
            engine.connect().close()
            return
        except OperationalError as error:
            if time.monotonic() > deadline:
                sys.exit(
                    f"the database did not respond within {DATABASE_TIMEOUT_S} s: {error.orig}"
                )
            LOG.info("the database does not respond yet: %s", error.orig)
            time.sleep(2)


def serve(application: Starlette, port: int, host: str = listening.ASYNCIO) -> None:
    """Serve an application until the process ends."""
    uvicorn.run(application, host=host, port=port, **UVICORN)


def _run_controller(backend: Backend, verifier: Verifier | None) -> None:
    settings = backend.context.settings
    cluster = None
    if settings.shared_pool.deployment or settings.dedicated_pods.namespace:
        from coffea_shoppe_servicex.kubernetes_pods import Kubernetes

        cluster = Kubernetes(settings.shared_pool, settings.dedicated_pods)

    def revoked() -> Mapping[str, float]:
        return verifier.revoked if verifier else {}

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    issue = TransformerAuthenticator(backend).issue
    Controller(backend, cluster=cluster, issue=issue, revoked=revoked).run(stop)


def main(command: str, arguments: list[str]) -> None:
    """Run the command `migrate`, `api`, `s3` or `controller`."""
    parser = argparse.ArgumentParser(prog=f"coffea-shoppe-servicex {command}")
    parser.add_argument("--settings", type=Path, default=SETTINGS_FILE, help="settings (YAML)")
    parser.add_argument("--port", type=int, default=5000, help="port to listen on")
    options = parser.parse_args(arguments)
    settings = Settings.load(options.settings)
    backend = create_backend(settings)
    if command in ("api", "controller"):
        isolation.configure(require_landlock=settings.require_landlock)
    if command == "migrate":
        wait_for_database(backend.context.engine)
        database.migrate(backend.context.engine)
    elif command == "api":
        serve(rest_api(backend, start_verifier(settings.auth)), options.port)
    elif command == "s3":
        serve(s3_gateway(backend, start_verifier(settings.auth)), options.port)
    else:
        _run_controller(backend, start_verifier(settings.auth))
