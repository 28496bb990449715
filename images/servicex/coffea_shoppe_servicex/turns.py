"""Whose dedicated pods end so that another user gets one: each user has an equal share."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

TURN_S = 120
"""A pod beyond its user's share ends within this time; no other pod ends before it."""


@dataclass(frozen=True)
class Turn:
    """A pod that has not been told to end."""

    pod: str
    owner: str
    age_s: float


@dataclass(frozen=True)
class Ends:
    """The names of pods that end for another user's sake."""

    soon: list[str]
    """Within `TURN_S`, whatever they do: they are beyond their users' shares."""
    after_file: list[str]
    """After the file that they process: there are more users than pods."""


def ends(turns: Sequence[Turn], open_files: Mapping[str, int], *, free: int, limit: int) -> Ends:
    """Return which pods end.

    `open_files` has the number of open files of each user; `free` pods may be created already or
    once others have ended, of the `limit` of all users.  A user gets at most the share while
    another has less than that and than its files.
    """
    share = max(limit // max(len(open_files), 1), 1)
    pods = Counter(turn.owner for turn in turns)
    missing = (
        sum(max(min(share, files) - pods[user], 0) for user, files in open_files.items()) - free
    )
    soon = []
    # The youngest first: they have done the least.
    for turn in sorted(turns, key=lambda turn: turn.age_s):
        if missing > 0 and pods[turn.owner] > share:
            soon.append(turn.pod)
            pods[turn.owner] -= 1
            missing -= 1
    old = sorted((turn for turn in turns if turn.age_s > TURN_S), key=lambda turn: -turn.age_s)
    waiting = max(missing, 0) if len(open_files) > limit else 0
    return Ends(soon, [turn.pod for turn in old if turn.pod not in soon][:waiting])
