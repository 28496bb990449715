"""Users of the hub become users of the facility, and leave it: real spawners, an API in memory."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from coffea_shoppe_contract.files import IDENTITY_FOLDER
from coffea_shoppe_contract.names import resource_name
from coffea_shoppe_contract.resources import (
    FACILITY_USERS,
    SERVER_IMAGES_ANNOTATION,
    TOKENS_REQUESTED_ANNOTATION,
    USER_LABEL,
)
from coffea_shoppe_hub import facility_users
from coffea_shoppe_hub.errors import SpawnError
from coffea_shoppe_hub.facility_users import FacilityUsers
from coffea_shoppe_hub.spawner import FacilitySpawner
from jupyterhub import orm
from jupyterhub.objects import Hub
from jupyterhub.user import User
from kube_api import Key, KubeApi, Object, kube_api
from kubernetes_asyncio.client.exceptions import ApiException
from kubespawner.clients import load_config
from traitlets import TraitError
from traitlets.config import Config

NAMESPACE = "facility"
KEY = (FACILITY_USERS, NAMESPACE, "ann")


@pytest.fixture(autouse=True)
def fast_polling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facility_users, "POLL_S", 0)


def operator(*, valid_for: float = 3600, ready: str = "True", **spec: Any) -> Any:
    """Return what the operator does to a FacilityUser that is written."""

    def reconcile(key: Key, user: Object) -> None:
        if key[0] == FACILITY_USERS:
            user["spec"] |= spec
            condition = {"type": "Ready", "status": ready, "reason": "Made", "message": "all there"}
            user["status"] = {
                "conditions": [condition],
                "validUntil": time.time() + valid_for,
                "secretName": f"shoppe-user-{key[2]}",
            }

    return reconcile


def test_images_of_all_servers_are_noted_and_kept_at_a_login(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = {"display_name": "P", "kubespawner_override": {"image": "profile:2"}}

    async def story() -> list[list[str]]:
        async with cluster(tmp_path, monkeypatch) as api:

            def noted() -> list[str]:
                annotations = api.objects[KEY]["metadata"]["annotations"]
                images: list[str] = json.loads(annotations[SERVER_IMAGES_ANNOTATION])
                return images

            api.after_write = operator()
            user = hub_user("ann", profile_list=[profile])
            user.db.add(orm.Spawner(name="second", user=user.orm_user))
            user.db.commit()
            first, second = user.spawners[""], user.spawners["second"]
            # As JupyterHub and KubeSpawner do: the profile comes after the hook.
            await first.run_pre_spawn_hook()
            await first.load_user_options()
            alone = noted()
            first._spawn_pending = True
            second.profile_list = []
            await second.load_user_options()
            both = noted()
            await second.run_pre_spawn_hook()
            return [alone, both, noted()]

    both = ["notebook:1", "profile:2"]
    assert asyncio.run(story()) == [["profile:2"], both, both]


@asynccontextmanager
async def cluster(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[KubeApi]:
    load_config.cache_clear()
    async with kube_api(folder, monkeypatch) as api:
        yield api
        # The hub cancels what it left running; here that are KubeSpawner's shared clients.
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()


def hub_user(
    name: str, *, timeout: float = 60, groups: tuple[str, ...] = (), **traits: Any
) -> User:
    """Return a user of a hub with a database in memory, whose spawner is the facility's."""
    database = orm.new_session_factory("sqlite:///:memory:")()
    orm_user = orm.User(name=name)
    database.add(orm_user)
    database.add_all(group := [orm.Group(name=group) for group in groups])
    orm_user.groups = group
    database.commit()
    config = Config()
    config.KubeSpawner.namespace = "servers"
    config.KubeSpawner.image = "notebook:1"
    for trait, value in traits.items():
        config.KubeSpawner[trait] = value
    config.FacilitySpawner.facility_users = FacilityUsers(NAMESPACE, timeout)
    settings = {
        "config": config,
        "spawner_class": FacilitySpawner,
        "hub": Hub(ip="127.0.0.1", port=8081, base_url="/hub/"),
        "allow_named_servers": True,
    }
    return User(orm_user, settings)


