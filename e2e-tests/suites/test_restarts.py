"""Restarts and upgrades that users do not feel."""

from lib.fixtures import install
from shoppe_ci import release
from shoppe_ci.cluster import Cluster
from shoppe_ci.facility import User
from shoppe_ci.wait import eventually


def _pods(cluster: Cluster) -> dict[str, str]:
    found = cluster.get("pods", "-A", "-l", "app.kubernetes.io/instance=shoppe")["items"]
    return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in found}


def test_a_server_and_its_home_survive_the_hubs_restart(user: User, facility: Cluster) -> None:
    user.server("PUT", "/api/contents/kept.txt", json={
        "type": "file", "format": "text", "content": "still here",
    })  # fmt: skip
    kernel = user.server("POST", "/api/kernels", json={"name": "python3"}).json()["id"]
    old = _pods(facility)
    facility.kubectl("-n", "shoppe", "delete", "pod", "-l", "app.kubernetes.io/component=hub")
    release.wait_ready(facility)
    new = _pods(facility)
    assert {name for name in old if name.startswith("shoppe-hub")}.isdisjoint(new)
    assert user.server("GET", f"/api/kernels/{kernel}").json()["id"] == kernel
    content = user.server("GET", "/api/contents/kept.txt?content=1").json()["content"]
    assert content == "still here"
    eventually(
        lambda: user.hub("GET", f"/users/{user.name}").json()["servers"][""]["ready"],
        "the restarted hub knows the server",
    )


def test_a_home_survives_its_server(user: User) -> None:
    user.server("PUT", "/api/contents/home.txt", json={
        "type": "file", "format": "text", "content": "mine",
    })  # fmt: skip
    user.stop()
    user.spawn()
    assert user.server("GET", "/api/contents/home.txt?content=1").json()["content"] == "mine"


def test_an_upgrade_with_the_same_values_changes_nothing(facility: Cluster) -> None:
    secret = facility.get("secret", "shoppe-hub", "-n", "shoppe")["data"]
    pods = _pods(facility)
    install(facility)
    assert facility.get("secret", "shoppe-hub", "-n", "shoppe")["data"] == secret
    assert _pods(facility) == pods
