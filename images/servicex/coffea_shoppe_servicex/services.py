"""The services of a facility's delivery: API, S3 front, controller, migrations."""

import argparse
import logging
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import uvicorn
from coffea_shoppe_identity import Published, RefusedError, Verifier
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError
from starlette.applications import Starlette

from coffea_shoppe_servicex import access, api, database, objects, s3
from coffea_shoppe_servicex.controller import Controller
from coffea_shoppe_servicex.delivery import Delivery
from coffea_shoppe_servicex.settings import Auth, Settings

LOG = logging.getLogger(__name__)
SETTINGS = Path("/etc/coffea-shoppe/servicex.yaml")
DATABASE_S = 240


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
    return api.application(requests, users, access.Transformers(requests))


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


def serve(application: Starlette, port: int, host: str = "0.0.0.0") -> None:  # noqa: S104
    """Answer requests until the process ends."""
    # Who asked for what is logged above; the access log would be polling.
    uvicorn.run(application, host=host, port=port, proxy_headers=False, access_log=False)


def _control(settings: Settings) -> None:
    requests, tokens = delivery(settings), verifier(settings.auth)
    cluster = None
    if settings.pool.deployment or settings.own.namespace:
        from coffea_shoppe_servicex.kubernetes_pods import Kubernetes

        cluster = Kubernetes(settings.pool, settings.own)

    def revoked() -> Mapping[str, float]:
        return tokens.revoked if tokens else {}

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    issue = access.Transformers(requests).issue
    Controller(requests, cluster=cluster, issue=issue, revoked=revoked).run(stop)


def main(command: str, arguments: list[str]) -> None:
    """Run one of the services until the pod ends."""
    parser = argparse.ArgumentParser(prog=f"coffea-shoppe-servicex {command}")
    parser.add_argument("--settings", type=Path, default=SETTINGS)
    parser.add_argument("--port", type=int, default=5000)
    options = parser.parse_args(arguments)
    settings = Settings.load(options.settings)
    requests = delivery(settings)
    if command == "migrate":
        await_database(requests.engine)
        database.migrate(requests.engine)
    elif command == "api":
        serve(rest(settings, requests, verifier(settings.auth)), options.port)
    elif command == "s3":
        serve(front(requests, verifier(settings.auth)), options.port)
    else:
        _control(settings)
