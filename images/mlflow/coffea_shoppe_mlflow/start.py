"""Command that starts MLflow's server at all addresses of the pod; takes what `mlflow server` does.

uvicorn opens the socket itself for several processes, and has asyncio open it for one.
"""

import argparse
import os
import sys

from coffea_shoppe_contract import listening


def main() -> None:
    """Become `mlflow server`."""
    parser = argparse.ArgumentParser(description=__doc__, add_help=False)
    parser.add_argument("--workers", type=int, default=4)
    workers = parser.parse_known_args()[0].workers
    host = listening.every_address() if workers > 1 else listening.ASYNCIO
    os.execvp("mlflow", ["mlflow", "server", f"--host={host}", *sys.argv[1:]])  # noqa: S606


if __name__ == "__main__":
    main()
