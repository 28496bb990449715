"""Minima and errors that are known in closed form."""

from typing import Any

import numpy as np
import pytest
from agc import curvature, statistics
from agc.curvature import Minimum, Vector

WIDE = np.array([[-np.inf, np.inf]] * 2)
RATES = np.array([[4_000.0, 3_500.0], [2_500.0, 2_460.0]])
"""Expected counts by bin and process, of two processes with almost the same shape."""
COUNTS = np.array([7_600.0, 4_900.0])


def counting(values: Vector) -> float:
    """Return twice the negative logarithm of the likelihood of `COUNTS`."""
    expected = RATES @ values
    return float(2 * np.sum(expected - COUNTS * np.log(expected)))


def solve(near: Vector, **options: Any) -> Minimum | None:
    options = {"limits": WIDE, "fixed": np.zeros(2, dtype=bool), **options}
    return curvature.minimum(counting, near, np.array([0.3, 0.3]), **options)


def test_minimum_and_errors_of_nearly_equal_processes_are_exact() -> None:
    # As many bins as processes: the minimum reproduces the counts.
    inverse = np.linalg.inv(RATES)
    exact = inverse @ COUNTS
    covariance = inverse @ np.diag(COUNTS) @ inverse.T
    minimum = solve(exact + [0.05, -0.05])
    assert minimum is not None
    np.testing.assert_allclose(minimum.point, exact, atol=2e-3 * np.sqrt(covariance[0, 0]))
    np.testing.assert_allclose(minimum.covariance, covariance, rtol=2e-3)
    assert minimum.correlations[0, 1] < -0.98
    np.testing.assert_allclose(np.diag(minimum.correlations), 1)


def test_a_fixed_parameter_has_no_error() -> None:
    exact = np.linalg.solve(RATES, COUNTS)
    fixed = np.array([False, True])
    minimum = solve(exact + [0.001, 0], fixed=fixed)
    assert minimum is not None
    assert minimum.point[1] == exact[1]
    assert minimum.errors[0] == pytest.approx(np.sum(RATES[:, 0] ** 2 / COUNTS) ** -0.5, rel=1e-3)
    assert minimum.errors[1] == minimum.correlations[1, 1] == 0


@pytest.mark.parametrize("side", [0, 1])
def test_a_parameter_at_its_limit_has_no_parabola(side: int) -> None:
    exact = np.linalg.solve(RATES, COUNTS)
    limits = WIDE.copy()
    limits[0, side] = exact[0]
    assert solve(exact, limits=limits) is None
    limits[0, side] += (-1, 1)[side]
    assert solve(exact, limits=limits) is not None


def test_a_saddle_is_no_minimum() -> None:
    def saddle(values: Vector) -> float:
        return float(values[0] ** 2 + values[1] ** 2 + 4 * values[0] * values[1])

    fixed = np.zeros(2, dtype=bool)
    ones = np.ones(2)
    assert curvature.minimum(saddle, np.zeros(2), ones, limits=WIDE, fixed=fixed) is None


@pytest.mark.parametrize(("inject", "errors"), [(1.0, "curvature"), (0.0, "minuit")])
def test_a_fit_says_where_its_errors_are_from(inject: float, errors: str) -> None:
    background = {
        "name": "background",
        "data": [80.0, 90.0],
        "modifiers": [
            {"name": "rate", "type": "normsys", "data": {"hi": 1.1, "lo": 0.9}},
        ],
    }
    free = {"name": statistics.POI, "type": "normfactor", "data": None}
    signal = {"name": "signal", "data": [60.0, 20.0], "modifiers": [free]}
    bounds = {"name": statistics.POI, "bounds": [list(statistics.POI_BOUNDS)], "inits": [1.0]}
    fitted = statistics.fit(
        {
            "version": "1.0.0",
            "channels": [{"name": "counts", "samples": [signal, background]}],
            "observations": [{"name": "counts", "data": [0.0, 0.0]}],
            "measurements": [
                {"name": "toy", "config": {"poi": statistics.POI, "parameters": [bounds]}}
            ],
        },
        asimov=True,
        inject=inject,
    )
    assert fitted.errors == errors == fitted.as_json()["errors"]
    assert fitted.norm[0] == pytest.approx(inject, abs=5e-3)
    assert fitted.norm[1] > 0
