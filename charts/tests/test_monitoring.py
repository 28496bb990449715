"""What Prometheus reads of a facility, and with which rights."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from coffea_shoppe_hub.configuration import MONITORING
from hub_and_gateway import hub_config
from jupyterhub.app import JupyterHub
from jupyterhub.scopes import scope_definitions
from rendering import (
    Manifest,
    generated_secrets,
    nested,
    pod_specs,
    settings_of,
    template,
)
from shoppe_ci import release
from tornado.httpclient import AsyncHTTPClient, HTTPResponse
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from traitlets.config import Config

TOKEN = "hub.services.monitoring.apiToken"  # noqa: S105  (the key, not a token)
ENABLED = {"hub": {"monitoring": {"enabled": True}}}


def test_the_hub_s_monitoring_reads_metrics_and_nothing_else(tmp_path: Path) -> None:
    hub = hub_config(tmp_path, ENABLED).JupyterHub
    (service,) = (entry for entry in hub.services if entry["name"] == MONITORING)
    assert service == {
        "name": MONITORING,
        "api_token": (tmp_path / TOKEN).read_text(),
        "display": False,
    }, "no page, no entry of the menu, no administrator"
    roles = [role for role in hub.load_roles if MONITORING in role.get("services", ())]
    assert roles == [
        {"name": MONITORING, "scopes": ["read:metrics"], "services": [MONITORING]},
    ]
    assert "read:metrics" in scope_definitions
    others = [scope for role in hub.load_roles for scope in role["scopes"] if role not in roles]
    assert "read:metrics" not in others
    assert not [scope for scope in others if f"service={MONITORING}" in scope]


async def responses(config: Config, *, token: str) -> dict[str, HTTPResponse]:
    """Return what a running hub responds with to requests with a token, by path."""
    hub = JupyterHub(config=config)
    await hub.initialize([])
    listening, port = bind_unused_port()
    server = HTTPServer(hub.tornado_application)
    server.add_socket(listening)
    try:
        return {
            path: await AsyncHTTPClient().fetch(
                f"http://127.0.0.1:{port}/hub/{path}",
                headers={"Authorization": f"Bearer {token}"},
                raise_error=False,
            )
            for path in ("metrics", "api/users", "api/groups", "api/proxy")
        }
    finally:
        server.stop()


def test_a_running_hub_shows_its_metrics_to_that_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own = {"services": {"other": {"url": "http://other"}}}
    config = hub_config(tmp_path / "hub", {"hub": {**ENABLED["hub"], **own}})
    config.JupyterHub.db_url = "sqlite:///:memory:"
    statuses = {}
    for service in (MONITORING, "other"):
        token = (tmp_path / "hub" / f"hub.services.{service}.apiToken").read_text()
        received = asyncio.run(responses(config, token=token))
        statuses[service] = [response.code for response in received.values()]
        if service == MONITORING:
            text = received["metrics"].body.decode()
            assert "\njupyterhub_server_spawn_duration_seconds_count{" in text
    assert statuses == {MONITORING: [200, 403, 403, 403], "other": [403, 403, 403, 403]}


def test_a_hub_without_monitoring_has_no_such_token(tmp_path: Path) -> None:
    assert TOKEN not in generated_secrets(template("jupyterhub"))["shoppe-hub"]
    hub = hub_config(tmp_path, {}).JupyterHub
    assert MONITORING not in [entry["name"] for entry in hub.services]
    assert MONITORING not in [role["name"] for role in hub.load_roles]


def test_the_facility_generates_the_token_unless_it_is_switched_off() -> None:
    manifests = template("coffea-shoppe")
    assert generated_secrets(manifests)["shoppe-hub"][TOKEN] == {"hex": 32, "value": ""}
    values = settings_of(manifests, "hub")["values"]
    assert MONITORING not in values["hub"]["services"]
    off = {"jupyterhub": {"hub": {"monitoring": {"enabled": False}}}}
    assert TOKEN not in generated_secrets(template("coffea-shoppe", off))["shoppe-hub"]


def test_the_token_is_among_the_printed_secrets() -> None:
    printed = json.loads(release.new_secrets())["items"]
    (hub,) = (secret for secret in printed if secret["metadata"]["name"] == "shoppe-hub")
    assert TOKEN in hub["data"]


def test_an_existing_secret_needs_the_token(tmp_path: Path) -> None:
    existing: dict[str, Any] = {"hub": {**ENABLED["hub"], "existingSecret": "mine"}}
    with pytest.raises(SystemExit, match=f"the hub's Secret lacks the key '{TOKEN}'"):
        hub_config(tmp_path / "without", existing)
    (tmp_path / "with").mkdir()
    (tmp_path / "with" / TOKEN).write_text("for Prometheus")
    services = hub_config(tmp_path / "with", existing).JupyterHub.services
    assert {entry["name"]: entry.get("api_token") for entry in services}[MONITORING] == (
        "for Prometheus"
    )


def test_a_service_of_that_name_gets_the_right_and_keeps_its_fields(tmp_path: Path) -> None:
    own = {"services": {MONITORING: {"url": "http://grafana", "apiToken": "of the values"}}}
    hub = hub_config(tmp_path, {"hub": {**ENABLED["hub"], **own}}).JupyterHub
    (service,) = (entry for entry in hub.services if entry["name"] == MONITORING)
    assert (service["url"], service["api_token"]) == ("http://grafana", "of the values")
    assert ["read:metrics"] in [role["scopes"] for role in hub.load_roles]


def pod_of(manifests: list[Manifest], name: str) -> Manifest:
    """Return the pod of a Deployment or StatefulSet."""
    (pod,) = (spec for workload, _, spec in pod_specs(manifests) if workload == name)
    return pod


@pytest.mark.parametrize(
    ("name", "container"),
    [("shoppe-dask-gateway", "gateway"), ("shoppe-objectstore", "exporter")],
)
def test_a_service_leads_to_the_counters(name: str, container: str) -> None:
    manifests = template("coffea-shoppe")
    (service,) = (m for m in manifests if (m["kind"], m["metadata"]["name"]) == ("Service", name))
    ports = {port["name"]: port for port in service["spec"]["ports"]}
    assert ports["metrics"] == {"name": "metrics", "port": 9090, "targetPort": "metrics"}
    (exporter,) = (c for c in pod_of(manifests, name)["containers"] if c["name"] == container)
    assert {"name": "metrics", "containerPort": 9090} in exporter["ports"]


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("shoppe-dask-gateway", "dask-gateway.gateway.networkPolicy.monitoring"),
        ("shoppe-objectstore", "objectstore.networkPolicy.monitoring"),
    ],
)
def test_the_peers_that_read_counters_are_values(name: str, key: str) -> None:
    peers = [{"ipBlock": {"cidr": "192.0.2.1/32"}}]
    for chosen in (peers, []):
        manifests = template("coffea-shoppe", nested(key, chosen))
        (policy,) = (
            m for m in manifests if (m["kind"], m["metadata"]["name"]) == ("NetworkPolicy", name)
        )
        rules = [
            rule.get("from")
            for rule in policy["spec"]["ingress"]
            if {"port": "metrics"} in rule["ports"]
        ]
        assert rules == ([chosen] if chosen else [])


def test_the_store_and_its_exporter_share_a_text_that_no_request_knows() -> None:
    pod = pod_of(template("objectstore"), "shoppe-objectstore")
    store, exporter = pod["containers"]
    (receiver,) = (word for word in store["args"] if word.startswith("--metrics-statsd-servers="))
    assert receiver.endswith("=127.0.0.1:8125")
    assert store["args"].index(receiver) < store["args"].index("posix")
    sources = [
        {entry["name"]: entry["valueFrom"] for entry in container["env"]}
        for container in (store, exporter)
    ]
    uid = {"fieldRef": {"fieldPath": "metadata.uid"}}
    assert sources[0]["VGW_METRICS_SERVICE_NAME"] == sources[1]["POD_UID"] == uid
    assert exporter["args"] == ["objectstore-exporter", "--service=$(POD_UID)"]
