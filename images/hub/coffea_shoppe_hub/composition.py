"""What the facility needs of the hub, together with what `hub.extraConfig` sets.

Python there assigns hooks, lists and classes as in any JupyterHub.  The facility's own are added
afterwards, so that users keep their identity, and services their tokens.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from jupyterhub.utils import maybe_future
from kubespawner import KubeSpawner
from traitlets.config import Config

from coffea_shoppe_hub.facility_users import FacilityUsers
from coffea_shoppe_hub.spawner import FacilitySpawner, ShoppeSpawner
from coffea_shoppe_hub.traits import SPAWNERS, class_named, refuse_misspelt

Role = dict[str, Any]
UNITED = ("scopes", "users", "groups", "services")
"""Fields of a role that are lists."""


@dataclass(frozen=True)
class Facility:
    """What the chart has set before `hub.extraConfig` runs."""

    users: FacilityUsers | None
    services: tuple[dict[str, Any], ...]
    roles: tuple[Role, ...]

    def complete(self, c: Config) -> None:
        """Add to the configuration what the facility needs and other Python has replaced.

        Exits with the reason for a class of servers that cannot have a user's identity, and for
        traits that no class has.
        """
        hub = c.JupyterHub
        names = [service["name"] for service in hub.services]
        hub.services = [*hub.services, *(own for own in self.services if own["name"] not in names)]
        hub.load_roles = united_roles([*self.roles, *hub.load_roles])
        hub.spawner_class = spawner_of(hub.spawner_class, users=self.users is not None)
        if self.users is not None:
            for section in c.values():
                if isinstance(section, Config) and "post_auth_hook" in section:
                    section.post_auth_hook = _after(section.post_auth_hook, self.users)
        refuse_misspelt(c)


def united_roles(roles: Iterable[Role]) -> list[Role]:
    """Return roles of which no two have the same name; the fields of two are united."""
    united: dict[str, Role] = {}
    for role in roles:
        known = united.get(role["name"], {})
        lists = {
            field: list(dict.fromkeys([*known.get(field, ()), *(role.get(field) or ())]))
            for field in UNITED
            if field in known or role.get(field) is not None
        }
        united[role["name"]] = {**known, **role, **lists}
    return list(united.values())


def spawner_of(configured: Any, *, users: bool) -> type[KubeSpawner]:
    """Return a class of servers with the facility's, for any class that starts pods.

    `configured` is a class, its import path, or the name of an entry point.
    """
    chosen: type[KubeSpawner] = class_named(configured, SPAWNERS, "JupyterHub.spawner_class")
    needed = FacilitySpawner if users else ShoppeSpawner
    if issubclass(chosen, needed):
        return chosen
    if not issubclass(chosen, KubeSpawner):
        raise SystemExit(
            f"JupyterHub.spawner_class is {chosen.__name__}, which starts no pods in "
            "Kubernetes: derive the class from kubespawner.KubeSpawner, or remove the line"
        )
    if issubclass(needed, chosen):
        return needed
    return type(chosen.__name__, (needed, chosen), {})


def _after(hook: Any, users: FacilityUsers) -> Callable[..., Any]:
    """Return a `post_auth_hook` that makes users of the facility of whom another one lets in."""
    own = users.after_login
    if hook is None or hook == own:
        return own

    async def both(authenticator: Any, handler: Any, login: dict[str, Any]) -> Any:
        allowed = await maybe_future(hook(authenticator, handler, login))
        return await own(authenticator, handler, allowed) if allowed else allowed

    return both