def start(
    folder: Path, monkeypatch: pytest.MonkeyPatch, user_traits: Object, **api_traits: Any
) -> Any:
    """Prepare a start of ann's server; return the API and the manifest of the pod."""

    async def story() -> tuple[KubeApi, Any]:
        async with cluster(folder, monkeypatch) as api:
            for trait, value in api_traits.items():
                setattr(api, trait, value)
            spawner = hub_user("ann", **user_traits).spawners[""]
            await spawner.run_pre_spawn_hook()
            manifest = await spawner.get_pod_manifest()
            return api, spawner.api.api_client.sanitize_for_serialization(manifest)

    return asyncio.run(story())


def mounted(manifest: Object) -> list[tuple[str, str]]:
    """Return (Secret, folder) of each Secret that a pod's notebook sees."""
    spec = manifest["spec"]
    secrets = {v["name"]: v["secret"]["secretName"] for v in spec["volumes"] if "secret" in v}
    mounts = spec["containers"][0]["volumeMounts"]
    return [(secrets[m["name"]], m["mountPath"]) for m in mounts if m["name"] in secrets]


@pytest.mark.parametrize(
    "volumes",
    [
        [{"name": "tmp", "emptyDir": {}}],
        {"any-key": {"name": "tmp", "emptyDir": {}}},
    ],
    ids=["list", "dictionary"],
)
def test_a_server_gets_the_tokens_of_its_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, volumes: Any
) -> None:
    traits = {"groups": ("cms", "atlas"), "volumes": volumes, "extra_labels": {"my": "label"}}
    api, pod = start(tmp_path, monkeypatch, traits, after_write=operator())
    resource = api.objects[KEY]
    assert resource["spec"] == {"username": "ann", "groups": ["atlas", "cms"]}
    requested_at = int(resource["metadata"]["annotations"][TOKENS_REQUESTED_ANNOTATION])
    assert requested_at <= time.time()
    assert mounted(pod) == [("shoppe-user-ann", IDENTITY_FOLDER)]
    assert [volume["name"] for volume in pod["spec"]["volumes"]] == ["tmp", "identity"]
    labels = pod["metadata"]["labels"]
    assert (labels[USER_LABEL], labels["my"]) == ("ann", "label")


def test_a_user_who_comes_back_gets_fresh_tokens_and_new_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        async with cluster(tmp_path, monkeypatch) as api:
            api.after_write = operator()
            user = hub_user("ann", groups=("cms",))
            spawner = user.spawners[""]
            await spawner.run_pre_spawn_hook()
            user.orm_user.groups = []
            await spawner.run_pre_spawn_hook()
            assert api.writes == [("POST", KEY), ("PATCH", KEY)]
            assert api.objects[KEY]["spec"]["groups"] == []
            # The spawner is the same as at the first start: nothing is there twice.
            pod = spawner.api.api_client.sanitize_for_serialization(
                await spawner.get_pod_manifest()
            )
            assert mounted(pod) == [("shoppe-user-ann", IDENTITY_FOLDER)]

    asyncio.run(story())


def test_the_facility_s_own_hook_runs_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hook(spawner: Any) -> None:
        spawner.volumes = [{"name": "data", "hostPath": {"path": "/data"}}]

    _, pod = start(tmp_path, monkeypatch, {"pre_spawn_hook": hook}, after_write=operator())
    assert [volume["name"] for volume in pod["spec"]["volumes"]] == ["data", "identity"]


