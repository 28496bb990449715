"""The minimum of a function and its curvature there, more exactly than Minuit has them.

Minuit stops at a distance where the function is 1e-4 above its minimum, and computes mixed
second derivatives from one side.  Where parameters nearly compensate one another, both change
the error of their combination by as much as 30 %.  Here all differences are central, and
Newton's steps follow until the minimum is reached.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Bools = NDArray[np.bool_]

STEP = 0.03
"""Of a parameter's error with all others fixed: near enough for a parabola, and 1e-3 of what the
function changes by, which is far above its rounding errors."""
DISTANCE = 1e-6
"""Largest estimated distance (in the function) from the minimum."""
NEWTON_STEPS = 4


@dataclass(frozen=True)
class Minimum:
    """The minimum of twice a negative logarithm of a likelihood."""

    point: Vector
    value: float
    covariance: Vector
    """Inverse of half the matrix of second derivatives; zero for fixed parameters."""

    @property
    def errors(self) -> Vector:
        """Return the standard deviations of the parameters."""
        errors: Vector = np.sqrt(np.diag(self.covariance))
        return errors

    @property
    def correlations(self) -> Vector:
        """Return the matrix of correlations; zero for fixed parameters."""
        scale = np.where(self.errors > 0, self.errors, 1.0)
        correlations: Vector = self.covariance / np.outer(scale, scale)
        return correlations


def derivatives(
    function: Callable[[Vector], float], point: Vector, steps: Vector
) -> tuple[float, Vector, Vector]:
    """Return value, gradient and second derivatives, from central differences.

    Calls the function n (n + 1) + 1 times for n parameters.
    """
    count = len(point)
    shifts = np.diag(steps)
    value = function(point)
    up = np.array([function(point + shift) for shift in shifts])
    down = np.array([function(point - shift) for shift in shifts])
    second = np.diag(up + down - 2 * value)
    for row in range(count):
        for column in range(row):
            both = shifts[row] + shifts[column]
            single = up[row] + up[column] + down[row] + down[column]
            mixed = function(point + both) + function(point - both) - single + 2 * value
            second[row, column] = second[column, row] = mixed / 2
    return value, (up - down) / (2 * steps), second / np.outer(steps, steps)


def minimum(
    function: Callable[[Vector], float],
    near: Vector,
    errors: Vector,
    *,
    limits: Vector,
    fixed: Bools,
) -> Minimum | None:
    """Return the minimum of a function near a point that a minimizer has found.

    `errors` are rough standard deviations, `limits` has a row (lower, upper) for each
    parameter.  None where there is no parabola: a parameter is at its limit, or the second
    derivatives are not those of a minimum.
    """
    free = ~fixed
    point = near.copy()

    def of_free(values: Vector) -> float:
        full = point.copy()
        full[free] = values
        return function(full)

    values = near[free]
    low, high = limits[free].T
    steps = _steps(of_free, values, errors[free], low, high)
    for _ in range(NEWTON_STEPS):
        if steps is None or np.any((values - steps < low) | (values + steps > high)):
            return None
        value, gradient, second = derivatives(of_free, values, steps)
        # Scaled to a diagonal of one, the matrix is inverted without loss of precision.
        scale = 1 / np.sqrt(np.maximum(np.diag(second), np.finfo(float).tiny))
        try:
            np.linalg.cholesky(second * np.outer(scale, scale))
        except np.linalg.LinAlgError:
            return None
        inverse = np.linalg.inv(second * np.outer(scale, scale)) * np.outer(scale, scale)
        shift = inverse @ gradient
        if gradient @ shift / 2 < DISTANCE:
            covariance = np.zeros((len(near), len(near)))
            covariance[np.ix_(free, free)] = 2 * inverse
            point[free] = values
            return Minimum(point, value, covariance)
        values = values - shift
    return None


def _steps(
    function: Callable[[Vector], float], values: Vector, errors: Vector, low: Vector, high: Vector
) -> Vector | None:
    """Return `STEP` of each parameter's error with the others fixed; None at a limit."""
    shifts = errors / 100
    if np.any((values - shifts < low) | (values + shifts > high)):
        return None
    centre = function(values)
    rises = [
        function(values + shift) + function(values - shift) - 2 * centre
        for shift in np.diag(shifts)
    ]
    if min(rises) <= 0:
        return None
    conditional: Vector = np.minimum(shifts * np.sqrt(2 / np.array(rises)), errors)
    return STEP * conditional
