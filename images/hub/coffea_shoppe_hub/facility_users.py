"""The users' resources in the cluster, for each of which the operator issues tokens."""

import asyncio
import json
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientError
from coffea_shoppe_contract.claims import MIN_TOKEN_LIFETIME_S
from coffea_shoppe_contract.names import resource_name
from coffea_shoppe_contract.resources import (
    API_GROUP,
    API_VERSION,
    FACILITY_USERS,
    SERVER_IMAGES_ANNOTATION,
    TOKENS_REQUESTED_ANNOTATION,
)
from kubernetes_asyncio.client import ApiClient, CustomObjectsApi
from kubernetes_asyncio.client.exceptions import ApiException
from kubespawner.clients import load_config, shared_client

from coffea_shoppe_hub.errors import SpawnError

POLL_S = 0.5
LOGIN_TIMEOUT_S = 10
"""A login waits no longer for the cluster."""
MARGIN_S = MIN_TOKEN_LIFETIME_S / 3
"""Tokens that expire sooner are not used for a start: the pod needs time to come up."""


@dataclass(frozen=True)
class FacilityUsers:
    """Makes, reads and removes the FacilityUser of a user of the hub."""

    namespace: str
    """Of the resources: the release's."""
    timeout: float
    """Seconds to wait for a user's tokens."""

    async def request(self, client: ApiClient, *, user: str, groups: list[str]) -> None:
        """Make the user's resource, or request fresh tokens on an existing one.

        Raises `ApiException` where the API server refuses, and `SpawnError` (403) where the
        resource is another user's.
        """
        api = CustomObjectsApi(client)
        name = resource_name(user)
        metadata = {"annotations": {TOKENS_REQUESTED_ANNOTATION: str(int(time.time()))}}
        body = {
            "apiVersion": f"{API_GROUP}/{API_VERSION}",
            "kind": "FacilityUser",
            "metadata": {**metadata, "name": name},
            "spec": {"username": user, "groups": groups},
        }
        try:
            await api.create_namespaced_custom_object(*self._kind(), body)
        except ApiException as error:
            if error.status != 409:
                raise
        else:
            return
        await self._read(client, user)
        change = {"metadata": metadata, "spec": {"groups": groups}}
        # Removed meanwhile: who waits for the tokens requests them again.
        await self._patch(client, user, change)

    async def note_images(self, client: ApiClient, *, user: str, images: Collection[str]) -> None:
        """Note the images of the user's servers, which the user's Dask clusters may have."""
        annotations = {SERVER_IMAGES_ANNOTATION: json.dumps(sorted(images))}
        await self._patch(client, user, {"metadata": {"annotations": annotations}})

    async def _patch(self, client: ApiClient, user: str, change: dict[str, Any]) -> None:
        """Change the user's resource; a missing one is not an error."""
        try:
            # The type of the content is missing from the client's stubs.
            await CustomObjectsApi(client).patch_namespaced_custom_object(  # type: ignore[call-arg]
                *self._kind(),
                resource_name(user),
                change,
                _content_type="application/merge-patch+json",
            )
        except ApiException as error:
            if error.status != 404:
                raise

    async def wait(self, client: ApiClient, *, user: str, groups: list[str]) -> str:
        """Request fresh tokens, wait for them, and return the name of their Secret.

        Raises `SpawnError` for a disabled user (403), and when the time is over (503).
        """
        await self.request(client, user=user, groups=groups)
        deadline = time.monotonic() + self.timeout
        state = "the operator has not seen the user yet"
        while time.monotonic() < deadline:
            resource = await self._read(client, user)
            if resource is None:
                # The operator has just removed an earlier user of this name.
                await self.request(client, user=user, groups=groups)
                continue
            if resource["metadata"].get("deletionTimestamp"):
                state = "the operator is still removing an earlier user of this name"
                await asyncio.sleep(POLL_S)
                continue
            if resource["spec"].get("disabled"):
                raise SpawnError(
                    403, f"{user} is disabled in this facility; ask its administrators"
                )
            status = resource.get("status") or {}
            ready: dict[str, Any] = next(
                (c for c in status.get("conditions", ()) if c["type"] == "Ready"), {}
            )
            if ready:
                state = f"{ready['reason']}: {ready['message']}"
            fresh = status.get("validUntil", 0) > time.time() + MARGIN_S
            if ready.get("status") == "True" and fresh:
                return str(status["secretName"])
            await asyncio.sleep(POLL_S)
        raise SpawnError(
            503,
            f"no tokens for {user} within {self.timeout:.0f} s ({state}); see the operator's log",
        )

    async def remove(self, client: ApiClient, *, user: str) -> None:
        """Remove the resource of a user who is deleted; a missing one is not an error."""
        api = CustomObjectsApi(client)
        try:
            await self._read(client, user)
        except SpawnError:
            return  # the resource of another user stays
        try:
            await api.delete_namespaced_custom_object(*self._kind(), resource_name(user))
        except ApiException as error:
            if error.status != 404:
                raise

    async def after_login(
        self, authenticator: Any, handler: Any, login: dict[str, Any]
    ) -> dict[str, Any]:
        """Make who logs in a user of the facility: `Authenticator.post_auth_hook`.

        The services' pages need no server.  A login does not fail because of the cluster:
        a server that starts later requests the tokens again.
        """
        user, groups = login["name"], login.get("groups")
        if groups is None:  # the login brings none, so the hub's own count
            hub_user = handler.find_user(user)
            groups = [group.name for group in hub_user.groups] if hub_user else []
        load_config()
        client = shared_client("CustomObjectsApi").api_client
        try:
            request = self.request(client, user=user, groups=sorted(groups))
            await asyncio.wait_for(request, LOGIN_TIMEOUT_S)
        except (ApiException, ClientError, OSError, TimeoutError) as error:
            authenticator.log.warning("%s could not be created at this login: %r", user, error)
        return login

    def _kind(self) -> tuple[str, str, str, str]:
        return API_GROUP, API_VERSION, self.namespace, FACILITY_USERS

    async def _read(self, client: ApiClient, user: str) -> dict[str, Any] | None:
        """Return the user's resource; None where there is none.

        Raises `SpawnError` (403) where it is another user's: names that differ may share the
        name of their resource, of which a hash of 32 bits is the end.
        """
        api = CustomObjectsApi(client)
        try:
            resource: dict[str, Any] = await api.get_namespaced_custom_object(
                *self._kind(), resource_name(user)
            )
        except ApiException as error:
            if error.status != 404:
                raise
            return None
        check_owner(user, str(resource["spec"]["username"]))
        return resource


def check_owner(user: str, owner: str) -> None:
    """Raise `SpawnError` (403) unless what a user would get is the user's own."""
    if owner != user:
        raise SpawnError(
            403,
            f"the name {user!r} is too similar to another user's: both would share what they "
            "have in the facility; ask its administrators for another name",
        )
