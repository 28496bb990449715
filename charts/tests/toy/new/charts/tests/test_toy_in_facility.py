"""The toy in the facility: what its row and its keys yield, and its users."""

import copy
from collections.abc import Mapping
from typing import Any

import jwt
import pytest
import yaml
from coffea_shoppe_operator import composition, services
from coffea_shoppe_operator.errors import StorageError
from coffea_shoppe_operator.models import FacilityUser, Settings, definitions
from references import Release
from rendering import NAMESPACE, RELEASE, HelmError, template

NOW = 3_000_000.0
URL = f"http://{RELEASE}-toy.{NAMESPACE}:8888"
USER = {"metadata": {"name": "ann", "uid": "u1"}, "spec": {"username": "ann", "data": "remove"}}
FILES = (NAMESPACE, "shoppe-user-ann")


class Cluster:
    """Secrets in memory."""

    def __init__(self) -> None:
        self.secrets: dict[tuple[str, str], dict[str, bytes]] = {}
        self.published: dict[str, Any] = {}

    def read_secret(self, namespace: str, name: str) -> dict[str, bytes] | None:
        return copy.deepcopy(self.secrets.get((namespace, name)))

    def write_secret(self, secret: dict[str, Any]) -> None:
        metadata = secret["metadata"]
        self.secrets[metadata["namespace"], metadata["name"]] = secret["data"]

    def delete_secret(self, namespace: str, name: str) -> None:
        del self.secrets[namespace, name]

    def read_published(self, namespace: str, name: str) -> dict[str, Any]:
        return copy.deepcopy(self.published)

    def write_published(
        self, namespace: str, name: str, documents: Mapping[str, Any], labels: Mapping[str, str]
    ) -> None:
        self.published = copy.deepcopy(dict(documents))

    def has_pods(self, namespace: str, labels: Mapping[str, str]) -> bool:
        return False


class Toy:
    """The toy's API in memory."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, Any]] = []
        self.responds = True

    def send(self, method: str, path: str, token: str, body: object = None) -> None:
        claims = jwt.decode(token, options={"verify_signature": False})
        assert claims["aud"] == "toy-admin"
        if not self.responds:
            raise StorageError("toy: connection refused")
        self.requests.append((method, path, body))

    def problem(self, url: str) -> str:
        assert url == f"{URL}/health"
        return "" if self.responds else "it does not respond"


@pytest.fixture(scope="module")
def release() -> Release:
    return Release(template("coffea-shoppe"))


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def toy() -> Toy:
    return Toy()


def facility_of(settings: Settings, cluster: Cluster, toy: Toy) -> services.Facility:
    """Return the facility with the toy as its only service with an adapter."""
    alone = settings.model_copy(update={"dask": None, "triton": None})
    clients = composition.Clients(services={"toy": toy}, health=toy)
    adapters = composition.adapters(alone, cluster, clients)  # type: ignore[arg-type]
    return services.Facility(alone, cluster, adapters)  # type: ignore[arg-type]


@pytest.fixture
def facility(release: Release, cluster: Cluster, toy: Toy) -> services.Facility:
    settings = release.settings("operator", "operator.yaml")
    return facility_of(Settings.model_validate(settings), cluster, toy)


def pod_of(release: Release) -> Any:
    """Return the specification of the toy's pod."""
    return release.objects["Deployment", NAMESPACE, f"{RELEASE}-toy"]["spec"]["template"]["spec"]


def test_everything_that_is_named_exists(release: Release) -> None:
    assert release.dangling() == []


def test_the_toy_has_a_database_that_only_it_reaches(release: Release) -> None:
    assert release.has("Secret", NAMESPACE, f"{RELEASE}-postgresql-toy")
    (policy,) = (
        manifest
        for (kind, _, name), manifest in release.objects.items()
        if kind == "NetworkPolicy" and name == f"{RELEASE}-postgresql"
    )
    peers = [peer for rule in policy["spec"]["ingress"] for peer in rule["from"]]
    components = [
        peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for peer in peers
    ]
    assert components.count("toy") == 1
    secrets = [volume.get("secret") for volume in pod_of(release)["volumes"]]
    assert {"secretName": f"{RELEASE}-postgresql-toy"} in secrets


