"""Compiled loops that are kept from one process to the next."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import agc

PROGRAM = """
from agc import candidates
mass = candidates.invariant_mass(0.0, 0.0, 0.0, 2.0)
print(mass, sum(candidates.invariant_mass.stats.cache_hits.values()))
"""


def hits(folder: Path) -> int:
    """Return how often a process takes a compiled loop of a copy of the package."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(folder),
        "NUMBA_CACHE_DIR": str(folder / "compiled"),
    }
    words = [sys.executable, "-c", PROGRAM]
    output = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    mass, number = output.stdout.split()
    assert float(mass) == 2.0
    return int(number)


def test_a_loop_is_compiled_again_when_any_module_has_changed(tmp_path: Path) -> None:
    shutil.copytree(Path(agc.__file__).parent, tmp_path / "agc")
    assert hits(tmp_path) == 0
    other = tmp_path / "agc" / "assignment.py"
    other.write_text(other.read_text() + "\nANOTHER_CUT = 1\n")
    assert [hits(tmp_path), hits(tmp_path)] == [0, 1]
