"""Which profiles a user's groups are offered."""

from types import SimpleNamespace
from typing import Any

import pytest
from coffea_shoppe_hub.errors import SpawnError
from coffea_shoppe_hub.profiles import GROUPS, offered, profiles_of

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
    return [profile["display_name"] for profile in offered([SMALL, LARGE], groups)]


def test_a_profile_for_groups_is_offered_to_them_alone() -> None:
    assert names(set()) == ["Small"]
    assert names({"lhcb"}) == ["Small"]
    assert names({"lhcb", "cms"}) == ["Small", "Large"]


def test_so_are_choices_and_options_without_any_are_left_out() -> None:
    (others,) = offered([CHOICE], {"lhcb"})
    assert list(others["profile_options"]["memory"]["choices"]) == ["2"]
    assert set(others["profile_options"]) == {"memory", "image"}
    (cms,) = offered([CHOICE], {"cms"})
    assert list(cms["profile_options"]["memory"]["choices"]) == ["2", "64"]
    assert "gpu" in cms["profile_options"]
    assert GROUPS not in str(cms)
    assert GROUPS in str(CHOICE), "the facility's own list is left as it was"


def test_a_user_who_is_offered_no_server_sees_why() -> None:
    def spawner(*groups: str) -> Any:
        user = SimpleNamespace(name="ann", groups=[SimpleNamespace(name=g) for g in groups])
        return SimpleNamespace(user=user)

    choose = profiles_of([LARGE])
    assert callable(choose)
    assert [profile["display_name"] for profile in choose(spawner("atlas"))] == ["Large"]
    with pytest.raises(SpawnError, match="no server is offered to the groups of ann"):
        choose(spawner("lhcb"))
    assert profiles_of([]) == []
