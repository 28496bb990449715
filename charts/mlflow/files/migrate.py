"""Brings MLflow's database up to date; runs before each server starts.

Two pods that start at once take turns: the lock is PostgreSQL's, and ends with the
connection.  A database that cannot be reached yet is waited for.
"""

import os
import subprocess
import sys
import time

from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

LOCK = 7215311  # any number that no other service locks
PATIENCE_S = 240


def main() -> None:
    """Wait for the database, and run the migrations of tracking and of authorization."""
    uri = os.environ["MLFLOW_BACKEND_STORE_URI"]
    engine = create_engine(uri, connect_args={"connect_timeout": 10} if "psycopg2" in uri else {})
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            connection = engine.connect()
            break
        except OperationalError as error:
            if time.monotonic() > end:
                sys.exit(f"the database did not answer within {PATIENCE_S} s: {error.orig}")
            print(f"the database does not answer yet: {error.orig}", flush=True)
            time.sleep(3)
    with connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": LOCK})
        # In this order: the first asks whether the database is empty.
        subprocess.run([sys.executable, "-m", "mlflow", "db", "upgrade", uri], check=True)
        if os.environ.get("MLFLOW_AUTH_CONFIG_PATH"):
            auth = [sys.executable, "-m", "mlflow.server.auth", "db", "upgrade", "--url", uri]
            subprocess.run(auth, check=True)


if __name__ == "__main__":
    main()
