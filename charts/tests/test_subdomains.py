"""With a subdomainHost, each user's server has a host of its own, and the services one for all."""

from typing import Any

import pytest
import yaml
from rendering import HelmError, containers, settings_of

HUB, SERVICES = "https://hub.example.org:8443", "https://all--services.hub.example.org:8443"


def rendered(render: Any, values: dict[str, Any]) -> tuple[list[str], Any, Any]:
    """Return the proxy's arguments, the hub's settings and the facility API's settings."""
    manifests = render("coffea-shoppe", values)
    maps = {m["metadata"]["name"]: m["data"] for m in manifests if m["kind"] == "ConfigMap"}
    hub = settings_of(manifests, "hub")
    operator = yaml.safe_load(maps["shoppe-operator"]["operator.yaml"])
    return dict(containers(manifests))["shoppe-proxy/chp"]["args"], hub, operator["hub"]


def test_hub_proxy_and_logins_follow_the_address(render: Any) -> None:
    values = {"global": {"services": {"jupyterhub": {"subdomainHost": f"{HUB}/"}}}}
    proxy, hub, api = rendered(render, values)
    assert "--host-routing" in proxy
    assert hub["values"]["hub"]["config"]["JupyterHub"]["subdomain_host"] == HUB
    assert (api["publicUrl"], api["servicesUrl"]) == (HUB, SERVICES)
    callback = hub["values"]["hub"]["services"]["api"]["oauth_redirect_uri"]
    assert callback == f"{SERVICES}/services/api/callback"
    assert SERVICES.startswith(f"https://{hub['servicesLabel']}.")


def test_by_default_all_is_on_one_host(render: Any) -> None:
    proxy, hub, api = rendered(render, {})
    assert "--host-routing" not in proxy
    assert "subdomain_host" not in hub["values"]["hub"]["config"]["JupyterHub"]
    assert (api["publicUrl"], api["servicesUrl"]) == ("", "")
    assert hub["values"]["hub"]["services"]["api"]["oauth_redirect_uri"] == "/services/api/callback"


def test_the_hub_s_own_key_alone_is_refused(render: Any) -> None:
    values = {"jupyterhub": {"hub": {"config": {"JupyterHub": {"subdomain_host": HUB}}}}}
    with pytest.raises(HelmError, match=r"set global\.services\.jupyterhub\.subdomainHost"):
        render("coffea-shoppe", values)


def test_an_address_with_a_path_is_refused(render: Any) -> None:
    values = {"hub": {"config": {"JupyterHub": {"subdomain_host": "hub.example.org/x"}}}}
    with pytest.raises(HelmError, match=r"to the hub's address without a path"):
        render("jupyterhub", values)
