"""Whose dedicated pods end while other users wait."""

import pytest
from coffea_shoppe_servicex.turns import TURN_S, Ends, Turn, ends

OLD, YOUNG = TURN_S + 1.0, TURN_S - 1.0


def turns(*pods: str, age_s: float = YOUNG) -> list[Turn]:
    """Return pods by `OWNER-NUMBER`, each a second younger than the one before."""
    return [Turn(pod, pod[0], age_s - number) for number, pod in enumerate(pods)]


@pytest.mark.parametrize(
    ("pods", "open_files", "free", "expected"),
    [
        # A user who is alone may have all.
        (["a-1", "a-2", "a-3", "a-4"], {"a": 9}, 0, []),
        # Another one gets a share of two, of the youngest.
        (["a-1", "a-2", "a-3", "a-4"], {"a": 9, "b": 9}, 0, ["a-4", "a-3"]),
        (["a-1", "a-2", "a-3", "a-4"], {"a": 9, "b": 1}, 0, ["a-4"]),
        (["a-1", "a-2", "a-3", "b-1"], {"a": 9, "b": 9}, 0, ["a-3"]),
        # There is room, or a pod ends already.
        (["a-1", "a-2", "a-3"], {"a": 9, "b": 1}, 1, []),
        (["a-1", "a-2", "a-3"], {"a": 9, "b": 9}, 1, ["a-3"]),
        # Nobody wants more than the share.
        (["a-1", "a-2", "b-1", "b-2"], {"a": 9, "b": 9}, 0, []),
        (["a-1", "a-2", "a-3", "b-1"], {"a": 9, "b": 1}, 0, []),
        # Three users: one each, and the fourth pod remains with whoever has it.
        (["a-1", "a-2", "a-3", "a-4"], {"a": 9, "b": 9, "c": 9}, 0, ["a-4", "a-3"]),
    ],
)
def test_pods_beyond_a_share_end_while_another_user_waits(
    pods: list[str], open_files: dict[str, int], free: int, expected: list[str]
) -> None:
    assert ends(turns(*pods), open_files, free=free, limit=4) == Ends(expected, [])


def test_with_more_users_than_pods_the_oldest_end_after_their_file() -> None:
    open_files = {"a": 9, "b": 9, "c": 9}
    assert ends(turns("a-1", "b-1", age_s=OLD + 9), open_files, free=0, limit=2) == Ends(
        [], ["a-1"]
    )
    assert ends(turns("a-1", "b-1"), open_files, free=0, limit=2) == Ends([], []), (
        "not before a turn"
    )
    one_ends = ends(turns("b-1", age_s=OLD + 9), {"b": 9, "c": 9, "d": 9}, free=1, limit=2)
    assert one_ends == Ends([], ["b-1"]), "two wait, and one pod ends already"
    assert ends(turns("a-1", "b-1", age_s=OLD), {"a": 1, "b": 1}, free=0, limit=2) == Ends([], [])
