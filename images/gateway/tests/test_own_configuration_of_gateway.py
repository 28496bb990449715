"""Options, handlers and classes of an administrator's Python keep the facility's pods."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from coffea_shoppe_contract.files import IDENTITY_FOLDER
from coffea_shoppe_contract.resources import USER_LABEL
from coffea_shoppe_gateway.backend import LimitedKubeBackend
from coffea_shoppe_gateway.configuration import complete
from dask_gateway_server.backends.kubernetes import KubeBackend
from dask_gateway_server.backends.local import LocalBackend
from dask_gateway_server.models import User
from dask_gateway_server.options import Options, String
from gateway_helpers import config_of, settings_of
from kube_api import Object
from traitlets.config import Config


def own_options() -> Options:
    """Return options as a site writes them: their handler replaces traits of the pods."""

    def handler(options: Any) -> dict[str, Any]:
        return {
            "image": options.image,
            "environment": {"SITE": "T2"},
            "worker_extra_pod_config": {
                "volumes": [{"name": "cvmfs", "hostPath": {"path": "/cvmfs"}}],
                "securityContext": {"supplementalGroups": [7]},
            },
            "worker_extra_container_config": {
                "volumeMounts": [{"name": "cvmfs", "mountPath": "/cvmfs"}],
            },
            "worker_extra_pod_labels": {"billing": "hep"},
        }

    return Options(String("image", default="own:1"), handler=handler)


def cluster(config: Config) -> Object:
    """Return the configuration of a cluster that ann starts."""
    backend = LimitedKubeBackend(config=config)
    _, chosen = asyncio.run(backend.process_cluster_options(User("ann"), {}))
    configuration: Object = chosen.to_dict()
    return configuration


@pytest.mark.parametrize("section", ["Backend", "KubeBackend", "LimitedKubeBackend"])
@pytest.mark.parametrize("for_each_user", [False, True])
def test_with_own_options_pods_keep_tokens_labels_and_tmp(
    tmp_path: Path, section: str, for_each_user: bool
) -> None:
    config = config_of(settings_of() | {"userSecrets": True}, tmp_path)
    own: Any = (lambda user: own_options()) if for_each_user else own_options()
    config[section].cluster_options = own
    complete(config)
    configuration = cluster(config)
    assert configuration["image"] == "own:1"
    environment = configuration["environment"]
    assert (environment["SITE"], environment["HOME"]) == ("T2", "/tmp")  # noqa: S108
    pod = configuration["worker_extra_pod_config"]
    assert {volume["name"] for volume in pod["volumes"]} == {"tmp", "identity", "cvmfs"}
    assert pod["securityContext"] == {"runAsNonRoot": True, "supplementalGroups": [7]}
    container = configuration["worker_extra_container_config"]
    paths = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert paths == {"/tmp", IDENTITY_FOLDER, "/cvmfs"}  # noqa: S108
    assert container["securityContext"] == {"readOnlyRootFilesystem": True}
    labels = {"billing": "hep", USER_LABEL: "ann"}
    assert configuration["worker_extra_pod_labels"] == labels
    scheduler = configuration["scheduler_extra_pod_config"]
    assert {volume["name"] for volume in scheduler["volumes"]} == {"tmp", "identity"}


def test_traits_that_python_replaces_keep_the_facility_s(tmp_path: Path) -> None:
    config = config_of(settings_of() | {"userSecrets": True}, tmp_path)
    tmp = {"name": "tmp", "emptyDir": {"medium": "Memory"}}
    config.KubeClusterConfig.worker_extra_pod_config = {"volumes": [tmp]}
    volumes = cluster(config)["worker_extra_pod_config"]["volumes"]
    assert [volume["name"] for volume in volumes] == ["identity", "tmp"]
    assert volumes[1] == tmp


class SiteBackend(KubeBackend):
    """A backend as a site writes it."""


def test_a_backend_of_one_s_own_has_the_facility_s_limits(tmp_path: Path) -> None:
    for named in (SiteBackend, "dask_gateway_server.backends.kubernetes.KubeBackend"):
        config = config_of(settings_of(), tmp_path)
        config.DaskGateway.backend_class = named
        complete(config)
        chosen = config.DaskGateway.backend_class
        assert issubclass(chosen, LimitedKubeBackend)
        assert issubclass(chosen, SiteBackend) == (named is SiteBackend)
    config = config_of(settings_of(), tmp_path)
    complete(config)
    assert config.DaskGateway.backend_class is LimitedKubeBackend
    config.DaskGateway.backend_class = LocalBackend
    with pytest.raises(SystemExit, match="which starts no pods"):
        complete(config)


def test_an_authenticator_of_one_s_own_has_its_traits(tmp_path: Path) -> None:
    custom = {"class": "site.auth.SiteAuthenticator", "config": {"realm": "SITE"}}
    config = config_of(settings_of(auth={"type": "custom", "custom": custom}), tmp_path)
    assert config.DaskGateway.authenticator_class == "site.auth.SiteAuthenticator"
    assert config.SiteAuthenticator.realm == "SITE"


def test_sizes_and_limits_that_are_null_are_dask_gateway_s_own(tmp_path: Path) -> None:
    settings = settings_of()
    gateway = settings["values"]["gateway"]
    gateway["backend"]["worker"] = {"cores": {"limit": 3}}
    gateway["backend"].pop("environment")
    for key in ("limits", "options", "clusterIdleTimeout", "loglevel"):
        gateway.pop(key)
    settings["values"]["controller"] = {}
    config = config_of(settings, tmp_path)
    assert cluster(config)["worker_cores_limit"] == 3
    assert "worker_memory" not in config.KubeClusterConfig
    assert LimitedKubeBackend(config=config).limits.clusters == 0
