"""What an administrator's values and Python set is used together with what the facility needs."""

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import z2jh
from coffea_shoppe_contract.files import IDENTITY_FOLDER
from coffea_shoppe_contract.resources import USER_LABEL
from coffea_shoppe_hub.composition import spawner_of, united_roles
from coffea_shoppe_hub.spawner import FacilitySpawner, ShoppeSpawner
from hub_settings import Values, configured, configured_with, settings_of_defaults, write_secrets
from jupyterhub import orm
from jupyterhub.app import JupyterHub
from jupyterhub.auth import DummyAuthenticator
from jupyterhub.authenticators.shared import SharedPasswordAuthenticator
from jupyterhub.objects import Hub
from jupyterhub.spawner import SimpleLocalProcessSpawner
from jupyterhub.user import User
from kube_api import kube_api
from kubespawner import KubeSpawner
from kubespawner.clients import load_config
from traitlets.config import Config


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    return write_secrets(tmp_path)


@pytest.fixture
def settings() -> Values:
    return settings_of_defaults()


def run(settings: Values, secrets: Path, python: str) -> Config:
    """Return the configuration after a snippet of hub.extraConfig."""
    c, facility = configured_with(settings, secrets)
    exec(python, {"c": c})  # noqa: S102  (as the hub does)
    facility.complete(c)
    return c


Pod = Callable[..., Any]


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pod:
    """Return what describes the pod of ann's server, with a profile's overrides."""

    async def describe(config: Config, identity: bool, overrides: Values) -> Any:
        database = orm.new_session_factory("sqlite:///:memory:")()
        person = orm.User(name="ann")
        database.add(person)
        database.commit()
        options = {
            "config": config.copy(),
            "spawner_class": JupyterHub(config=config).spawner_class,
            "hub": Hub(ip="127.0.0.1", port=8081, base_url="/hub/"),
        }
        load_config.cache_clear()
        async with kube_api(tmp_path, monkeypatch):
            spawner = User(person, options).spawners[""]
            spawner._apply_overrides(overrides)
            if identity:
                volume = {"name": "identity", "secret": {"secretName": "shoppe-user-ann"}}
                spawner.identity = volume, {"name": "identity", "mountPath": IDENTITY_FOLDER}
            manifest = await spawner.get_pod_manifest()
            described = spawner.api.api_client.sanitize_for_serialization(manifest)
            # The hub cancels what it left running; here that are KubeSpawner's shared clients.
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            return described

    def of(config: Config, *, identity: bool = False, **overrides: Any) -> Any:
        return asyncio.run(describe(config, identity, overrides))

    return of


def mounts(manifest: Any) -> dict[str, str]:
    """Return path → volume of a pod's notebook; each volume exists."""
    names = {volume["name"] for volume in manifest["spec"]["volumes"]}
    entries = manifest["spec"]["containers"][0]["volumeMounts"]
    assert {entry["name"] for entry in entries} <= names
    return {entry["mountPath"]: entry["name"] for entry in entries}


HOME = {"/tmp": "tmp", "/home/jovyan": "volume-ann"}  # noqa: S108  (the pod's own)


@pytest.mark.parametrize(
    "python",
    [
        "",
        "c.KubeSpawner.volumes = {'d': {'name': 'data', 'emptyDir': {}}}\n"
        "c.KubeSpawner.volume_mounts = {'d': {'name': 'data', 'mountPath': '/data'}}",
        "c.KubeSpawner.volumes = [{'name': 'data', 'emptyDir': {}}]\n"
        "c.KubeSpawner.volume_mounts = [{'name': 'data', 'mountPath': '/data'}]",
        "c.KubeSpawner.volumes['d'] = {'name': 'data', 'emptyDir': {}}\n"
        "c.KubeSpawner.volume_mounts['d'] = {'name': 'data', 'mountPath': '/data'}",
    ],
    ids=["none", "dictionary", "list", "added"],
)
def test_own_volumes_are_beside_the_facility_s(
    settings: Values, secrets: Path, pod: Pod, python: str
) -> None:
    own = {"/data": "data"} if python else {}
    assert mounts(pod(run(settings, secrets, python))) == HOME | own


