"""Each component installs alone, beside the facility, and is ready."""

import base64
import json
import secrets
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait

import pytest
from coffea_shoppe_contract.resources import API_GROUP, API_VERSION, FACILITY_USERS
from shoppe_ci import catalogue, release
from shoppe_ci.cluster import Cluster
from shoppe_ci.paths import CHARTS
from shoppe_ci.wait import eventually

ALONE = catalogue.alone()
DATABASE = {"postgres": {"existingDatabaseSecret": "alone-servicex-db-postgresql-servicex"}}
"""Of ServiceX: the Secret that its own PostgreSQL makes."""

# What a component cannot be without: another chart, in the same namespace.
NEEDED = {"servicex": ("postgresql", {"databases": ["servicex"]})}


@pytest.fixture(scope="module")
def installs(facility: Cluster) -> Iterator[dict[str, Future[None]]]:
    """How the installation of each component alone went; removed at the end."""

    def install(chart: str) -> None:
        name = f"alone-{chart}"
        if chart in NEEDED:
            other, needed = NEEDED[chart]
            release.install(facility, CHARTS / other, needed, name=f"{name}-db", namespace=name)
        values = [ALONE[chart], *([DATABASE] if chart in NEEDED else [])]
        release.install(facility, CHARTS / chart, *values, name=name, namespace=name)

    def remove(chart: str) -> None:
        names = [f"alone-{chart}", *([f"alone-{chart}-db"] if chart in NEEDED else [])]
        for name in names:
            release.uninstall(facility, name=name, namespace=f"alone-{chart}")
        facility.kubectl("delete", "namespace", f"alone-{chart}", "--wait=false")

    # Most of an installation is waiting.
    with ThreadPoolExecutor(3) as pool:
        found = {chart: pool.submit(install, chart) for chart in ALONE}
        wait(found.values())
        yield found
        for done in [pool.submit(remove, chart) for chart in found]:
            done.result()


@pytest.mark.parametrize("component", ALONE)
def test_a_component_is_ready_alone(
    component: str, installs: dict[str, Future[None]], facility: Cluster
) -> None:
    installs[component].result()

    def ready() -> bool:
        workloads = release.workloads(facility, f"alone-{component}")
        return bool(workloads) and all(
            item["status"].get("readyReplicas") == item["spec"]["replicas"] for item in workloads
        )

    # Helm has waited for this, but a pod may have been restarted since.
    eventually(ready, f"all pods of {component} are ready", timeout=60)


def test_users_are_removed_before_the_operator(
    installs: dict[str, Future[None]], facility: Cluster
) -> None:
    installs.pop("operator").result()
    name = "alone-operator"
    user = {"name": "left", "namespace": name}
    kind = {"apiVersion": f"{API_GROUP}/{API_VERSION}", "kind": "FacilityUser"}
    facility.apply({**kind, "metadata": user, "spec": {"username": "left"}})
    eventually(
        lambda: facility.get(FACILITY_USERS, "left", "-n", name)["metadata"].get("finalizers"),
        "the operator sees to the user",
        timeout=60,
    )
    release.uninstall(facility, name=name, namespace=name)
    assert not facility.get(FACILITY_USERS, "-n", name)["items"]
    assert not release.workloads(facility, name)
    facility.kubectl("delete", "namespace", name, "--wait=false")


# What docs/reference/secrets.md lists, and the secret of an OIDC client.
SECRET = {
    "hub.config.CryptKeeper.keys": secrets.token_hex(32),
    "hub.config.ConfigurableHTTPProxy.auth_token": secrets.token_hex(32),
    "hub.config.JupyterHub.cookie_secret": secrets.token_hex(32),
    "hub.config.SharedPasswordAuthenticator.user_password": secrets.token_hex(12),
    "hub.config.SharedPasswordAuthenticator.admin_password": secrets.token_hex(20),
    "hub.config.GenericOAuthenticator.client_secret": secrets.token_hex(20),
}
SCHEDULER, PAUSE = "registry.k8s.io/kube-scheduler", "registry.k8s.io/pause"
OIDC = {
    "client_id": "coffea-shoppe",
    "authorize_url": "https://idp.example.org/authorize",
    "token_url": "https://idp.example.org/token",
    "userdata_url": "https://idp.example.org/userinfo",
    "oauth_callback_url": "https://facility.example.org/hub/oauth_callback",
    "username_claim": "preferred_username",
    "allow_all": True,
}
ASK = """
import http.client, sys
hub = http.client.HTTPConnection("127.0.0.1", 8081, timeout=20)
hub.request("GET", sys.argv[1])
response = hub.getresponse()
print(response.status, response.getheader("Location", ""))
"""


