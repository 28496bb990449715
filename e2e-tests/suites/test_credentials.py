"""No secret is where it does not belong: seen in the pods, processes and logs of a cluster."""

import base64
import json
import re
from collections.abc import Iterator

import pytest
from coffea_shoppe_contract.files import (
    CONNECTIONS_FILE,
    S3_BUCKET_FILE,
    S3_CONFIG_FILE,
    S3_CREDENTIALS_FILE,
    S3_KEYS_FILE,
    WORKSPACE_FILE,
)
from coffea_shoppe_contract.names import resource_name, secret_name
from coffea_shoppe_contract.resources import USER_LABEL
from lib.fixtures import dask_cluster, passing_user, run_code
from shoppe_ci.cluster import Cluster
from shoppe_ci.engine import Engine
from shoppe_ci.errors import ShoppeError
from shoppe_ci.facility import User

NAMESPACES = ("shoppe", "shoppe-dask")
LONG_ENOUGH = 16
"""A shorter line may stand anywhere by chance."""
ENVIRONMENT = {
    ("proxy", "CONFIGPROXY_AUTH_TOKEN"),
    ("mlflow", "MLFLOW_AUTH_ADMIN_PASSWORD"),
    ("mlflow", "MLFLOW_FLASK_SERVER_SECRET_KEY"),
    ("objectstore", "ROOT_ACCESS_KEY"),
    ("objectstore", "ROOT_SECRET_KEY"),
}
"""Third-party servers (by component) that take a secret by environment only."""
JUPYTERHUB = {"JUPYTERHUB_API_TOKEN", "JPY_API_TOKEN"}
"""What JupyterHub gives a user's server: the user's own, and for that server only."""
JWT = re.compile(r"eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{20,}")
PUBLIC = {
    CONNECTIONS_FILE,
    S3_CONFIG_FILE,
    S3_BUCKET_FILE,
    WORKSPACE_FILE,
}
"""Keys of Secrets that are none."""


@pytest.fixture(scope="module")
def vera(facility: Cluster) -> Iterator[User]:
    """A user with a notebook and a Dask cluster."""
    for user in passing_user(facility, "vera.vault"):
        with dask_cluster(user, workers=1):
            yield user


def secrets(facility: Cluster) -> dict[str, str]:
    """Return what must be secret, with where it is kept: the lines of all Secrets."""
    found = {}
    for namespace in NAMESPACES:
        for one in facility.get("secrets", "-n", namespace)["items"]:
            if one["type"] == "helm.sh/release.v1":
                continue
            for key, value in (one.get("data") or {}).items():
                if key in PUBLIC:
                    continue
                text = base64.b64decode(value).decode(errors="replace")
                if key == S3_KEYS_FILE:
                    text = json.loads(text)["SecretAccessKey"]
                for line in text.splitlines():
                    bare = line.rpartition(" = ")[2].rpartition("token: ")[2].strip()
                    account = key == S3_CREDENTIALS_FILE and "access_key_id" in line
                    if len(bare) >= LONG_ENOUGH and "-----" not in bare and not account:
                        found[bare] = f"{namespace}/{one['metadata']['name']}: {key}"
    return found


def hits(known: dict[str, str], text: str) -> set[str]:
    """Return where the secrets are kept that stand in a text."""
    return {where for secret, where in known.items() if secret in text}


@pytest.mark.usefixtures("vera")
def test_no_secret_is_in_an_argument_or_an_environment(facility: Cluster, engine: Engine) -> None:
    known = secrets(facility)
    assert any("shoppe-user-" in where for where in known.values())
    pods = {
        pod["metadata"]["name"]: pod["metadata"]["labels"].get("app.kubernetes.io/component", "")
        for namespace in NAMESPACES
        for pod in facility.get("pods", "-n", namespace)["items"]
    }
    script = (
        "for one in /proc/[0-9]*; do "
        'printf "\\035"; tr "\\0" "\\036" < $one/cmdline; printf "\\037"; '
        'tr "\\0" "\\036" < $one/environ; done 2>/dev/null'
    )
    seen, found = set(), set()
    for process in engine.run("exec", facility.node_id, "sh", "-c", script).split("\x1d"):
        arguments, _, environment = process.partition("\x1f")
        variables = dict(one.partition("=")[::2] for one in environment.split("\x1e"))
        component = pods.get(variables.get("HOSTNAME", ""), "")
        seen.add(component)
        found |= {f"arguments of {component}: {where}" for where in hits(known, arguments)}
        for name, value in variables.items():
            if name in JUPYTERHUB or (component, name) in ENVIRONMENT:
                continue
            token = ["a token"] if JWT.search(value) else []
            found |= {f"{name} of {component}: {what}" for what in (*hits(known, value), *token)}
    assert {"hub", "mlflow", "singleuser-server", "dask-worker", "dask-scheduler"} <= seen
    assert found == set()


@pytest.mark.usefixtures("vera")
def test_no_secret_is_in_a_log_or_a_pod_s_description(facility: Cluster) -> None:
    known, found = secrets(facility), set()
    lines = 0
    for namespace in NAMESPACES:
        for pod in facility.get("pods", "-n", namespace)["items"]:
            name = pod["metadata"]["name"]
            found |= {f"{name}: {where}" for where in hits(known, str(pod))}
            if pod["status"]["phase"] == "Pending":
                continue
            words = ("-n", namespace, "logs", name, "--all-containers", "--tail=-1")
            try:
                log = facility.kubectl(*words)
            except ShoppeError as error:
                if "not found" in error.problem:
                    continue  # other stories' pods end at any time
                raise
            lines += len(log.splitlines())
            found |= {f"log of {name}: {where}" for where in hits(known, log)}
            if token := JWT.search(log):
                found.add(f"log of {name}: a token, {token[0][:20]}…")
    assert lines > 100
    assert found == set()


def test_a_user_s_pods_hold_what_is_the_user_s_own_and_nothing_else(
    facility: Cluster, vera: User
) -> None:
    own = secret_name(vera.name)
    label = f"{USER_LABEL}={resource_name(vera.name)}"
    mounted: dict[str, set[str]] = {}
    for namespace in NAMESPACES:
        for pod in facility.get("pods", "-n", namespace, "-l", label)["items"]:
            component = pod["metadata"]["labels"]["app.kubernetes.io/component"]
            cluster = pod["metadata"]["labels"].get("gateway.dask.org/cluster", "none")
            held = mounted.setdefault(component, set())
            for volume in pod["spec"]["volumes"]:
                if secret := volume.get("secret"):
                    # Of a Dask cluster: the certificates that its pods know each other by.
                    name = secret["secretName"]
                    held.add("its cluster's" if name.endswith(cluster) else name)
                assert "projected" not in volume, "a token of the cluster"
            assert pod["spec"]["automountServiceAccountToken"] is False
            for container in pod["spec"]["containers"]:
                assert "envFrom" not in container
                for variable in container.get("env", ()):
                    assert "secretKeyRef" not in variable.get("valueFrom", {}), variable["name"]
    assert mounted == {
        "singleuser-server": {own},
        "dask-scheduler": {own, "its cluster's"},
        "dask-worker": {own, "its cluster's"},
    }
    # The one that is another's is not there to be read.
    assert "refused" in run_code(
        vera,
        "import urllib.request, ssl\n"
        "url = 'https://kubernetes.default/api/v1/namespaces/shoppe/secrets'\n"
        "try: print(urllib.request.urlopen(url, context=ssl._create_unverified_context()).status)\n"
        "except Exception as error: print('refused', error)",
    )
