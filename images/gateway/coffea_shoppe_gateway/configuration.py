"""The configuration of dask-gateway's server and controller, from the chart's values."""

from pathlib import Path

from traitlets.config import Config

from coffea_shoppe_gateway.backend import LimitedKubeBackend
from coffea_shoppe_gateway.clusters import Settings, cluster_options, describe_pods
from coffea_shoppe_gateway.limits import GIB, Limits


def configure(c: Config, settings: Settings, *, secrets: Path) -> None:
    """Set all traits of the server and of the controller.

    `settings` are the chart's values with their templates expanded (`settings.yaml`),
    `secrets` the folder of the server's Secret; the controller has none.
    """
    _server(c, settings, secrets)
    for part in (c.KubeBackend, c.KubeController):
        part.gateway_instance = settings["instance"]
        part.common_labels = settings["labels"]
    _controller(c, settings)
    describe_pods(c.KubeClusterConfig, settings)
    c.Backend.cluster_options = cluster_options(c.KubeClusterConfig, settings)


def _server(c: Config, settings: Settings, secrets: Path) -> None:
    gateway = settings["gateway"]
    c.DaskGateway.log_level = gateway["loglevel"]
    c.DaskGateway.address = ":8000"
    c.DaskGateway.backend_class = LimitedKubeBackend
    if gateway["auth"]["type"] == "simple":
        c.DaskGateway.authenticator_class = "dask_gateway_server.auth.SimpleAuthenticator"
        password = secrets / "password"
        if password.exists():
            c.SimpleAuthenticator.password = password.read_text().strip()
    else:
        c.DaskGateway.authenticator_class = "dask_gateway_server.auth.JupyterHubAuthenticator"
        hub = gateway["auth"]["jupyterhub"]
        c.JupyterHubAuthenticator.jupyterhub_api_url = hub["apiUrl"]
        c.JupyterHubAuthenticator.jupyterhub_service_name = hub["serviceName"]
        token = secrets / "api-token"
        if token.exists():
            c.JupyterHubAuthenticator.jupyterhub_api_token = token.read_text().strip()
    c.Authenticator.cache_max_age = gateway["auth"]["cacheMaxAge"]
    limits = gateway["limits"]
    c.LimitedKubeBackend.facility_users = settings["facilityUsers"]
    c.LimitedKubeBackend.limits = Limits(
        clusters=limits["clusters"], cores=limits["cores"], memory=limits["memoryGiB"] * GIB
    )


def _controller(c: Config, settings: Settings) -> None:
    controller = settings["controller"]
    c.KubeController.log_level = controller["loglevel"]
    c.KubeController.address = ":8000"
    c.KubeController.api_url = settings["apiUrl"]
    c.KubeController.completed_cluster_max_age = controller["completedClusterMaxAge"]
    c.KubeController.completed_cluster_cleanup_period = controller["completedClusterCleanupPeriod"]
    c.KubeController.k8s_api_rate_limit = controller["k8sApiRateLimit"]
    c.KubeController.k8s_api_rate_limit_burst = controller["k8sApiRateLimitBurst"]
    c.KubeController.proxy_prefix = settings["gateway"]["prefix"]
    c.KubeController.proxy_web_entrypoint = "web"
    c.KubeController.proxy_tcp_entrypoint = "web"
    # They are in Traefik's file of routes.
    c.KubeController.proxy_web_middlewares = [
        {"name": f"{name}@file"}
        for name in ("authorize-dashboard", "drop-authorization", "strip-cluster-prefix")
    ]
