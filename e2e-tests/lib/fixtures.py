"""Users and their code, as a browser would bring them."""

import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

import nbformat
import requests
from coffea_shoppe_contract.names import resource_name
from coffea_shoppe_contract.resources import FACILITY_USERS
from shoppe_ci import facility
from shoppe_ci.cluster import Cluster
from shoppe_ci.facility import User
from shoppe_ci.kernel import NotebookError
from shoppe_ci.wait import eventually

ADMIN = "boss"
GROUP = "production"
"""A group whose users may have three Dask clusters; others have two (values/facility.yaml)."""


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


def remove_user(cluster: Cluster, name: str, *, data: str, wait: bool = True) -> None:
    """Delete a user's resource, if there is one; the bucket is kept or removed."""
    resource = resource_name(name)
    words = ("-n", "shoppe", "patch", FACILITY_USERS, resource, "--type=merge", "-p")
    if cluster.get(FACILITY_USERS, "-n", "shoppe", "--ignore-not-found", resource):
        cluster.kubectl(*words, json.dumps({"spec": {"data": data}}))
        deletion = ("delete", FACILITY_USERS, resource, f"--wait={str(wait).lower()}")
        cluster.kubectl("-n", "shoppe", *deletion)


def passing_user(cluster: Cluster, name: str) -> Iterator[User]:
    """Yield a user who leaves nothing behind; the removal goes on after the test."""
    someone = new_user(cluster, name)
    yield someone
    someone.hub("DELETE", f"/users/{quote(name)}/server")
    remove_user(cluster, name, data="remove", wait=False)


@contextmanager
def forwarded(
    cluster: Cluster, namespace: str, service: str, ports: dict[int, int]
) -> Iterator[None]:
    """Reach ports of a service at ports of this machine: {of this machine: of the service}."""
    words = ["kubectl", "-n", namespace, "port-forward", f"service/{service}"]
    command = [*words, *(f"{here}:{there}" for here, there in ports.items())]
    environment = {**os.environ, **cluster.environment()}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:

        def responds() -> bool:
            for port in ports:
                try:
                    requests.get(f"http://127.0.0.1:{port}/", timeout=2)
                except requests.RequestException:
                    return False
            return True

        try:
            eventually(responds, f"{service} of {namespace} is forwarded", timeout=30, every=0.5)
            yield
        finally:
            process.terminate()


_sessions: dict[tuple[str, str], tuple[str, str]] = {}
"""By facility and user: the ids of the session and of the kernel that `run_code` keeps."""


def _kernel(user: User) -> str:
    """Return the id of the kernel that is kept for a user, started where there is none."""
    key = user.url, user.name
    if key in _sessions:
        running = user.server("GET", "/api/sessions").json()
        if any(session["id"] == _sessions[key][0] for session in running):
            return _sessions[key][1]
    _sessions[key] = user.open_session(f"console-{uuid.uuid4().hex[:8]}.ipynb")
    return _sessions[key][1]


def run_code(user: User, code: str, *, timeout: float = 600, fresh: bool = False) -> str:
    """Run code as a notebook's cell in the user's server and return what it printed.

    A user's cells run in one kernel, so that libraries are imported once.  A `fresh`
    kernel is for code that changes its process: a default of MLflow's, the environment.
    Raises `NotebookError` where the code raises; the kernel is then ended.
    """
    cell = nbformat.v4.new_code_cell(code)
    notebook = nbformat.v4.new_notebook(cells=[cell])
    if fresh:
        user.run_notebook(notebook, timeout=timeout)
    else:
        with user.kernel(_kernel(user), timeout=timeout) as kernel:
            kernel.run_cell(cell, 1)
        errors = [output for output in cell.outputs if output.output_type == "error"]
        if errors:
            # What the code has left, a Dask cluster for one, ends with the kernel.
            user.close_session(_sessions.pop((user.url, user.name))[0])
            print(*errors[0].traceback, sep="\n")
            raise NotebookError(notebook, 1, errors[0])
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


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
