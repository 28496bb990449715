"""A facility whose namespaces give pods their user ID, as OpenShift's `restricted-v2` does.

Admission policies of the cluster do what OpenShift's admission does: pods without a user ID and a
group of volumes get those of the namespace, and pods that ask for others are refused.
"""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from lib.fixtures import forwarded, run_code
from lib.second_facility import second_facility
from shoppe_ci import facility as facilities
from shoppe_ci import origin
from shoppe_ci.cluster import Cluster, free_port
from shoppe_ci.facility import User

pytestmark = [pytest.mark.part("clusters"), pytest.mark.alone, pytest.mark.timeout(1200)]

NAME = "openshift"
Samples = list[tuple[Path, str, str, int]]
NAMESPACES = [NAME, f"{NAME}-dask"]
UID = 1_000_650_000
VALUES: dict[str, Any] = {
    "global": {"podSecurityContext": {"runAsUser": None, "runAsGroup": None, "fsGroup": None}},
    "jupyterhub": {"singleuser": {"uid": None, "fsGid": None}},
}
"""Those of docs/how-to/clusters.md."""
CONTEXT = "object.spec.securityContext"
OWN_ID = (
    "!has(c.securityContext) || !has(c.securityContext.runAsUser)"
    f" || c.securityContext.runAsUser == {UID}"
)
PODS = {
    "namespaceSelector": {
        "matchExpressions": [
            {"key": "kubernetes.io/metadata.name", "operator": "In", "values": NAMESPACES}
        ]
    },
    "resourceRules": [
        {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    ],
}
WORK = """
import os, pathlib
import coffea_shoppe as shoppe
import mlflow
from dask_gateway import Gateway
from servicex import ProgressBarFormat, dataset, deliver, query

home = pathlib.Path.home() / "kept"
home.write_text("x")
shoppe.storage().pipe_file("kept", b"x")
with mlflow.start_run() as run:
    mlflow.log_text("x", "kept.txt")
cluster = Gateway().new_cluster()
cluster.scale(1)
client = cluster.get_client()
client.wait_for_workers(1, timeout=300)
worker = client.submit(os.getuid).result()
cluster.shutdown()
columns = query.UprootRaw({{"treename": "Events", "expressions": ["event"]}})
spec = {{
    "General": {{"OutputFormat": "parquet"}},
    "Sample": [{{"Name": "a", "Dataset": dataset.FileList(["{url}"]), "Query": columns}}],
}}
(files,) = deliver(spec, progress_bar=ProgressBarFormat.none).values()
print(os.getuid(), os.getgid(), home.stat().st_uid, worker, len(list(files)))
"""


def policy(kind: str, spec: dict[str, Any]) -> list[dict[str, Any]]:
    """Return an admission policy for the facility's namespaces, and its binding."""
    head = {"apiVersion": "admissionregistration.k8s.io/v1"}
    actions = {"validationActions": ["Deny"]} if kind.startswith("Validating") else {}
    return [
        {
            **head,
            "kind": kind,
            "metadata": {"name": NAME},
            "spec": {"matchConstraints": PODS, "failurePolicy": "Fail", **spec},
        },
        {
            **head,
            "kind": f"{kind}Binding",
            "metadata": {"name": NAME},
            "spec": {"policyName": NAME, **actions},
        },
    ]


def assign(field: str) -> dict[str, Any]:
    """Return the mutation that sets a field of the pod's security context, where it is not set."""
    context = f"Object.spec.securityContext{{{field}: {UID}}}"
    changed = f"Object{{spec: Object.spec{{securityContext: {context}}}}}"
    expression = f"has({CONTEXT}) && has({CONTEXT}.{field}) ? Object{{}} : {changed}"
    return {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}


@pytest.fixture
def elsewhere(facility: Cluster) -> Iterator[Cluster]:
    """The cluster with a second facility, in namespaces that assign IDs."""
    policies = [
        *policy(
            "MutatingAdmissionPolicy",
            {"reinvocationPolicy": "Never", "mutations": [assign("runAsUser"), assign("fsGroup")]},
        ),
        *policy(
            "ValidatingAdmissionPolicy",
            {
                "validations": [
                    {
                        "expression": f"{CONTEXT}.runAsUser == {UID} && {CONTEXT}.fsGroup == {UID}"
                        f" && !has({CONTEXT}.runAsGroup)",
                        "message": "the pod asks for another user ID or group",
                    },
                    {
                        "expression": f"object.spec.containers.all(c, {OWN_ID})",
                        "message": "a container asks for another user ID",
                    },
                ]
            },
        ),
    ]
    facility.apply(*policies)
    try:
        with second_facility(facility, NAME, VALUES):
            yield facility
    finally:
        for content in policies:
            facility.kubectl("delete", content["kind"], NAME)


def test_all_services_work_with_an_assigned_user(
    elsewhere: Cluster, data_origin: Cluster, samples: Samples
) -> None:
    port = free_port()
    url = origin.publish(data_origin, samples[0][0])
    with forwarded(elsewhere, NAME, f"{NAME}-proxy-public", {port: 80}):
        ann = User(f"http://127.0.0.1:{port}", "ann")
        with closing(ann.session):
            ann.login(facilities.password(elsewhere, namespace=NAME, name=NAME))
            ann.spawn()
            printed = run_code(ann, WORK.format(url=url))
            ann.stop()
    pods = elsewhere.get("pods", "-A", "-l", f"app.kubernetes.io/instance={NAME}")["items"]
    assert {pod["spec"]["securityContext"]["runAsUser"] for pod in pods} == {UID}
    assert printed.split()[-5:] == [str(UID), "0", str(UID), str(UID), "1"]
