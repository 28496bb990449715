"""What Helm accepts of fuzzed values, the real hub and gateway start with."""

import os
import random
import re
from pathlib import Path

import fuzzed_values
import pytest
from effects import START
from hypothesis import HealthCheck, given, seed, settings
from rendering import HelmError, Manifest

COUNTS = {"jupyterhub": 50, "dask-gateway": 50}
"""Chart → how many values of its are drawn in a run."""
SEED = "SHOPPE_SEED"
"""Environment variable: a number for other values than usual, or `random`."""
NAMED = re.compile(
    r"^ *- at '/|invalid values of |additional properties '|"
    r"[a-z-]+\.[a-zA-Z.]+ is .*: set it ",
    re.MULTILINE,
)
"""How Helm refuses values by a key's name, and says what would do."""


def chosen_seed() -> int:
    text = os.environ.get(SEED, "20")
    return random.SystemRandom().randrange(2**32) if text == "random" else int(text)


@pytest.mark.parametrize("chart", sorted(COUNTS))
def test_hub_and_gateway_start_with_what_helm_accepts(chart: str, tmp_path: Path) -> None:
    number = chosen_seed()
    print(f"{SEED}={number}")
    started = []

    @seed(number)
    @settings(
        max_examples=COUNTS[chart],
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(fuzzed_values.values(chart))
    def starts_or_is_refused_by_name(values: Manifest) -> None:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        try:
            START[chart](folder, values)
        except HelmError as refusal:
            assert NAMED.search(str(refusal)), refusal
        else:
            started.append(values)

    starts_or_is_refused_by_name()
    assert len(started) > COUNTS[chart] / 2
