"""A trait or class that no class of the hub has is refused with the nearest name."""

from pathlib import Path

import pytest
from hub_settings import Values, configured, configured_with, settings_of_defaults, write_secrets


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"JupyterHub": {"admin_acces": True}}, "JupyterHub.admin_acces: .* mean admin_access"),
        ({"KubeSpawner": {"start_timout": 9}}, "KubeSpawner.start_timout: .* start_timeout"),
        ({"Authenticator": {"allowed_user": ["a"]}}, "allowed_user: .* mean allowed_users"),
        ({"GenericOAuthenticator": {"token_ur": "x"}}, "token_ur: .* mean token_url"),
        ({"GenericOauthenticator": {"token_url": "x"}}, "mean GenericOAuthenticator"),
        ({"KubeSpwaner": {"start_timeout": 9}}, "KubeSpwaner: .* mean KubeSpawner"),
        ({"JupyterHub": {"authenticator_class": "generic-oath"}}, "mean generic-oauth"),
        ({"JupyterHub": {"authenticator_class": "zzz"}}, "there are .*generic-oauth"),
        ({"JupyterHub": {"spawner_class": "kubspawner.KubeSpawner"}}, "JupyterHub.spawner_class"),
    ],
)
def test_a_misspelt_name_is_refused_with_the_nearest(
    tmp_path: Path, config: Values, message: str
) -> None:
    settings = settings_of_defaults()
    for section, traits in config.items():
        settings["values"]["hub"]["config"].setdefault(section, {}).update(traits)
    with pytest.raises(SystemExit, match=message):
        configured(settings, write_secrets(tmp_path))


def test_all_misspelt_names_are_in_one_message(tmp_path: Path) -> None:
    c, facility = configured_with(settings_of_defaults(), write_secrets(tmp_path))
    c.KubeSpawner.imag, c.Authenticator.admin_user = "a:1", {"ann"}
    with pytest.raises(SystemExit, match=r"(?s)KubeSpawner\.imag.*Authenticator\.admin_user"):
        facility.complete(c)


def test_a_trait_that_is_like_no_other_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_of_defaults()
    settings["values"]["hub"]["config"]["KubeSpawner"] = {"of_an_old_release": 1}
    configured(settings, write_secrets(tmp_path))
    assert "KubeSpawner.of_an_old_release has no effect" in caplog.text


@pytest.mark.parametrize(
    "authenticator",
    ["dummy", "generic-oauth", "oauthenticator.generic.GenericOAuthenticator", "github"],
)
def test_traits_that_a_class_reads_are_taken(tmp_path: Path, authenticator: str) -> None:
    settings = settings_of_defaults()
    settings["facilityUsers"]["enabled"] = True
    settings["values"]["hub"]["config"] |= {
        "JupyterHub": {"authenticator_class": authenticator},
        # A base's section also has traits of the class that is used.
        "Spawner": {"image": "notebook:2", "http_timeout": 60},
        "Authenticator": {"enable_auth_state": True, "manage_groups": True},
        "GenericOAuthenticator": {"client_id": "facility", "scope": ["openid"]},
        "GitHubOAuthenticator": {"allowed_organizations": ["hep"]},
        "CryptKeeper": {"n_threads": 2},
        "Facility": {"site": "T2"},
    }
    assert configured(settings, write_secrets(tmp_path)).Facility.site == "T2"