def image(cluster: Cluster, name: str) -> dict[str, str]:
    """Return an image that the cluster's own pods use, as values have it."""
    (node,) = cluster.get("nodes")["items"]
    images = [text for entry in node["status"]["images"] for text in entry["names"]]
    tags = {text.removeprefix(f"{name}:") for text in images if text.startswith(f"{name}:")}
    return {"name": name, "tag": max(tags)}


@pytest.fixture(scope="module")
def oidc_hub(facility: Cluster) -> Iterator[str]:
    """A hub whose users come from an OIDC provider, its secrets from the operator."""
    name = "alone-oidc"
    release.ensure_namespace(facility, name)
    facility.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "own", "namespace": name},
            "stringData": SECRET,
        }
    )
    config = {
        "JupyterHub": {"authenticator_class": "generic-oauth"},
        "GenericOAuthenticator": OIDC,
    }
    # What all stories request at once must fit on a node of two cores.
    small = {"resources": {"requests": {"cpu": "1m", "memory": "8Mi"}}}
    scheduler = {"enabled": True, "replicas": 1, "image": image(facility, SCHEDULER)}
    values = {
        "proxy": {"service": {"type": "ClusterIP"}, "chp": small},
        "hub": {"existingSecret": "own", "config": config, **small},
        "scheduling": {
            "userScheduler": {**scheduler, **small},
            "userPlaceholder": {"replicas": 1, "image": image(facility, PAUSE), **small},
        },
        "prePuller": {
            "hook": {"enabled": True, **small},
            "pause": {"image": image(facility, PAUSE)},
        },
    }
    release.install(facility, CHARTS / "jupyterhub", values, name=name, namespace=name)
    yield name
    release.uninstall(facility, name=name, namespace=name)
    facility.kubectl("delete", "namespace", name, "--wait=false")


def test_a_hub_sends_its_users_to_the_oidc_provider(oidc_hub: str, facility: Cluster) -> None:
    pod = f"deployment/{oidc_hub}-hub"
    asked = ("-n", oidc_hub, "exec", pod, "--", "python", "-c", ASK)
    status, _, address = facility.kubectl(*asked, "/hub/oauth_login").strip().partition(" ")
    assert status == "302"
    assert address.startswith(f"{OIDC['authorize_url']}?")
    assert "client_id=coffea-shoppe" in address
    # The operator's Secret replaces the chart's, and nothing of it is in the hub's settings.
    opaque = {
        secret["metadata"]["name"]: secret["data"]
        for secret in facility.get("secrets", "-n", oidc_hub)["items"]
        if secret["type"] == "Opaque"
    }
    assert set(opaque) == {"own", f"{oidc_hub}-hub-settings"}
    settings = [
        base64.b64decode(text).decode() for text in opaque[f"{oidc_hub}-hub-settings"].values()
    ]
    assert any(str(OIDC["authorize_url"]) in text for text in settings)
    settings.append(json.dumps(facility.get("configmaps", "-n", oidc_hub)))
    assert not any(value in text for value in SECRET.values() for text in settings)


def test_placeholders_are_scheduled_by_the_scheduler_of_users(
    oidc_hub: str, facility: Cluster
) -> None:
    """Users' servers have its name, too: charts/tests/test_upstream_keys.py."""
    placeholder = f"{oidc_hub}-user-placeholder-0"

    def scheduled_by() -> str:
        events = facility.get("events.events.k8s.io", "-n", oidc_hub)["items"]
        about = [event for event in events if event["regarding"]["name"] == placeholder]
        by = [event["reportingController"] for event in about if event["reason"] == "Scheduled"]
        return str(by[0]) if by else ""

    scheduler = f"{oidc_hub}-user-scheduler"
    assert eventually(scheduled_by, "the placeholder is scheduled", timeout=90) == scheduler


def test_the_installation_waited_for_the_images(oidc_hub: str, facility: Cluster) -> None:
    events = facility.get("events.events.k8s.io", "-n", oidc_hub)["items"]
    puller, awaiter = f"{oidc_hub}-hook-image-puller-", f"{oidc_hub}-hook-image-awaiter"

    def moments(name: str, reason: str) -> list[str]:
        return sorted(
            event.get("deprecatedFirstTimestamp") or event["eventTime"]
            for event in events
            if event["regarding"]["name"].startswith(name) and event["reason"] == reason
        )

    pulled, ended = moments(puller, "Pulled"), moments(awaiter, "Completed")
    hub_created = moments(f"{oidc_hub}-hub", "ScalingReplicaSet")
    # One image of users' servers, and the one that keeps the pod.
    assert len(pulled) == 2
    assert pulled[-1] <= ended[0] <= hub_created[0]
    assert not facility.get("daemonsets", "-n", oidc_hub)["items"], "the hook leaves nothing"
    assert not facility.get("jobs", "-n", oidc_hub)["items"]
