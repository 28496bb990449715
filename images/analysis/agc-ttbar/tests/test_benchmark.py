"""The benchmark measures what it says; how fast that is, a test does not judge."""

from pathlib import Path

import pytest
from agc import benchmark
from agc.samples import InputError, sample
from agc.synth import write

EVENTS = 8_000


def test_a_file_is_measured_with_and_without_models(tmp_path: Path) -> None:
    path = tmp_path / "ttbar.root"
    write(path, sample("ttbar"), events=EVENTS)
    found = benchmark.measure(str(path), None, repeats=1)
    assert found["events"] == EVENTS
    assert set(found) == {"events", "nodes", "read", "run", "read_ml", "run_ml"}
    assert min(found["read"], found["run"], found["read_ml"], found["run_ml"]) > 0
    assert min(found["nodes"]) > 100
    with pytest.raises(InputError, match="agc train"):
        benchmark.measure(str(path), tmp_path, repeats=1)
