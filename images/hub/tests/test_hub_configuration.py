"""The hub's traits, from the chart's defaults and changes of them, and from the Secret."""

from pathlib import Path

import pytest
from coffea_shoppe_hub.facility_users import FacilityUsers
from coffea_shoppe_hub.spawner import FacilitySpawner, ShoppeSpawner
from hub_settings import KEYS, Values, configured, settings_of_defaults, write_secrets
from jupyterhub.app import JupyterHub
from jupyterhub.auth import Authenticator
from jupyterhub.authenticators.shared import SharedPasswordAuthenticator


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    return write_secrets(tmp_path)


@pytest.fixture
def settings() -> Values:
    return settings_of_defaults()


def test_the_hub_takes_the_traits(settings: Values, secrets: Path) -> None:
    settings["values"]["hub"] |= {"activeServerLimit": 7, "allowNamedServers": True}
    hub = JupyterHub(config=configured(settings, secrets))
    assert hub.hub_connect_url == "http://hub:8081"
    assert hub.cookie_secret == bytes.fromhex("ab" * 32)
    assert hub.db_url == "sqlite:////srv/jupyterhub/jupyterhub.sqlite"
    assert (hub.active_server_limit, hub.allow_named_servers) == (7, True)
    assert not hub.cleanup_servers, "servers outlive the hub"


def test_another_database_is_used_by_its_url(settings: Values, secrets: Path) -> None:
    settings["values"]["hub"]["db"] |= {"type": "other", "url": "postgresql://db/hub"}
    assert configured(settings, secrets).JupyterHub.db_url == "postgresql://db/hub"


@pytest.mark.parametrize("key", list(KEYS)[:3])
def test_a_key_that_the_secret_lacks_is_named(settings: Values, secrets: Path, key: str) -> None:
    (secrets / key).unlink()
    with pytest.raises(SystemExit, match=f"lacks the key '{key}': add it to hub.existingSecret"):
        configured(settings, secrets)


def test_the_home_is_a_claim_or_gone_with_the_server(settings: Values, secrets: Path) -> None:
    storage = settings["values"]["singleuser"]["storage"]
    settings["storageClass"] = "fast"
    storage["type"] = "dynamic"
    spawner = configured(settings, secrets).KubeSpawner
    name, claim = "volume-{user_server}", {"claimName": "{pvc_name}"}
    assert spawner.volumes[name] == {"name": name, "persistentVolumeClaim": claim}
    assert spawner.volume_mounts[name] == {"name": name, "mountPath": "/home/jovyan"}
    assert (spawner.storage_class, spawner.storage_pvc_ensure) == ("fast", True)
    storage["type"] = "none"
    spawner = configured(settings, secrets).KubeSpawner
    assert spawner.volumes["home"] == {"name": "home", "emptyDir": {}}
    assert "storage_pvc_ensure" not in spawner
    assert set(spawner.volume_mounts) == {"tmp", "home"}


def test_users_of_the_facility_need_the_facility_s_spawner(settings: Values, secrets: Path) -> None:
    assert configured(settings, secrets).JupyterHub.spawner_class is ShoppeSpawner
    settings["facilityUsers"] |= {"enabled": True, "timeout": 9}
    config = configured(settings, secrets)
    assert JupyterHub(config=config).spawner_class is FacilitySpawner
    users = FacilityUsers("facility", 9)
    assert config.FacilitySpawner.facility_users == users
    assert Authenticator(config=config).post_auth_hook.__self__ == users
    assert "pre_spawn_hook" not in config.KubeSpawner, "that is for the facility's own"


