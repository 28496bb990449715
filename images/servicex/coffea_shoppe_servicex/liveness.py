"""Liveness of processes without a server, for their pods' probes."""

import tempfile
from pathlib import Path

FILE = Path(tempfile.gettempdir()) / "alive"
"""The probe fails if this file has not been touched for too long."""


def report() -> None:
    """Report that the process is alive."""
    FILE.touch()
