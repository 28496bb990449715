"""The spawner of a facility: its servers have their user's tokens."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import ClientError
from coffea_shoppe_contract.names import resource_name
from coffea_shoppe_contract.resources import USER_LABEL, identity_volume
from jupyterhub.utils import maybe_future
from kubernetes_asyncio.client.exceptions import ApiException
from kubespawner import KubeSpawner
from traitlets import Dict, Instance

from coffea_shoppe_hub.errors import SpawnError
from coffea_shoppe_hub.facility_users import FacilityUsers, check_owner

USERNAME_ANNOTATION = "hub.jupyter.org/username"
"""KubeSpawner's annotation of objects that it creates for a user."""
FIELD = re.compile(r"\{\w+\}")

Entry = dict[str, Any]
Entries = list[Entry] | dict[str, Entry]
"""Volumes, or mounts: KubeSpawner takes a list, or a dictionary with keys of any kind."""


class ShoppeSpawner(KubeSpawner):
    """A spawner whose servers have the facility's volumes, whatever else sets volumes."""

    facility_volumes = Dict(help="the chart's volumes, by any key").tag(config=True)
    facility_mounts = Dict(help="where servers mount them, by any key").tag(config=True)
    # Traits of KubeSpawner, which has no types.
    volumes: Any
    volume_mounts: Any
    extra_labels: Any
    image: str

    async def get_pod_manifest(self) -> Any:
        """Return the pod, with the facility's volumes beside those of profiles and hooks.

        A mount of theirs at a path of the facility's takes its place.
        """
        with self._with_facility():
            return await super().get_pod_manifest()

    @contextmanager
    def _with_facility(self) -> Iterator[None]:
        """Change volumes and labels while the pod is described, and not for its next start."""
        before = self.volumes, self.volume_mounts, self.extra_labels
        mounts = _entries(self.volume_mounts)
        paths = [mount["mountPath"].rstrip("/") for mount in mounts]
        mounts += [
            mount for mount in self.added_mounts() if mount["mountPath"].rstrip("/") not in paths
        ]
        volumes = _entries(self.volumes)
        names = [volume["name"] for volume in volumes]
        mounted = {mount["name"] for mount in mounts}
        volumes += [
            volume
            for volume in self.added_volumes()
            if volume["name"] not in names and volume["name"] in mounted
        ]
        self.volumes, self.volume_mounts = volumes, mounts
        self.extra_labels = {**self.extra_labels, **self.added_labels()}
        try:
            yield
        finally:
            self.volumes, self.volume_mounts, self.extra_labels = before

    def added_volumes(self) -> list[Entry]:
        """Return the volumes that each server has."""
        return list(self.facility_volumes.values())

    def added_mounts(self) -> list[Entry]:
        """Return the mounts that each server has."""
        return list(self.facility_mounts.values())

    def added_labels(self) -> dict[str, str]:
        """Return the labels that each server has."""
        return {}

    def _expand_all(self, src: Any) -> Any:
        """Fill in fields such as {username}; other braces, such as those of JSON, stay."""
        if not isinstance(src, str):
            return super()._expand_all(src)
        return _filled(src, self._expand_user_properties)

    def format_string(self, s: str) -> str:
        """Fill in fields of a page's path or of a folder, as above."""
        return _filled(s, super().format_string)


def _filled(text: str, fill: Callable[[str], str]) -> str:
    """Return a text with the fields that `fill` knows filled in; it fails at any other."""

    def field_of(match: re.Match[str]) -> str:
        try:
            return str(fill(match[0]))
        except KeyError:
            return match[0]

    try:
        return fill(text)
    except (KeyError, ValueError, IndexError, AttributeError):
        return FIELD.sub(field_of, text)


def _entries(entries: Entries) -> list[Entry]:
    """Return volumes or mounts as a list of the caller's own."""
    if isinstance(entries, dict):
        return [entries[key] for key in sorted(entries)]
    return list(entries)


class FacilitySpawner(ShoppeSpawner):
    """A spawner whose user is a user of the facility, until the hub deletes the user."""

    facility_users = Instance(FacilityUsers, help="the users' resources").tag(config=True)
    identity: tuple[Entry, Entry] | None = None
    """Volume and mount with the user's tokens, from the last start."""

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
        self.identity = identity_volume(secret, defaultMode=0o440)

    async def load_user_options(self) -> None:
        """Apply the profile that the user chose, and note the image that the server has now.

        A server starts without the note, too.
        """
        await super().load_user_options()
        images = {other.image for other in self.user.spawners.values() if other.active}
        try:
            await self.facility_users.note_images(
                self.api.api_client, user=self.user.name, images=images | {self.image}
            )
        except (ApiException, ClientError, OSError) as error:
            self.log.warning("The image of %s's server is not noted: %r", self.user.name, error)

    def added_volumes(self) -> list[Entry]:
        """Return the volumes that each server has, with the user's tokens."""
        return [*super().added_volumes(), *((self.identity[0],) if self.identity else ())]

    def added_mounts(self) -> list[Entry]:
        """Return the mounts that each server has, with the user's tokens."""
        return [*super().added_mounts(), *((self.identity[1],) if self.identity else ())]

    def added_labels(self) -> dict[str, str]:
        """Return the label by which policies and quotas find the user's pods."""
        return {**super().added_labels(), USER_LABEL: resource_name(self.user.name)}

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
