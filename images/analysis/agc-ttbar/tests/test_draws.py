"""The random numbers of jets: Philox' published values, and a distribution without a bias."""

import numpy as np
import pytest
from agc.draws import normal, philox
from numpy.typing import NDArray
from scipy import stats

WORD = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([WORD] * 4, [WORD] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_gives_the_values_of_its_authors(
    counter: list[int], key: list[int], expected: list[int]
) -> None:
    # kat_vectors of Random123.
    a, b, c, d, k, m = (np.array([word], dtype=np.uint64) for word in (*counter, *key))
    assert [int(word[0]) for word in philox((a, b, c, d), (k, m))] == expected


def test_draws_are_normal_and_independent_along_each_number() -> None:
    count = 20_000
    zero, ramp = np.zeros(count, dtype=np.uint64), np.arange(count, dtype=np.uint64)
    high = ramp << np.uint64(32)
    for numbers in (
        (ramp, zero, zero, zero),
        (zero, ramp, zero, zero),
        (zero, zero, ramp, zero),
        (zero, zero, high, zero),
        (zero, zero, zero, ramp),
    ):
        drawn: NDArray[np.float64] = normal(*numbers)
        assert stats.kstest(drawn, "norm").pvalue > 1e-3
        assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 0.03


def test_a_draw_depends_on_each_number_and_on_nothing_else() -> None:
    numbers = np.array([[1, 2, 3, 4], [5, 2, 3, 4], [1, 5, 3, 4], [1, 2, 5, 4], [1, 2, 3, 5]])
    drawn = normal(*numbers.T)
    assert len(set(drawn.tolist())) == 5
    again = [float(normal(*row)) for row in numbers[::-1]]
    assert again[::-1] == drawn.tolist()
