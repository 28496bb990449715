"""Logging in by OpenID Connect: an identity provider's groups decide what a user may do."""

import json
from collections.abc import Iterator
from contextlib import closing

import pytest
from coffea_shoppe_contract.names import resource_name
from coffea_shoppe_contract.resources import FACILITY_USERS, USER_LABEL
from lib.fixtures import GROUP, remove_user, run_code
from lib.keycloak import Keycloak, keycloak
from shoppe_ci import images, testing
from shoppe_ci.cluster import Cluster
from shoppe_ci.engine import Engine
from shoppe_ci.errors import ShoppeError
from shoppe_ci.facility import User

pytestmark = [pytest.mark.part("logins"), pytest.mark.timeout(900)]

PEOPLE = {"kim": [GROUP, "operators"], "lee": ["students"], "max": ["guests"]}
SECRET_KEY = "hub.config.GenericOAuthenticator.client_secret"  # noqa: S105  (its name)
LARGE = 3 * 2**30
IMAGE = "coffea-shoppe.local/of-a-profile:1"
CLUSTER = """
from dask_gateway import Gateway
cluster = Gateway().new_cluster()
cluster.scale(1)
client = cluster.get_client()
client.wait_for_workers(1, timeout=180)
"""


def set_client_secret(facility: Cluster, value: str | None) -> None:
    """Put the client's secret beside the hub's others, or take it away."""
    patch = {"stringData": {SECRET_KEY: value}} if value else {"data": {SECRET_KEY: None}}
    words = ("-n", "shoppe", "patch", "secret", "shoppe-hub", "--patch-file", "/dev/stdin")
    facility.kubectl(*words, stdin=json.dumps(patch).encode())


@pytest.fixture(scope="module")
def provider(facility: Cluster, engine: Engine) -> Iterator[Keycloak]:
    """An identity provider that the hub logs in by; the facility's own login afterwards."""
    callback = f"{facility.url}/hub/oauth_callback"
    tag = ("ctr", "--namespace", "k8s.io", "images", "tag", "--force")
    engine.run("exec", facility.node_id, *tag, images.reference("notebook"), IMAGE)
    with keycloak(engine, callback, PEOPLE) as found:
        set_client_secret(facility, found.secret)
        oidc = found.values(callback) | {
            "manage_groups": True,
            "auth_state_groups_key": "oauth_user.groups",
            "allowed_groups": [GROUP, "students"],
            "admin_groups": ["operators"],
        }
        config = {
            "JupyterHub": {"authenticator_class": "generic-oauth"},
            "GenericOAuthenticator": oidc,
        }
        readers = {"scopes": ["list:users", "read:users:name"], "groups": [GROUP]}
        profiles = [
            {"slug": "small", "display_name": "A small server", "default": True},
            {
                "slug": "large",
                "display_name": "A large server",
                "allowed_groups": [GROUP],
                "kubespawner_override": {"mem_limit": LARGE, "image": IMAGE},
            },
        ]
        hub = {"config": config, "loadRoles": {"readers": readers}}
        try:
            testing.install(
                facility, {"jupyterhub": {"hub": hub, "singleuser": {"profileList": profiles}}}
            )
            yield found
        finally:
            set_client_secret(facility, None)
            for name in PEOPLE:
                remove_user(facility, name, data="remove")
            testing.install(facility)


def spec(facility: Cluster, user: User) -> tuple[list[str], int]:
    """Return a user's groups and number of Dask clusters, as the user's resource has them."""
    name = resource_name(user.name)
    found = facility.get(FACILITY_USERS, name, "-n", "shoppe")
    return found["spec"]["groups"], found["status"]["quota"]["dask"]["clusters"]


def memory(facility: Cluster, user: User) -> str:
    label = f"{USER_LABEL}={resource_name(user.name)}"
    (pod,) = facility.get("pods", "-n", "shoppe", "-l", label)["items"]
    return str(pod["spec"]["containers"][0]["resources"]["limits"]["memory"])


def test_a_group_decides_on_profile_quota_and_role(facility: Cluster, provider: Keycloak) -> None:
    kim = User(facility.url, "kim")
    with closing(kim.session):
        refused = provider.login(kim, "wrong")
        assert "Invalid username or password" in refused.text
        assert kim.hub("GET", "/user").status_code == 403
        assert provider.login(kim).url.startswith(f"{facility.url}/hub/home")
        me = kim.hub("GET", "/user").json()
        assert (me["name"], me["admin"]) == ("kim", True)
        assert sorted(me["groups"]) == sorted(PEOPLE["kim"])
        form = kim.session.get(f"{facility.url}/hub/spawn", timeout=30).text
        assert "A small server" in form
        assert "A large server" in form
        kim.spawn(options={"profile": "large"})
        assert memory(facility, kim) == str(LARGE)
        assert spec(facility, kim) == (sorted(PEOPLE["kim"]), 3)
        assert GROUP in run_code(kim, "import coffea_shoppe as s; print(s.status().groups)")
        kim.stop()


def test_a_profile_s_image_is_that_of_dask_clusters_too(
    facility: Cluster, provider: Keycloak
) -> None:
    kim = User(facility.url, "kim")

    def used() -> set[str]:
        label = f"{USER_LABEL}={resource_name(kim.name)}"
        pods = facility.get("pods", "-n", "shoppe-dask", "-l", label)["items"]
        return {container["image"] for pod in pods for container in pod["spec"]["containers"]}

    with closing(kim.session):
        provider.login(kim)
        kim.spawn(options={"profile": "large"})
        run_code(kim, CLUSTER)
        assert used() == {IMAGE}
        run_code(kim, "client.close(); cluster.shutdown()")
        kim.stop()


def test_others_get_what_is_for_all(facility: Cluster, provider: Keycloak) -> None:
    lee = User(facility.url, "lee")
    with closing(lee.session):
        provider.login(lee)
        assert lee.hub("GET", "/user").json()["admin"] is False
        assert lee.hub("GET", "/users").status_code == 403
        form = lee.session.get(f"{facility.url}/hub/spawn", timeout=30).text
        assert "A small server" in form
        assert "A large server" not in form
        with pytest.raises(ShoppeError):
            lee.spawn(options={"profile": "large"}, timeout=60)
        lee.spawn(options={"profile": "small"})
        assert memory(facility, lee) != str(LARGE)
        assert spec(facility, lee) == (["students"], 2)
        lee.stop()


def test_who_is_in_no_group_of_the_facility_stays_outside(
    facility: Cluster, provider: Keycloak
) -> None:
    guest = User(facility.url, "max")
    with closing(guest.session):
        response = provider.login(guest)
        assert response.status_code == 403
        assert guest.hub("GET", "/user").status_code == 403


def test_who_leaves_a_group_loses_what_it_gave(facility: Cluster, provider: Keycloak) -> None:
    """After the first test: this user had a large server."""
    provider.leave("kim", GROUP)
    kim = User(facility.url, "kim")
    with closing(kim.session):
        provider.login(kim)
        assert kim.hub("GET", "/user").json()["groups"] == ["operators"]
        form = kim.session.get(f"{facility.url}/hub/spawn", timeout=30).text
        assert "A large server" not in form
        # The hub remembers what was chosen last, which is not offered any more.
        with pytest.raises(ShoppeError, match="No such profile: large"):
            kim.spawn(timeout=60)
        kim.spawn(options={"profile": "small"})
        assert spec(facility, kim) == (["operators"], 2)
        kim.stop()
