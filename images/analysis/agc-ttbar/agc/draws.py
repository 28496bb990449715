"""Random numbers that are a function of what they are drawn for.

They come from the counter-based generator Philox4x32 with ten rounds (Salmon et al., "Parallel
random numbers: as easy as 1, 2, 3", SC'11, doi:10.1145/2063384.2063405).  There is no state and no
seed: a jet's number depends on neither chunks nor other jets, nor on any property of the jet.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

Words = NDArray[np.uint64]

ROUNDS = 10
MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
KEY_STEPS = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
LOW, HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


def philox(counter: tuple[Words, Words, Words, Words], key: tuple[Words, Words]) -> list[Words]:
    """Return four words of 32 random bits for each counter.

    `counter` has four words of 32 bits and `key` two, as arrays of one shape.
    """
    x0, x1, x2, x3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        first, second = MULTIPLIERS[0] * x0, MULTIPLIERS[1] * x2
        x0, x1, x2, x3 = (
            second >> HALF ^ x1 ^ k0,
            second & LOW,
            first >> HALF ^ x3 ^ k1,
            first & LOW,
        )
        k0, k1 = k0 + KEY_STEPS[0] & LOW, k1 + KEY_STEPS[1] & LOW
    return [x0, x1, x2, x3]


def normal(
    run: ArrayLike, block: ArrayLike, event: ArrayLike, jet: ArrayLike
) -> NDArray[np.float64]:
    """Return a number from N(0, 1) for each jet.

    Arrays of one shape: the event's run, luminosity block and number, and the jet's position
    in its event.
    """
    runs, blocks, events, jets = (
        np.asarray(integers).astype(np.uint64) for integers in (run, block, event, jet)
    )
    counter = (events & LOW, events >> HALF, blocks & LOW, jets & LOW)
    high, low, _, _ = philox(counter, (runs & LOW, np.zeros_like(runs)))
    # 52 bits: with the half that keeps it off zero and one they fit a double exactly.
    bits = high << np.uint64(20) | low >> np.uint64(12)
    return np.asarray(ndtri((bits.astype(np.float64) + 0.5) * 2.0**-52))
