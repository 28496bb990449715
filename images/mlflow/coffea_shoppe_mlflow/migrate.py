"""Brings MLflow's database up to date; runs before each server starts.

An advisory lock of PostgreSQL, which ends with the connection, makes simultaneous pods take
turns.  The migrations wait for a database that cannot be reached yet.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable

from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import OperationalError

LOCK = 7215311
"""Number of the advisory lock; no other service uses it."""
TIMEOUT_S = 240
INTERVAL_S = 3


def main() -> None:
    """Wait for the database, and run the migrations of tracking and of authorization."""
    uri = os.environ["MLFLOW_BACKEND_STORE_URI"]
    engine = create_engine(uri, connect_args={"connect_timeout": 10} if "psycopg2" in uri else {})
    with connect(engine) as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": LOCK})
        # In this order: the first asks whether the database is empty.
        subprocess.run([sys.executable, "-m", "mlflow", "db", "upgrade", uri], check=True)
        if os.environ.get("MLFLOW_AUTH_CONFIG_PATH"):
            auth = [sys.executable, "-m", "mlflow.server.auth", "db", "upgrade", "--url", uri]
            subprocess.run(auth, check=True)
            pattern = os.environ["MLFLOW_CREATE_MODEL_VERSION_SOURCE_VALIDATION_REGEX"]
            for line in unreadable_versions(connection, re.compile(pattern)):
                print(line)


def connect(
    engine: Engine,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Connection:
    """Wait for a connection and return it; exits if the database does not respond in time."""
    deadline = clock() + TIMEOUT_S
    while True:
        try:
            return engine.connect()
        except OperationalError as error:
            if clock() > deadline:
                sys.exit(f"the database did not respond within {TIMEOUT_S} s: {error.orig}")
            print(f"the database does not respond yet: {error.orig}", flush=True)
            sleep(INTERVAL_S)


def unreadable_versions(connection: Connection, allowed: re.Pattern[str]) -> list[str]:
    """Return a line for each model version whose source is not in MLflow.

    The server does not read the artifacts of those.
    """
    columns = "workspace, name, version, COALESCE(storage_location, source)"
    rows = connection.execute(
        text(f"SELECT {columns} FROM model_versions")  # noqa: S608  (no part is a user's text)
    )
    return [
        f"not read: {workspace}: version {version} of {name}, source {source!r}"
        for workspace, name, version, source in rows
        if not allowed.search(source or "")
    ]
