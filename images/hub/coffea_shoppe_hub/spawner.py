"""The spawner of a facility: its servers have their user's tokens."""

from typing import Any

from coffea_shoppe_contract.names import resource_name
from coffea_shoppe_contract.resources import USER_LABEL, identity_volume
from jupyterhub.utils import maybe_future
from kubernetes_asyncio.client.exceptions import ApiException
from kubespawner import KubeSpawner
from traitlets import Instance

from coffea_shoppe_hub.errors import SpawnError
from coffea_shoppe_hub.facility_users import FacilityUsers, check_owner

USERNAME_ANNOTATION = "hub.jupyter.org/username"
"""KubeSpawner's annotation of objects that it creates for a user."""

Entries = list[dict[str, Any]] | dict[str, dict[str, Any]]
"""Volumes, or mounts: KubeSpawner takes a list, or a dictionary with keys of any kind."""


class FacilitySpawner(KubeSpawner):
    """A spawner whose user is a user of the facility, until the hub deletes the user."""

    facility_users = Instance(FacilityUsers, help="the users' resources").tag(config=True)

    async def run_pre_spawn_hook(self) -> None:
        """Run the facility's `pre_spawn_hook`; then wait for the user's tokens, and mount them.

        Raises `SpawnError` where there are no tokens in time, and where the tokens or the
        home would be another user's.
        """
        await maybe_future(super().run_pre_spawn_hook())
        user = self.user.name
        await self._check_home(user)
        secret = await self.facility_users.wait(
            self.api.api_client, user=user, groups=sorted(group.name for group in self.user.groups)
        )
        self.extra_labels: dict[str, str] = {**self.extra_labels, USER_LABEL: resource_name(user)}
        volume, mount = identity_volume(secret, defaultMode=0o440)
        self.volumes: Entries = _with(self.volumes, volume)
        self.volume_mounts: Entries = _with(self.volume_mounts, mount)

    async def _check_home(self, user: str) -> None:
        """Raise `SpawnError` if the claim of the home was created for another user."""
        # All users share a claim whose name has no field such as {username}.
        if not self.storage_pvc_ensure or "{" not in self.pvc_name_template:
            return
        try:
            claim = await self.api.read_namespaced_persistent_volume_claim(
                self.pvc_name, self.namespace
            )
        except ApiException as error:
            if error.status != 404:
                raise
            return
        check_owner(user, (claim.metadata.annotations or {}).get(USERNAME_ANNOTATION, user))

    async def delete_forever(self) -> None:
        """Remove what outlives a server: the home, and the user's resource.

        A home that was created for another user is kept.
        """
        try:
            await self._check_home(self.user.name)
        except SpawnError:
            self.log.warning("%s is kept: it was created for another user", self.pvc_name)
        else:
            await super().delete_forever()
        # Deleting a named server does not delete its user.
        if not self.name:
            await self.facility_users.remove(self.api.api_client, user=self.user.name)


def _with(entries: Entries, entry: dict[str, Any]) -> Entries:
    """Return the entries with one more, which replaces that of an earlier start."""
    if isinstance(entries, dict):
        return {**entries, entry["name"]: entry}
    return [*(other for other in entries if other["name"] != entry["name"]), entry]