@pytest.mark.parametrize("kind", [list, dict])
def test_a_profile_s_volumes_are_beside_the_facility_s(
    settings: Values, secrets: Path, pod: Pod, kind: type
) -> None:
    settings["facilityUsers"]["enabled"] = True
    volume, mount = {"name": "data", "emptyDir": {}}, {"name": "data", "mountPath": "/data"}
    overrides = {
        "volumes": [volume] if kind is list else {"d": volume},
        "volume_mounts": [mount] if kind is list else {"d": mount},
        "extra_labels": {"own": "label"},
    }
    manifest = pod(run(settings, secrets, ""), identity=True, **overrides)
    assert mounts(manifest) == HOME | {"/data": "data", IDENTITY_FOLDER: "identity"}
    labels = manifest["metadata"]["labels"]
    assert (labels[USER_LABEL], labels["own"]) == ("ann", "label")


def test_a_home_of_one_s_own_takes_the_place_of_the_facility_s(
    settings: Values, secrets: Path, pod: Pod
) -> None:
    volume = {"name": "nfs", "persistentVolumeClaim": {"claimName": "homes"}}
    mount = {"name": "nfs", "mountPath": "/home/jovyan/"}
    manifest = pod(run(settings, secrets, ""), volumes=[volume], volume_mounts=[mount])
    assert [v["name"] for v in manifest["spec"]["volumes"]] == ["nfs", "tmp"]


def test_volumes_and_files_of_the_values_are_mounted(
    settings: Values, secrets: Path, pod: Pod
) -> None:
    user = settings["values"]["singleuser"]
    user["storage"] |= {
        "type": "static",
        "static": {"pvcName": "homes", "subPath": "{username}/home"},
        "extraVolumes": [{"name": "shm", "emptyDir": {"medium": "Memory"}}],
        "extraVolumeMounts": {"a": {"name": "shm", "mountPath": "/dev/shm"}},  # noqa: S108
    }
    user["extraFiles"] = {"motd": {"mountPath": "/etc/motd", "stringData": "x", "mode": 0o644}}
    manifest = pod(configured(settings, secrets))
    assert mounts(manifest) == {
        "/tmp": "tmp",  # noqa: S108  (the pod's own)
        "/home/jovyan": "home",
        "/dev/shm": "shm",  # noqa: S108
        "/etc/motd": "files",
    }
    notebook = manifest["spec"]["containers"][0]["volumeMounts"]
    assert {mount.get("subPath") for mount in notebook} == {None, "ann/home", "motd"}
    volumes = {volume["name"]: volume for volume in manifest["spec"]["volumes"]}
    items = [{"key": "motd", "path": "motd", "mode": 0o644}]
    assert volumes["files"]["secret"] == {"secretName": "singleuser", "items": items}


def test_variables_of_all_forms_reach_a_server_unharmed(
    settings: Values, secrets: Path, pod: Pod
) -> None:
    texts = {
        "JSON": json.dumps({"a": {"b": [1]}}),
        "F_STRING": "f'{x:.2f} {y!r}'",
        "JINJA": "{% if a %}{{ a.b }}{% endif %}",
        "SHELL": "${HOME}/x",
        "IMAGE": "{JUPYTER_IMAGE_SPEC}",
    }
    source = {"secretKeyRef": {"name": "s", "key": "k"}}
    own: Values = {
        **texts,
        "USER_NAME": "{username} has {braces}",
        # As daskhub's documentation writes it.
        "DASK": "{{JUPYTER_IMAGE_SPEC}}",
        "NUMBER": 1000000,
        "TRUE": True,
        "FROM": {"valueFrom": source},
        "REMOVED": None,
    }
    expected: Values = {
        **{name: {"value": text} for name, text in texts.items()},
        "USER_NAME": {"value": "ann has {braces}"},
        "DASK": {"value": "{JUPYTER_IMAGE_SPEC}"},
        "NUMBER": {"value": "1000000"},
        "TRUE": {"value": "true"},
        "FROM": {"valueFrom": source},
    }
    settings["environment"] = {"JSON": "of the facility", "SITE": "x"}
    listed = [{"name": name, **entry} for name, entry in expected.items()]
    for extra in (own, [*listed[:6], {"name": "DASK", "value": own["DASK"]}, *listed[7:]]):
        settings["values"]["singleuser"]["extraEnv"] = extra
        (notebook,) = pod(configured(settings, secrets))["spec"]["containers"]
        variables = {entry.pop("name"): entry for entry in notebook["env"]}
        assert {name: variables.get(name) for name in expected} == expected
        assert variables["SITE"] == {"value": "x"}
        assert "REMOVED" not in variables