def test_the_toy_has_a_bucket(release: Release) -> None:
    settings = release.settings("operator", "operator.yaml")
    assert settings["objectStore"]["services"]["toy"] == f"{RELEASE}-toy-s3"
    assert "--bucket=service-toy" in pod_of(release)["containers"][0]["args"]


def test_the_toy_s_page_is_behind_the_login(release: Release) -> None:
    assert release.settings("hub", "settings.yaml")["values"]["hub"]["services"]["toy"]["display"]
    routes = yaml.safe_load(release.text("traefik", "routes.yaml"))["http"]
    assert routes["services"]["page-toy"]["loadBalancer"]["servers"] == [{"url": URL}]


def test_users_find_the_toy(release: Release) -> None:
    assert release.settings("operator", "operator.yaml")["connections"]["toy"] == URL
    assert release.settings("hub", "settings.yaml")["environment"]["TOY_URL"] == URL


def test_a_user_gets_a_token_and_a_limit_and_loses_both(
    facility: services.Facility, cluster: Cluster, toy: Toy
) -> None:
    status = facility.reconcile(FacilityUser.parse(USER), NOW)
    token = cluster.secrets[FILES]["token-toy"]
    claims = jwt.decode(token, options={"verify_signature": False})
    assert (claims["aud"], claims["sub"]) == ("toy", "ann")
    assert toy.requests == [("PUT", "/users/ann", {"notes": 3})]
    condition = status.conditions[-1]
    assert (condition.type, condition.status) == ("Toy", "True")
    assert condition.message == "at most 3 notes"

    user = FacilityUser.parse({**USER, "status": services.as_patch(status)})
    assert facility.reconcile(user, NOW + 30) == status
    assert len(toy.requests) == 1

    facility.remove(user, NOW + 60)
    assert not [name for name in cluster.secrets if name[1] == "shoppe-user-ann"]
    assert toy.requests[1:] == [("DELETE", "/users/ann", None)]


def test_a_toy_that_does_not_respond_is_a_condition(facility: services.Facility, toy: Toy) -> None:
    toy.responds = False
    condition = facility.reconcile(FacilityUser.parse(USER), NOW).conditions[-1]
    assert (condition.type, condition.reason) == ("Toy", "Unavailable")
    toy.responds = True
    condition = facility.reconcile(FacilityUser.parse(USER), NOW).conditions[-1]
    assert (condition.type, condition.reason) == ("Toy", "Ready")


def test_a_limit_is_part_of_the_resource_and_of_the_values() -> None:
    user = next(d for d in definitions() if d["spec"]["names"]["kind"] == "FacilityUser")
    schema = user["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    assert "notes" in schema["properties"]["quota"]["properties"]["toy"]["properties"]
    values = {"operator": {"quotas": {"groups": {"cms": {"toy": {"notes": -1}}}}}}
    with pytest.raises(HelmError, match="notes"):
        template("coffea-shoppe", values)


def test_the_switch_removes_everything(cluster: Cluster, toy: Toy) -> None:
    values = {"global": {"services": {"toy": {"enabled": False}}}}
    release = Release(template("coffea-shoppe", values))
    settings = release.settings("operator", "operator.yaml")
    # Limits without a service have no effect, and the definition of resources has them all.
    assert settings["quotas"]["default"].pop("toy") == {"notes": 3}
    assert "toy" not in yaml.safe_dump(settings)
    kept = (f"{RELEASE}-operator", "facilityusers.coffea-shoppe.dev")
    others = [m for m in release.manifests if m["metadata"]["name"] not in kept]
    assert [m["metadata"]["name"] for m in others if "toy" in str(m)] == []
    facility = facility_of(Settings.model_validate(settings), cluster, toy)
    status = facility.reconcile(FacilityUser.parse(USER), NOW)
    assert "token-toy" not in cluster.secrets[FILES]
    assert [condition.type for condition in status.conditions] == ["Ready"]
