import pytest
from agc.validate import agrees


@pytest.mark.parametrize(
    ("ours", "theirs", "same"),
    [
        ([1, 2, 3], [1, 2, 3], True),
        ([1, 2, 3], [1, 2 + 1e-9, 3], True),
        ([1, 2, 3], [1, 3, 2], True),  # an event at the edge of two bins
        ([1, 2, 3], [1, 3, 3], False),  # an event too many
        ([10, 2, 3], [7, 5, 3], False),  # too much moved
        ([1, 2, 3, 4], [2, 1, 3, 5], False),  # one of two groups does not add up
        ([1, 2], [1, 2, 0], False),
    ],
)
def test_the_rule(ours: list[float], theirs: list[float], same: bool) -> None:
    assert agrees(ours, theirs) is same
