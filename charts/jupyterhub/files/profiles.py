"""Which servers a user may choose: profiles, some of them for groups only."""

from collections.abc import Callable
from typing import Any

from tornado.web import HTTPError

GROUPS = "allowed_groups"
"""Key of a profile, and of a choice in it: the groups whose users are offered it."""

Profile = dict[str, Any]


class SpawnError(HTTPError):
    """No server is started; the hub's pages show the text to the user."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(status, text)
        self.jupyterhub_message = text


def _open(entry: Profile, groups: set[str]) -> bool:
    return GROUPS not in entry or not groups.isdisjoint(entry[GROUPS])


def _without(entry: Profile) -> Profile:
    return {key: value for key, value in entry.items() if key != GROUPS}


def offered(profiles: list[Profile], groups: set[str]) -> list[Profile]:
    """Return the profiles, and the choices in them, for a user of these groups.

    An option all of whose choices are for others is left out.
    """
    found = []
    for profile in profiles:
        if not _open(profile, groups):
            continue
        options = {}
        for name, option in profile.get("profile_options", {}).items():
            choices = {
                key: _without(choice)
                for key, choice in option.get("choices", {}).items()
                if _open(choice, groups)
            }
            if choices or "unlisted_choice" in option:
                options[name] = {**option, "choices": choices}
        chosen = {"profile_options": options} if "profile_options" in profile else {}
        found.append({**_without(profile), **chosen})
    return found


def profiles_of(profiles: list[Profile]) -> list[Profile] | Callable[[Any], list[Profile]]:
    """Return what KubeSpawner takes: the list, or what makes it for a user."""
    if not profiles:
        return []

    def choose(spawner: Any) -> list[Profile]:
        groups = {group.name for group in spawner.user.groups}
        found = offered(profiles, groups)
        if not found:
            # An empty list would be a server with the defaults.
            raise SpawnError(
                403,
                f"no server is offered to the groups of {spawner.user.name}; ask the facility's "
                "operators (singleuser.profileList)",
            )
        return found

    return choose
