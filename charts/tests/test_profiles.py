"""Which profiles a user's groups are offered, which the hub mounts as a file."""

from types import SimpleNamespace
from typing import Any

import pytest
from rendering import load_file

profiles = load_file("jupyterhub", "profiles")

SMALL = {"display_name": "Small", "default": True}
LARGE = {"display_name": "Large", "allowed_groups": ["atlas", "cms"]}
CHOICE: dict[str, Any] = {
    "display_name": "Memory",
    "profile_options": {
        "memory": {
            "display_name": "Memory",
            "choices": {
                "2": {"display_name": "2 GiB", "default": True},
                "64": {"display_name": "64 GiB", "allowed_groups": ["cms"]},
            },
        },
        "gpu": {"display_name": "GPU", "choices": {"1": {"allowed_groups": ["cms"]}}},
        "image": {"display_name": "Image", "unlisted_choice": {"enabled": True}},
    },
}


def names(groups: set[str]) -> list[str]:
    return [one["display_name"] for one in profiles.offered([SMALL, LARGE], groups)]


def test_a_profile_for_groups_is_offered_to_them_alone() -> None:
    assert names(set()) == ["Small"]
    assert names({"lhcb"}) == ["Small"]
    assert names({"lhcb", "cms"}) == ["Small", "Large"]


def test_so_are_choices_and_options_without_any_are_left_out() -> None:
    (others,) = profiles.offered([CHOICE], {"lhcb"})
    assert list(others["profile_options"]["memory"]["choices"]) == ["2"]
    assert set(others["profile_options"]) == {"memory", "image"}
    (cms,) = profiles.offered([CHOICE], {"cms"})
    assert list(cms["profile_options"]["memory"]["choices"]) == ["2", "64"]
    assert "gpu" in cms["profile_options"]
    assert profiles.GROUPS not in str(cms)
    assert profiles.GROUPS in str(CHOICE), "the facility's own list is left as it was"


def test_a_user_who_is_offered_nothing_is_told() -> None:
    def spawner(*groups: str) -> Any:
        held = [SimpleNamespace(name=group) for group in groups]
        return SimpleNamespace(user=SimpleNamespace(name="ann", groups=held))

    choose = profiles.profiles_of([LARGE])
    assert [one["display_name"] for one in choose(spawner("atlas"))] == ["Large"]
    with pytest.raises(profiles.SpawnError, match="no server is offered to the groups of ann"):
        choose(spawner("lhcb"))
    assert profiles.profiles_of([]) == []