def test_placement_and_containers_are_those_of_the_values(
    settings: Values, secrets: Path, pod: Pod
) -> None:
    user = settings["values"]["singleuser"]
    user |= {
        "cmd": "start-notebook.sh",
        "initContainers": [{"name": "first", "image": "a", "securityContext": {"runAsUser": 5}}],
        "extraContainers": {"b": {"name": "beside", "image": "b"}},
        "extraPodConfig": {"terminationGracePeriodSeconds": 5},
        "extraTolerations": [{"key": "hep", "operator": "Exists"}],
        "lifecycleHooks": {"postStart": {"exec": {"command": ["true"]}}},
        "extraResource": {"limits": {"nvidia.com/gpu": "1"}, "guarantees": {}},
        "extraAnnotations": {"note": "{username}"},
        "serviceAccountName": "with-s3",
        "cpu": {"limit": "1500m", "guarantee": "0.5"},
    }
    settings["values"]["scheduling"]["userPods"]["nodeAffinity"]["matchNodePurpose"] = "require"
    settings["priorityClass"] = "default"
    manifest = pod(configured(settings, secrets))
    spec = manifest["spec"]
    notebook, beside = spec["containers"]
    assert notebook["args"][0] == "start-notebook.sh"
    assert (beside["name"], beside["securityContext"]["capabilities"]) == (
        "beside",
        {"drop": ["ALL"]},
    )
    (first,) = spec["initContainers"]
    assert first["securityContext"]["runAsUser"] == 5
    assert first["securityContext"]["readOnlyRootFilesystem"] is True
    assert notebook["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert (notebook["resources"]["limits"]["cpu"], notebook["resources"]["requests"]["cpu"]) == (
        1.5,
        0.5,
    )
    assert spec["terminationGracePeriodSeconds"] == 5
    assert spec["enableServiceLinks"] is False
    assert spec["tolerations"][-1] == {"key": "hep", "operator": "Exists"}
    assert spec["serviceAccountName"] == "with-s3"
    assert spec["automountServiceAccountToken"] is True
    assert spec["priorityClassName"] == "default"
    assert "requiredDuringSchedulingIgnoredDuringExecution" in spec["affinity"]["nodeAffinity"]
    assert manifest["metadata"]["annotations"]["note"] == "ann"


def test_roles_of_one_name_are_united(settings: Values, secrets: Path) -> None:
    settings["values"]["hub"]["loadRoles"] = {
        "user": {"scopes": ["self", "access:services"]},
        "empty": None,
    }
    python = "c.JupyterHub.load_roles = [{'name': 'server', 'scopes': ['list:users']}]"
    for config in (configured(settings, secrets), run(settings, secrets, python)):
        names = [role["name"] for role in config.JupyterHub.load_roles]
        assert len(names) == len(set(names))
        assert {"user", "server", "idle-culler"} <= set(names)
    roles = {role["name"]: role for role in configured(settings, secrets).JupyterHub.load_roles}
    assert roles["user"]["scopes"] == ["self", "access:services"]
    joined = united_roles([{"name": "a", "users": ["x"]}, {"name": "a", "users": ["y", "x"]}])
    assert joined == [{"name": "a", "users": ["x", "y"]}]


def test_a_service_may_have_its_token_in_the_values(settings: Values, secrets: Path) -> None:
    settings["values"]["hub"]["services"] = {
        "first": {"url": "http://a", "apiToken": "of the values"},
        "second": {"url": "http://b", "api_token": "also of the values"},
        "third": {"url": "http://c", "apiToken": "of the values"},
    }
    (secrets / "hub.services.third.apiToken").write_text("of the Secret")
    hub = JupyterHub(config=configured(settings, secrets))
    tokens = {service["name"]: service.get("api_token") for service in hub.services}
    assert tokens["first"] == "of the values"
    assert tokens["second"] == "also of the values"
    assert tokens["third"] == "of the Secret"
    assert all("apiToken" not in service for service in hub.services)


def test_services_that_python_replaces_stay(settings: Values, secrets: Path) -> None:
    python = "c.JupyterHub.services = [{'name': 'own', 'api_token': 'x'}]"
    names = [service["name"] for service in run(settings, secrets, python).JupyterHub.services]
    assert names == ["own", "idle-culler"]


def test_python_reads_values_and_secrets_as_in_z2jh(settings: Values, secrets: Path) -> None:
    settings["values"]["custom"] = {"site": {"name": "T2"}}
    (secrets / "own").write_text("secret\n")
    python = """
from z2jh import get_config, get_name, get_name_env, get_secret_value, set_config_if_not_none
c.Custom.site = get_config("custom.site.name")
c.Custom.other = get_config("custom.other", "default")
c.Custom.secret = get_secret_value("own")
c.Custom.absent = get_secret_value("absent", None)
c.Custom.url = f"http://{get_name('hub')}:{get_name_env('hub', '_SERVICE_PORT')}"
set_config_if_not_none(c.Custom, "size", "singleuser.storage.capacity")
set_config_if_not_none(c.Custom, "nothing", "singleuser.nothing")
"""
    custom = run(settings, secrets, python).Custom
    assert (custom.site, custom.other, custom.secret) == ("T2", "default", "secret")
    assert (custom.absent, custom.url, custom.size) == (None, "http://hub:8081", "10Gi")
    assert "nothing" not in custom
    with pytest.raises(KeyError, match="lacks the key 'absent'"):
        z2jh.get_secret_value("absent")


