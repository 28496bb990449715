"""The configuration files that the charts mount: read as the servers read them."""

from pathlib import Path
from typing import Any

from coffea_shoppe_gateway.backend import LimitedKubeBackend
from coffea_shoppe_gateway.controller import ReportingKubeController
from coffea_shoppe_hub.spawner import FacilitySpawner
from dask_gateway_server.app import DaskGateway
from dask_gateway_server.models import User
from hub_and_gateway import SECRETS, gateway_config, hub_config
from jupyterhub.app import JupyterHub
from rendering import Manifest, pod_specs


def test_no_configmap_holds_a_module(manifests: list[Manifest]) -> None:
    modules = [
        name
        for manifest in manifests
        if manifest["kind"] == "ConfigMap"
        for name in manifest["data"]
        if name.endswith(".py")
    ]
    assert all(name.endswith("_config.py") for name in modules), modules
    for name, _, spec in pod_specs(manifests):
        for container in spec["containers"] + spec.get("initContainers", []):
            assert "PYTHONPATH" not in {e["name"] for e in container.get("env", [])}, name


def test_the_hub_reads_what_the_chart_renders(tmp_path: Path) -> None:
    values = {
        "hub": {
            "facilityUsers": {"enabled": True},
            "services": {"gateway": {"url": "http://gateway.{{ .Release.Namespace }}"}},
            "extraConfig": {
                "2-last": "c.KubeSpawner.http_timeout = 7",
                "1-first": "c.KubeSpawner.http_timeout = 6",
            },
        },
        "singleuser": {"memory": {"limit": "3G"}, "profileList": [{"display_name": "Small"}]},
    }
    hub = JupyterHub(config=hub_config(tmp_path, values))
    assert hub.spawner_class is FacilitySpawner
    assert [service["name"] for service in hub.services][:1] == ["gateway"]
    assert hub.services[0]["url"] == "http://gateway.facility"
    spawner: Any = hub.config.KubeSpawner
    assert (spawner.namespace, spawner.mem_limit, spawner.http_timeout) == ("facility", "3G", 7)


def test_the_gateway_and_its_controller_read_what_the_chart_renders(tmp_path: Path) -> None:
    values = {
        "limits": {"clusters": 3, "cores": 5},
        "extraConfig": {"mine": "c.KubeClusterConfig.worker_threads = 3"},
    }
    config = gateway_config(tmp_path, {"gateway": values})
    gateway = DaskGateway(config=config)
    assert gateway.backend_class is LimitedKubeBackend
    assert gateway.authenticator_class(parent=gateway).password == SECRETS["password"]
    backend = LimitedKubeBackend(parent=gateway)
    assert (backend.limits.clusters, backend.limits.cores) == (3, 5)
    controller = ReportingKubeController(config=config)
    assert controller.gateway_instance == backend.gateway_instance
    assert controller.proxy_web_entrypoint == "web"
    options = backend.cluster_options
    chosen = options.parse_options({"worker_cores": 2})
    cluster = backend.cluster_config_class(
        parent=backend, **options.get_configuration(chosen, User("ann"))
    )
    assert (cluster.worker_cores_limit, cluster.scheduler_cmd) == (2, ["dask", "scheduler"])
