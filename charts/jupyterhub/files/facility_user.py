"""Makes each user of the hub a user of the facility: at a login, and before a server starts."""

import asyncio
import time

from aiohttp import ClientError
from coffea_shoppe_contract import identity
from kubernetes_asyncio.client import CustomObjectsApi
from kubernetes_asyncio.client.exceptions import ApiException
from kubespawner import KubeSpawner
from kubespawner.clients import load_config, shared_client
from profiles import SpawnError

POLL_S = 0.5
GREETING_S = 10
"""A login waits no longer for the cluster."""
MARGIN_S = identity.SHORTEST_S / 3
"""Tokens that live for less are not waited with: the pod needs time to start."""


class FacilityUsers:
    """The hooks of the hub; `enabled` is what the chart calls `hub.facilityUsers`."""

    def __init__(self, namespace: str, timeout: float) -> None:
        self.namespace, self.timeout = namespace, timeout

    async def __call__(self, spawner) -> None:
        """Wait, bounded, for the user's tokens, and mount them in the server's pod."""
        api = CustomObjectsApi(spawner.api.api_client)
        user = spawner.user.name
        groups = sorted(group.name for group in spawner.user.groups)
        await self._ask(api, user, groups)
        name = await self._ready(api, user, groups)
        spawner.extra_labels = {
            **spawner.extra_labels,
            identity.USER_LABEL: identity.resource_name(user),
        }
        # The spawner is kept between two starts: what an earlier one added is replaced.
        volume, mount = identity.mounted(name, defaultMode=0o440)
        spawner.volumes = [v for v in spawner.volumes if v["name"] != "identity"] + [volume]
        spawner.volume_mounts = [m for m in spawner.volume_mounts if m["name"] != "identity"] + [
            mount
        ]

    async def greet(self, authenticator, handler, told: dict) -> dict:
        """Make who logs in a user of the facility, with the groups that the login told.

        Pages of services need no server.  A login does not fail for it: a server that is
        started later makes good for what was missed.
        """
        user, groups = told["name"], told.get("groups")
        if groups is None:  # the hub's own
            known = handler.find_user(user)
            groups = [group.name for group in known.groups] if known else []
        load_config()
        api = shared_client("CustomObjectsApi")
        try:
            await asyncio.wait_for(self._ask(api, user, sorted(groups)), GREETING_S)
        except (ApiException, ClientError, OSError, TimeoutError) as error:
            authenticator.log.warning("%s is not made known at this login: %r", user, error)
        return told

    async def remove(self, spawner) -> None:
        """Remove the resource of a user who is deleted; one that is gone is no error."""
        api = CustomObjectsApi(spawner.api.api_client)
        name = identity.resource_name(spawner.user.name)
        try:
            await api.delete_namespaced_custom_object(*self._where(), name)
        except ApiException as error:
            if error.status != 404:
                raise

    def _where(self) -> tuple[str, str, str, str]:
        return identity.GROUP, identity.VERSION, self.namespace, identity.USERS

    async def _read(self, api, name: str) -> dict | None:
        """Return the user's resource; None where there is none."""
        try:
            return await api.get_namespaced_custom_object(*self._where(), name)
        except ApiException as error:
            if error.status != 404:
                raise
            return None

    async def _ask(self, api, user: str, groups: list[str]) -> None:
        """Make the user's resource, or ask for fresh tokens on the one there is."""
        name = identity.resource_name(user)
        metadata = {"annotations": {identity.WANTED: str(int(time.time()))}}
        body = {
            "apiVersion": f"{identity.GROUP}/{identity.VERSION}",
            "kind": "FacilityUser",
            "metadata": {**metadata, "name": name},
            "spec": {"username": user, "groups": groups},
        }
        try:
            await api.create_namespaced_custom_object(*self._where(), body)
        except ApiException as error:
            if error.status != 409:
                raise
        else:
            return
        change = {"metadata": metadata, "spec": {"groups": groups}}
        try:
            await api.patch_namespaced_custom_object(
                *self._where(), name, change, _content_type="application/merge-patch+json"
            )
        except ApiException as error:
            if error.status != 404:  # removed meanwhile; asked for again
                raise

    async def _ready(self, api, user: str, groups: list[str]) -> str:
        """Return the name of the Secret that holds fresh tokens."""
        name = identity.resource_name(user)
        deadline = time.monotonic() + self.timeout
        told = "the operator has not seen the user yet"
        while time.monotonic() < deadline:
            body = await self._read(api, name)
            if body is None:
                # An earlier user of this name was being removed until now.
                await self._ask(api, user, groups)
                continue
            if body["metadata"].get("deletionTimestamp"):
                told = "the operator is still removing an earlier user of this name"
                await asyncio.sleep(POLL_S)
                continue
            if body["spec"].get("disabled"):
                raise SpawnError(403, f"{user} is disabled in this facility; ask its operators")
            status = body.get("status") or {}
            ready = next((c for c in status.get("conditions", ()) if c["type"] == "Ready"), {})
            if ready:
                told = f"{ready['reason']}: {ready['message']}"
            fresh = status.get("validUntil", 0) > time.time() + MARGIN_S
            if ready.get("status") == "True" and fresh:
                return status["secretName"]
            await asyncio.sleep(POLL_S)
        raise SpawnError(
            503,
            f"no tokens for {user} within {self.timeout:.0f} s ({told}); see the operator's log",
        )


class FacilitySpawner(KubeSpawner):
    """A spawner whose user leaves the facility, too, when the hub deletes the user."""

    async def delete_forever(self) -> None:
        """Remove what outlives a server: the home, and the user's resource."""
        await super().delete_forever()
        # A named server that is removed leaves its user.
        if not self.name:
            await self.pre_spawn_hook.remove(self)