@pytest.mark.parametrize(
    ("state", "status", "words"),
    [
        (lambda key, user: None, 503, "the operator has not seen the user yet"),
        (operator(ready="False"), 503, "Made: all there"),
        (operator(valid_for=1), 503, "no tokens for ann"),
        (operator(disabled=True), 403, "ann is disabled in this facility"),
        (
            lambda key, user: user["metadata"].update(deletionTimestamp="2026-01-01T00:00:00Z"),
            503,
            "still removing an earlier user",
        ),
    ],
    ids=["no operator", "not ready", "old tokens", "disabled", "being removed"],
)
def test_a_server_without_tokens_does_not_start_and_the_user_sees_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: Any, status: int, words: str
) -> None:
    with pytest.raises(SpawnError, match=words) as refusal:
        start(tmp_path, monkeypatch, {"timeout": 0.2}, after_write=state)
    assert refusal.value.status_code == status
    assert words in refusal.value.jupyterhub_message


SIMILAR = ("bm-.--.-++col@x.org", "bm.--+._+.+col@x.org")
"""Two names of which the resources have the same name."""


def test_a_user_never_gets_what_another_of_a_similar_name_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = SIMILAR
    assert resource_name(first) == resource_name(second)
    key = (FACILITY_USERS, NAMESPACE, resource_name(first))

    async def story() -> None:
        async with cluster(tmp_path, monkeypatch) as api:
            api.after_write = operator()
            await hub_user(first, groups=("cms",)).spawners[""].run_pre_spawn_hook()
            other = hub_user(second).spawners[""]
            with pytest.raises(SpawnError, match="too similar") as refusal:
                await other.run_pre_spawn_hook()
            assert refusal.value.status_code == 403
            assert other.identity is None
            login: Any = SimpleNamespace(find_user=lambda name: None)
            authenticator: Any = SimpleNamespace(log=logging.getLogger())
            users = FacilityUsers(NAMESPACE, 1)
            with pytest.raises(SpawnError, match="too similar"):
                await users.after_login(authenticator, login, {"name": second})
            assert await users.after_login(authenticator, login, {"name": first})
            await users.remove(other.api.api_client, user=second)
            assert api.objects[key]["spec"]["username"] == first
            await users.remove(other.api.api_client, user=first)
            assert key not in api.objects

    asyncio.run(story())


@pytest.mark.parametrize("template", ["{username}", "claim-{user_server}", "shared"])
def test_a_home_that_was_made_for_another_user_is_not_mounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, template: str
) -> None:
    async def story() -> None:
        async with cluster(tmp_path, monkeypatch) as api:
            api.after_write = operator()
            traits: Any = {"storage_pvc_ensure": True, "pvc_name_template": template}
            spawner = hub_user("ann", **traits).spawners[""]
            claim = {"name": spawner.pvc_name, "namespace": "servers"}
            annotations = {"hub.jupyter.org/username": "ann"}
            body = {"metadata": {**claim, "annotations": annotations}}
            await api.put("persistentvolumeclaims", body)
            await spawner.run_pre_spawn_hook()
            annotations["hub.jupyter.org/username"] = "another"
            await api.put("persistentvolumeclaims", body)
            if template == "shared":
                await spawner.run_pre_spawn_hook()
                return
            with pytest.raises(SpawnError, match="too similar"):
                await spawner.run_pre_spawn_hook()

    asyncio.run(story())


@pytest.mark.parametrize("owner", ["ann", "another"])
def test_the_deletion_of_a_user_keeps_the_home_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: str
) -> None:
    async def story() -> None:
        async with cluster(tmp_path, monkeypatch) as api:
            api.after_write = operator()
            spawner = hub_user("ann", storage_pvc_ensure=True).spawners[""]
            await spawner.run_pre_spawn_hook()
            claim = {"name": spawner.pvc_name, "namespace": "servers"}
            annotations = {"hub.jupyter.org/username": owner}
            await api.put(
                "persistentvolumeclaims", {"metadata": {**claim, "annotations": annotations}}
            )
            await spawner.delete_forever()
            home = ("persistentvolumeclaims", "servers", spawner.pvc_name)
            assert (home in api.objects) == (owner != "ann")
            assert KEY not in api.objects

    asyncio.run(story())


