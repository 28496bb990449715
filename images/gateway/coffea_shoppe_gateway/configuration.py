"""The configuration of dask-gateway's server and controller, from the chart's values."""

from pathlib import Path
from typing import Any

from dask_gateway_server.backends.kubernetes import KubeBackend
from traitlets.config import Config
from traitlets.utils.importstring import import_item

from coffea_shoppe_gateway.backend import LimitedKubeBackend
from coffea_shoppe_gateway.clusters import Settings, cluster_options, describe_pods, lookup
from coffea_shoppe_gateway.limits import GIB, Limits

CONTROLLER_TRAITS = {
    "log_level": "loglevel",
    "completed_cluster_max_age": "completedClusterMaxAge",
    "completed_cluster_cleanup_period": "completedClusterCleanupPeriod",
    "backoff_base_delay": "backoffBaseDelay",
    "backoff_max_delay": "backoffMaxDelay",
    "k8s_api_rate_limit": "k8sApiRateLimit",
    "k8s_api_rate_limit_burst": "k8sApiRateLimitBurst",
}
"""Trait of `KubeController` → key below `controller`; null sets nothing."""


def configure(c: Config, settings: Settings, *, secrets: Path) -> None:
    """Set all traits of the server and of the controller.

    `settings` are the chart's values and what follows from them (`settings.yaml`), `secrets` the
    folder of the server's Secret; the controller has none.
    """
    _server(c, settings, secrets)
    for part in (c.KubeBackend, c.KubeController):
        part.gateway_instance = settings["instance"]
        part.common_labels = settings["labels"]
    _controller(c, settings)
    describe_pods(c.KubeClusterConfig, settings)
    c.Backend.cluster_options = cluster_options(settings)
    c.LimitedKubeBackend.facility = settings


def complete(c: Config) -> None:
    """Add to the configuration what the facility needs and `gateway.extraConfig` has replaced.

    Exits with the reason for a backend that cannot have a user's limits.
    """
    configured: Any = c.DaskGateway.backend_class
    if isinstance(configured, str):
        configured = import_item(configured)
    if issubclass(configured, LimitedKubeBackend):
        return
    if not issubclass(configured, KubeBackend):
        raise SystemExit(
            f"DaskGateway.backend_class is {configured.__name__}, which starts no pods in "
            "Kubernetes: derive the class from KubeBackend, or remove the line"
        )
    # A class of theirs comes after the facility's, which calls it.
    bases = (LimitedKubeBackend,) if configured is KubeBackend else (LimitedKubeBackend, configured)
    c.DaskGateway.backend_class = type(configured.__name__, bases, {})


def _server(c: Config, settings: Settings, secrets: Path) -> None:
    gateway = settings["values"].get("gateway") or {}
    if gateway.get("loglevel"):
        c.DaskGateway.log_level = gateway["loglevel"]
    c.DaskGateway.address = ":8000"
    c.DaskGateway.backend_class = LimitedKubeBackend
    kind = lookup(gateway, "auth.type") or "jupyterhub"
    if kind == "simple":
        c.DaskGateway.authenticator_class = "dask_gateway_server.auth.SimpleAuthenticator"
        password = secrets / "password"
        if password.exists():
            c.SimpleAuthenticator.password = password.read_text().strip()
    elif kind == "custom":
        path = lookup(gateway, "auth.custom.class")
        c.DaskGateway.authenticator_class = path
        section = c[path.rpartition(".")[2]]
        for trait, value in (lookup(gateway, "auth.custom.config") or {}).items():
            section[trait] = value
    else:
        c.DaskGateway.authenticator_class = "dask_gateway_server.auth.JupyterHubAuthenticator"
        c.JupyterHubAuthenticator.jupyterhub_api_url = settings["hubUrl"]
        c.JupyterHubAuthenticator.jupyterhub_service_name = settings["hubService"]
        token = secrets / "api-token"
        if token.exists():
            c.JupyterHubAuthenticator.jupyterhub_api_token = token.read_text().strip()
    age = lookup(gateway, "auth.cacheMaxAge")
    # Without a value 30 seconds as in the chart: a revoked token must stop working.
    c.Authenticator.cache_max_age = 30 if age is None else age
    c.LimitedKubeBackend.metrics_port = 9090
    limits = gateway.get("limits") or {}
    c.LimitedKubeBackend.facility_users = settings["facilityUsers"]
    c.LimitedKubeBackend.limits = Limits(
        clusters=limits.get("clusters") or 0,
        cores=limits.get("cores") or 0,
        memory=(limits.get("memoryGiB") or 0) * GIB,
    )


def _controller(c: Config, settings: Settings) -> None:
    controller = settings["values"].get("controller") or {}
    c.KubeController.address = ":8000"
    c.KubeController.api_url = settings["apiUrl"]
    for trait, key in CONTROLLER_TRAITS.items():
        if controller.get(key) is not None:
            c.KubeController[trait] = controller[key]
    c.KubeController.proxy_prefix = settings["prefix"]
    c.KubeController.proxy_web_entrypoint = "web"
    c.KubeController.proxy_tcp_entrypoint = settings["tcpEntrypoint"]
    # They are in Traefik's file of routes.
    c.KubeController.proxy_web_middlewares = [
        {"name": f"{name}@file"}
        for name in ("authorize-dashboard", "drop-authorization", "strip-cluster-prefix")
    ]