def test_services_have_tokens_and_users_access(settings: Values, secrets: Path) -> None:
    settings["values"]["hub"]["services"] = {
        "data": {"url": "http://data"},
        "pages": {"url": "http://pages", "oauth_redirect_uri": "/services/pages/callback"},
    }
    settings["values"]["cull"]["enabled"] = False
    for name in ("data", "pages"):
        (secrets / f"hub.services.{name}.apiToken").write_text(f"for {name}")
    hub = JupyterHub(config=configured(settings, secrets))
    tokens = {service["name"]: service["api_token"] for service in hub.services}
    assert tokens == {"data": "for data", "pages": "for pages"}
    scopes = {role["name"]: role["scopes"] for role in hub.load_roles}
    access = [f"access:services!service={name}" for name in ("data", "pages")]
    assert scopes["user"] == ["self", *access]
    assert access[0] in scopes["server"]
    assert access[1] not in scopes["server"], "a browser logs in there"
    (secrets / "hub.services.data.apiToken").unlink()
    with pytest.raises(SystemExit, match=r"hub\.services\.data\.apiToken"):
        configured(settings, secrets)


def test_the_culler_has_the_rights_that_its_options_need(settings: Values, secrets: Path) -> None:
    def culler() -> tuple[list[str], list[str]]:
        hub = JupyterHub(config=configured(settings, secrets))
        (service,) = hub.services
        (role,) = [role for role in hub.load_roles if role["name"] == "idle-culler"]
        return service["command"], role["scopes"]

    settings["values"]["hub"]["services"] = {}
    settings["values"]["cull"] |= {"enabled": True, "users": False, "removeNamedServers": False}
    command, scopes = culler()
    assert not {"--cull-users", "--remove-named-servers"} & set(command)
    assert "admin:users" not in scopes
    settings["values"]["cull"] |= {"users": True, "removeNamedServers": True}
    command, scopes = culler()
    assert {"--cull-users", "--remove-named-servers"} <= set(command)
    assert "admin:users" in scopes


def test_roles_of_the_facility_come_on_top(settings: Values, secrets: Path) -> None:
    settings["values"]["hub"]["loadRoles"] = {
        "shifters": {"scopes": ["list:users"], "groups": ["shift"]}
    }
    roles = configured(settings, secrets).JupyterHub.load_roles
    assert {"name": "shifters", "scopes": ["list:users"], "groups": ["shift"]} in roles


def test_the_demo_s_login_asks_for_a_password(settings: Values, secrets: Path) -> None:
    settings["values"]["hub"]["config"] = {"JupyterHub": {"authenticator_class": "dummy"}}
    config = configured(settings, secrets)
    hub = JupyterHub(config=config)
    assert hub.authenticator_class is SharedPasswordAuthenticator
    login = SharedPasswordAuthenticator(config=config)
    passwords = (login.user_password, login.admin_password)
    assert passwords == ("for all users", "for administrators" * 2)
    assert login.allow_all


def test_the_facility_s_traits_come_before_the_secret_s(settings: Values, secrets: Path) -> None:
    (secrets / "hub.config.GenericOAuthenticator.client_secret").write_text("of the Secret\n")
    (secrets / "hub.config.GenericOAuthenticator.client_id").write_text("of the Secret\n")
    settings["values"]["hub"]["config"] = {
        "GenericOAuthenticator": {"client_id": "of the values"},
        "KubeSpawner": {"http_timeout": 5},
    }
    config = configured(settings, secrets)
    assert config.GenericOAuthenticator.client_secret == "of the Secret"  # noqa: S105
    assert config.GenericOAuthenticator.client_id == "of the values"
    assert config.KubeSpawner.http_timeout == 5
    assert "user_password" not in config.SharedPasswordAuthenticator


def test_users_have_hosts_of_their_own_and_services_one(settings: Values, secrets: Path) -> None:
    hook = configured(settings, secrets).JupyterHub.subdomain_hook
    domain = "hub.example.org"
    for service in ("api", "mlflow"):
        assert hook(service, domain, "service") == f"all--services.{domain}"
    assert hook("ann", domain, "user") == f"ann.{domain}"
    assert hook("all--services", domain, "user") != f"all--services.{domain}"