class SiteSpawner(KubeSpawner):
    """A spawner as a site writes it."""


def test_a_class_of_servers_of_one_s_own_has_the_facility_s(
    settings: Values, secrets: Path
) -> None:
    settings["facilityUsers"]["enabled"] = True
    for named in (
        SiteSpawner,
        "kubespawner.KubeSpawner",
        "kubespawner.spawner.KubeSpawner",
        FacilitySpawner,
    ):
        c, facility = configured_with(settings, secrets)
        c.JupyterHub.spawner_class = named
        facility.complete(c)
        chosen = JupyterHub(config=c).spawner_class
        assert issubclass(chosen, FacilitySpawner)
        assert issubclass(chosen, SiteSpawner) == (named is SiteSpawner)
    assert spawner_of(SiteSpawner, users=False).mro()[1:3] == [ShoppeSpawner, SiteSpawner]
    with pytest.raises(SystemExit, match="SimpleLocalProcessSpawner, which starts no pods"):
        spawner_of(SimpleLocalProcessSpawner, users=True)


@pytest.mark.parametrize("section", ["Authenticator", "GenericOAuthenticator"])
def test_an_own_hook_of_the_login_comes_before_the_facility_s(
    settings: Values, secrets: Path, section: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings["facilityUsers"]["enabled"] = True
    seen: list[str] = []

    async def after_login(self: Any, authenticator: Any, handler: Any, login: Any) -> Any:
        seen.append(login["name"])
        return login

    monkeypatch.setattr("coffea_shoppe_hub.facility_users.FacilityUsers.after_login", after_login)
    python = f"""
def hook(authenticator, handler, login):
    return {{**login, "name": "renamed"}} if login["name"] == "ann" else None
c.{section}.post_auth_hook = hook
"""
    hook = run(settings, secrets, python)[section].post_auth_hook
    assert asyncio.run(hook(None, None, {"name": "ann"})) == {"name": "renamed"}
    assert asyncio.run(hook(None, None, {"name": "mallory"})) is None
    assert seen == ["renamed"]


@pytest.mark.parametrize("section", ["Authenticator", "DummyAuthenticator"])
def test_who_is_named_is_let_in_and_nobody_else(
    settings: Values, secrets: Path, section: str
) -> None:
    settings["values"]["hub"]["config"][section] = {"allowed_users": ["alice"]}
    config = configured(settings, secrets)
    assert JupyterHub(config=config).authenticator_class is SharedPasswordAuthenticator
    login = SharedPasswordAuthenticator(config=config)
    assert (login.allow_all, login.allowed_users) == (False, {"alice"})
    assert login.check_allowed("alice", None)
    assert not login.check_allowed("mallory", None)


def test_a_dummy_s_password_is_that_of_all_users(settings: Values, secrets: Path) -> None:
    settings["values"]["hub"]["config"]["DummyAuthenticator"] = {"password": "short"}
    config = configured(settings, secrets)
    assert JupyterHub(config=config).authenticator_class is DummyAuthenticator
    login = DummyAuthenticator(config=config)
    answers = [
        asyncio.run(login.authenticate(None, {"username": "ann", "password": word}))
        for word in ("short", "other")
    ]
    assert answers[0]
    assert not answers[1]


def test_a_database_s_password_reaches_its_client(
    settings: Values, secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PGPASSWORD", raising=False)
    database = {"type": "postgres", "url": "postgresql://hub@db/hub", "password": "of the values"}
    settings["values"]["hub"]["db"] |= database
    assert configured(settings, secrets).JupyterHub.db_url == database["url"]
    assert os.environ["PGPASSWORD"] == "of the values"
    (secrets / "hub.db.password").write_text("of the Secret")
    configured(settings, secrets)
    assert os.environ["PGPASSWORD"] == "of the Secret"
    monkeypatch.delenv("PGPASSWORD")


def test_a_base_path_is_that_of_the_hub(settings: Values, secrets: Path) -> None:
    settings["baseUrl"] = "/jupyter/"
    assert JupyterHub(config=configured(settings, secrets)).base_url == "/jupyter/"