def test_a_refusal_by_the_api_server_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = {("POST", FACILITY_USERS): (403, "not allowed")}
    with pytest.raises(ApiException, match="not allowed"):
        start(tmp_path, monkeypatch, {}, refusals=refusals, after_write=operator())


def test_a_user_who_is_deleted_in_the_hub_leaves_the_facility(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        async with cluster(tmp_path, monkeypatch) as api:
            api.after_write = operator()
            ann, bob = hub_user("ann", delete_pvc=False), hub_user("bob", delete_pvc=False)
            for user in (ann, bob):
                await user.spawners[""].run_pre_spawn_hook()
            ann._new_orm_spawner("second", "second")
            await ann._delete_spawner("second")
            assert KEY in api.objects, "a named server that is removed leaves its user"
            await ann.delete_spawners()
            assert [name for _, _, name in api.objects] == ["bob"]
            # Again, without an error.
            await ann.spawners[""].delete_forever()
            api.refusals = {("DELETE", FACILITY_USERS): (403, "not allowed")}
            with pytest.raises(ApiException, match="not allowed"):
                await bob.spawners[""].delete_forever()

    asyncio.run(story())


def test_a_spawner_without_the_users_resources_names_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        async with cluster(tmp_path, monkeypatch):
            user = hub_user("ann")
            del user.settings["config"]["FacilitySpawner"]
            await user.spawners[""].run_pre_spawn_hook()

    with pytest.raises(TraitError, match="facility_users"):
        asyncio.run(story())


def login(
    folder: Path, monkeypatch: pytest.MonkeyPatch, groups: list[str] | None, **api_traits: Any
) -> tuple[KubeApi, Object]:
    """Log ann in, who is in the group cms of the hub; return the API and the hook's result."""

    async def story() -> tuple[KubeApi, Object]:
        async with cluster(folder, monkeypatch) as api:
            for trait, value in api_traits.items():
                setattr(api, trait, value)
            authenticator = SimpleNamespace(log=logging.getLogger("authenticator"))
            handler = SimpleNamespace(
                find_user=lambda name: hub_user(name, groups=("cms",)) if name == "ann" else None
            )
            model = {"name": "ann", "groups": groups, "auth_state": None}
            users = FacilityUsers(NAMESPACE, 60)
            return api, await users.after_login(authenticator, handler, model)

    return asyncio.run(story())


@pytest.mark.parametrize(
    ("groups", "known"), [(["lhcb", "atlas"], ["atlas", "lhcb"]), ([], []), (None, ["cms"])]
)
def test_a_login_makes_the_user_with_the_groups_of_the_login_or_else_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, groups: list[str] | None, known: list[str]
) -> None:
    api, model = login(tmp_path, monkeypatch, groups)
    assert api.objects[KEY]["spec"] == {"username": "ann", "groups": known}
    assert model == {"name": "ann", "groups": groups, "auth_state": None}


def test_a_login_does_not_fail_because_of_the_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refusals = {("POST", FACILITY_USERS): (500, "no quorum")}
    api, model = login(tmp_path, monkeypatch, [], refusals=refusals)
    assert model["name"] == "ann"
    assert not api.objects
    assert "ann could not be created at this login" in caplog.text


def test_names_that_are_no_labels_get_a_resource_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        async with cluster(tmp_path, monkeypatch) as api:
            api.after_write = operator()
            await hub_user("Ann@cern.ch").spawners[""].run_pre_spawn_hook()
            (resource,) = api.of(FACILITY_USERS)
            assert resource["metadata"]["name"] == resource_name("Ann@cern.ch")
            assert resource["spec"]["username"] == "Ann@cern.ch"

    asyncio.run(story())
