"""Users and their code, as a browser would bring them."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import nbformat
import requests
from coffea_shoppe_contract import identity
from shoppe_ci import facility, release
from shoppe_ci.cluster import Cluster
from shoppe_ci.facility import User
from shoppe_ci.wait import eventually

ADMIN = "boss"
GROUP = "production"
"""A group whose users may have three Dask clusters; others have two."""
S3_PORT = 17007
"""Of this machine: to ServiceX's S3 front, while a test forwards it."""


def install(cluster: Cluster, *more: dict[str, Any]) -> None:
    """Install or upgrade the facility as the tests want it, by the code of `up`.

    `more` values come on top; the next call without them takes them back.
    """
    outside = {"objectStore": {"publicURL": f"127.0.0.1:{S3_PORT}"}}
    values: dict[str, Any] = {"servicex": outside}
    values |= {"operator": {"quotas": {"groups": {GROUP: {"dask": {"clusters": 3}}}}}}
    values |= {"jupyterhub": {"hub": {"config": {"Authenticator": {"admin_users": [ADMIN]}}}}}
    release.install(cluster, release.UMBRELLA, release.demo_values(), values, *more)


def administrator(cluster: Cluster) -> User:
    """Return the hub's administrator, logged in; without a server."""
    user = User(cluster.url, ADMIN)
    user.login(facility.password(cluster, kind="admin"))
    return user


def new_user(cluster: Cluster, name: str) -> User:
    """Return a user who has logged in and whose server is ready."""
    user = User(cluster.url, name)
    user.login(facility.password(cluster))
    user.spawn()
    return user


def remove_user(cluster: Cluster, name: str, *, data: str) -> None:
    """Delete a user's resource, should there be one; the bucket is kept or removed."""
    resource = identity.resource_name(name)
    words = ("-n", "shoppe", "patch", identity.USERS, resource, "--type=merge", "-p")
    if cluster.get(identity.USERS, "-n", "shoppe", "--ignore-not-found", resource):
        cluster.kubectl(*words, json.dumps({"spec": {"data": data}}))
        cluster.kubectl("-n", "shoppe", "delete", identity.USERS, resource)


def passing_user(cluster: Cluster, name: str) -> Iterator[User]:
    """Yield a user who leaves nothing behind."""
    someone = new_user(cluster, name)
    yield someone
    someone.stop()
    remove_user(cluster, name, data="remove")


@contextmanager
def forwarded(
    cluster: Cluster, namespace: str, service: str, ports: dict[int, int]
) -> Iterator[None]:
    """Reach ports of a service at ports of this machine: {of this machine: of the service}."""
    words = ["kubectl", "-n", namespace, "port-forward", f"service/{service}"]
    command = [*words, *(f"{here}:{there}" for here, there in ports.items())]
    environment = {**os.environ, **cluster.environment()}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:

        def answers() -> bool:
            for port in ports:
                try:
                    requests.get(f"http://127.0.0.1:{port}/", timeout=2)
                except requests.RequestException:
                    return False
            return True

        try:
            eventually(answers, f"{service} of {namespace} is forwarded", timeout=30, every=0.5)
            yield
        finally:
            process.terminate()


def run_code(user: User, code: str, *, timeout: float = 600) -> str:
    """Run code in a kernel of the user's server and return what it printed."""
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell(code)]
    user.run_notebook(notebook, timeout=timeout)
    texts = [out.text for out in notebook.cells[0].outputs if out.output_type == "stream"]
    return "".join(texts)


@contextmanager
def dask_cluster(user: User, *, workers: int) -> Iterator[tuple[str, list[str]]]:
    """Yield a Dask cluster of the user's that outlives kernels: its name, the workers' addresses.

    It is stopped in the end.
    """
    start = (
        "from dask_gateway import Gateway\n"
        "cluster = Gateway().new_cluster(shutdown_on_close=False)\n"
        f"cluster.scale({workers}); client = cluster.get_client()\n"
        f"if {workers}: client.wait_for_workers({workers}, timeout=180)\n"
        "print(cluster.name, *client.run(int))"
    )
    name, *addresses = run_code(user, start).splitlines()[-1].split()
    try:
        yield name, addresses
    finally:
        run_code(user, f"from dask_gateway import Gateway; Gateway().stop_cluster({name!r})")
