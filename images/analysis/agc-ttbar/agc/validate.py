"""Comparison with reference histograms: by the AGC's own rule, or bin for bin."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from agc.histograms import Histograms, as_json, with_pseudodata
from agc.samples import InputError

UNSTABLE = "pt_res_up"
"""The reference smears these at random, so no two of its runs agree."""

ROUNDING = 1e-10
"""Relative difference of bins that are the same sum in another order."""

MIGRATION = 2.0
"""Largest difference in a bin that may be an event moved to its neighbour."""


def read_reference(path: Path) -> dict[str, Any]:
    """Read reference histograms: NAME → {"edges", "contents"}, contents with flow.

    Raises `InputError` where the file is not of that form.
    """
    try:
        content = json.loads(path.read_text())
        for entry in content.values():
            if len(entry["contents"]) != len(entry["edges"]) + 1:
                raise InputError(f"{path}: contents must include the flow bins")
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as reference histograms: {error}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: cannot be read as reference histograms: it must be "
            'NAME → {"edges": […], "contents": […]}'
        ) from error
    return dict(content)


def _groups(differs: NDArray[np.bool_]) -> Iterator[slice]:
    """Yield the runs of neighbouring bins that differ."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], differs.astype(int), [0]])))
    for start, stop in edges.reshape(-1, 2):
        yield slice(int(start), int(stop))


def agrees(contents: ArrayLike, reference: ArrayLike) -> bool:
    """Return whether two sets of bin contents agree.

    They agree where all bins are close.  Events at the edge of a bin may fall to either side,
    so neighbouring bins may also differ by at most 2 each, if the sums over them agree.
    """
    left, right = np.asarray(contents, dtype=float), np.asarray(reference, dtype=float)
    if left.shape != right.shape:
        return False
    for group in _groups(~np.isclose(left, right)):
        if np.any(np.abs(left[group] - right[group]) > MIGRATION):
            return False
        if not np.isclose(left[group].sum(), right[group].sum()):
            return False
    return True


def differences(histograms: Histograms, reference: dict[str, Any]) -> list[str]:
    """Return a sentence for each histogram that differs from the reference.

    Smeared histograms are skipped, and pseudodata without a reference.
    """
    measured = as_json(with_pseudodata(histograms))
    problems = []
    for key in sorted(set(measured) | set(reference)):
        if UNSTABLE in key or (
            key.endswith("pseudodata") and not {key} <= set(measured) & set(reference)
        ):
            continue
        if key not in reference:
            problems.append(f"{key}: not in the reference")
        elif key not in measured:
            problems.append(f"{key}: missing")
        elif not np.allclose(measured[key]["edges"], reference[key]["edges"]):
            problems.append(f"{key}: other bin edges")
        elif not agrees(measured[key]["contents"], reference[key]["contents"]):
            left, right = (np.asarray(source[key]["contents"]) for source in (measured, reference))
            worst = int(np.argmax(np.abs(left - right)))
            problems.append(
                f"{key}: sums {left.sum():.2f} and {right.sum():.2f}; "
                f"bin {worst} (0 is underflow) {left[worst]:.3f} and {right[worst]:.3f}"
            )
    return problems


def different_bins(histograms: Histograms, reference: Histograms) -> list[str]:
    """Return a sentence for each histogram of which a bin differs, in its value or its variance.

    The values may differ by the rounding of the last digits, `ROUNDING`.
    """
    problems = []
    for key in sorted(set(histograms) | set(reference)):
        if key not in histograms or key not in reference:
            problems.append(f"{key}: {'missing' if key in reference else 'not in the reference'}")
            continue
        measured, expected = histograms[key], reference[key]
        if measured.axes != expected.axes:
            problems.append(f"{key}: other bin edges")
            continue
        for what in ("values", "variances"):
            left, right = (getattr(h, what)(flow=True) for h in (measured, expected))
            differs = ~np.isclose(left, right, rtol=ROUNDING, atol=0)
            if np.any(differs):
                first = int(np.flatnonzero(differs)[0])
                problems.append(
                    f"{key}: {what} of {differs.sum()} bins differ; "
                    f"bin {first} (0 is underflow) {left[first]!r} and {right[first]!r}"
                )
    return problems
