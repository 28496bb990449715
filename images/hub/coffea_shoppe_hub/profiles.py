"""Which servers a user may choose: profiles, some of them for groups only."""

from collections.abc import Callable, Mapping
from typing import Any

from coffea_shoppe_hub.errors import SpawnError

GROUPS = "allowed_groups"
"""Key of a profile, and of a choice in it: the groups whose users are offered it."""

Profile = dict[str, Any]


def _is_open(entry: Mapping[str, Any], groups: set[str]) -> bool:
    return GROUPS not in entry or not groups.isdisjoint(entry[GROUPS])


def _without_groups(entry: Mapping[str, Any]) -> Profile:
    return {key: value for key, value in entry.items() if key != GROUPS}


def offered(profiles: list[Profile], groups: set[str]) -> list[Profile]:
    """Return the profiles, and the choices in them, for a user of these groups.

    An option all of whose choices are for other groups is left out.
    """
    open_profiles = []
    for profile in profiles:
        if not _is_open(profile, groups):
            continue
        options = {}
        for name, option in profile.get("profile_options", {}).items():
            choices = {
                key: _without_groups(choice)
                for key, choice in option.get("choices", {}).items()
                if _is_open(choice, groups)
            }
            if choices or "unlisted_choice" in option:
                options[name] = {**option, "choices": choices}
        open_options = {"profile_options": options} if "profile_options" in profile else {}
        open_profiles.append({**_without_groups(profile), **open_options})
    return open_profiles


def profiles_of(profiles: list[Profile]) -> list[Profile] | Callable[[Any], list[Profile]]:
    """Return KubeSpawner's profile list, or a function that returns it for a user.

    The function raises `SpawnError` for a user who is offered no profile.
    """
    if not profiles:
        return []

    def choose(spawner: Any) -> list[Profile]:
        open_profiles = offered(profiles, {group.name for group in spawner.user.groups})
        if not open_profiles:
            # An empty list would be a server with the defaults.
            raise SpawnError(
                403,
                f"no server is offered to the groups of {spawner.user.name}; ask the facility's "
                "administrators (singleuser.profileList)",
            )
        return open_profiles

    return choose
