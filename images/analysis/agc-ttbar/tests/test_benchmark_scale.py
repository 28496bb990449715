"""What the benchmark of scale makes of costs, and that it finds all of them."""

from pathlib import Path

import pytest
from agc import benchmark_scale as scale
from agc.synth import write_all


def test_costs_that_grow_linearly_are_told_from_those_that_do_not() -> None:
    sizes = [1.0, 4.0, 16.0]
    linear = scale.fitted(sizes, [0.5 + 2 * size for size in sizes])
    assert linear["start"] == pytest.approx(0.5)
    assert linear["slope"] == pytest.approx(2)
    assert linear["missed"] < 1e-9
    assert linear["exponent"] == pytest.approx(1)
    square = scale.fitted(sizes, [size**2 for size in sizes])
    assert square["missed"] > 0.5
    assert square["exponent"] == pytest.approx(2)


def test_the_parts_are_the_whole(tmp_path: Path) -> None:
    list(write_all(tmp_path, events=5000, seed=1))
    files = scale.copies(tmp_path / "ttbar__nominal.root", tmp_path, 3)
    assert len({file.path for file in files}) == 3
    shares = scale.parts(files)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares.keys() == {"read", "decompress", "fill", "merge", "compute", "other"}
    assert all(0 < share < 1 for share in shares.values()), shares


def test_what_a_goal_needs() -> None:
    told = scale.needed(100_000, 500, goal=200)
    assert told["core"] == pytest.approx(0.4)
    assert told["cores"] == pytest.approx(500)
    assert told["caches"] == 8
