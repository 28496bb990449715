"""The traits of gateway and controller, from the chart's defaults and changes of them."""

import asyncio
import re
from pathlib import Path

import pytest
from coffea_shoppe_contract.files import IDENTITY_FOLDER
from coffea_shoppe_contract.resources import USER_LABEL
from coffea_shoppe_gateway.backend import LimitedKubeBackend
from coffea_shoppe_gateway.limits import GIB, Limits
from dask_gateway_server.auth import JupyterHubAuthenticator, SimpleAuthenticator
from dask_gateway_server.models import User
from gateway_helpers import config_of, settings_of
from kube_api import Object
from traitlets.config import Config


def cluster(config: Config, **choice: object) -> Object:
    """Return the configuration of a cluster that ann starts."""
    backend = LimitedKubeBackend(config=config)
    _, chosen = asyncio.run(backend.process_cluster_options(User("ann"), choice))
    configuration: Object = chosen.to_dict()
    return configuration


def test_the_limits_are_in_bytes(tmp_path: Path) -> None:
    limits = {"clusters": 3, "cores": 2, "memoryGiB": 5}
    backend = LimitedKubeBackend(config=config_of(settings_of(limits=limits), tmp_path))
    assert backend.limits == Limits(clusters=3, cores=2, memory=5 * GIB)
    assert backend.facility_users == ""


def test_logins_are_the_hub_s_or_by_one_password(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("for all\n")
    (tmp_path / "api-token").write_text("for the hub\n")
    simple = config_of(settings_of(), tmp_path)
    assert SimpleAuthenticator(config=simple).password == "for all"  # noqa: S105
    settings = settings_of(auth={"type": "jupyterhub"})
    authenticator = JupyterHubAuthenticator(config=config_of(settings, tmp_path))
    assert authenticator.jupyterhub_api_token == "for the hub"  # noqa: S105
    assert authenticator.jupyterhub_api_url == "http://hub/api"
    assert authenticator.cache_max_age == 30
    # The controller reads the same file, without the Secret.
    (tmp_path / "api-token").unlink()
    assert "jupyterhub_api_token" not in config_of(settings, tmp_path).JupyterHubAuthenticator


def test_pods_get_their_user_s_tokens_where_the_facility_has_them(tmp_path: Path) -> None:
    settings = settings_of() | {"userSecrets": True}
    configuration = cluster(config_of(settings, tmp_path))
    for kind in ("scheduler", "worker"):
        volumes = configuration[f"{kind}_extra_pod_config"]["volumes"]
        assert [volume["name"] for volume in volumes] == ["identity", "tmp"]
        assert volumes[0]["secret"] == {"secretName": "shoppe-user-ann", "optional": True}
        mounts = configuration[f"{kind}_extra_container_config"]["volumeMounts"]
        assert [mount["mountPath"] for mount in mounts] == [IDENTITY_FOLDER, "/tmp"]  # noqa: S108
        assert configuration[f"{kind}_extra_pod_labels"] == {USER_LABEL: "ann"}
    settings["userSecrets"] = False
    assert "identity" not in str(cluster(config_of(settings, tmp_path)))


def test_what_the_facility_adds_to_workers_is_joined(tmp_path: Path) -> None:
    worker = settings_of()["values"]["gateway"]["backend"]["worker"]
    worker["extraPodConfig"] = {
        "volumes": [{"name": "data", "hostPath": {"path": "/data"}}],
        "enableServiceLinks": True,
        "securityContext": {"supplementalGroups": [7]},
    }
    worker["extraContainerConfig"] = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    settings = settings_of(backend={"worker": worker}) | {"userSecrets": True}
    configuration = cluster(config_of(settings, tmp_path))
    pod = configuration["worker_extra_pod_config"]
    assert [volume["name"] for volume in pod["volumes"]] == ["identity", "tmp", "data"]
    assert pod["enableServiceLinks"] is True
    assert pod["securityContext"] == {"runAsNonRoot": True, "supplementalGroups": [7]}
    scheduler = configuration["scheduler_extra_pod_config"]
    assert [volume["name"] for volume in scheduler["volumes"]] == ["identity", "tmp"]


def test_a_pattern_that_is_none_is_an_error_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(re.error, match="unterminated"):
        config_of(settings_of(options={"imagePatterns": ["(a"]}), tmp_path)
    config_of(settings_of(options={"imagePatterns": ["(a)"]}), tmp_path)
