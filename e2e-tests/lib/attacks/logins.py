"""Attacks on the facility API, the hub and users' servers."""

import json
import time
import uuid
from typing import Any
from urllib.parse import quote

import coffea_shoppe as shoppe
import requests

from lib.attacks.table import (
    HUB,
    OBJECT,
    Names,
    Response,
    bearer,
    call,
    changes,
    header_names,
    hub_token,
    like,
    together,
)

SERVE_S = 120
"""Time limit for the end of a request to serve a model, which the operator inspects first."""


def api(method: str, path: str, body: Any = None, **headers: str) -> Response:
    """Send a request to the facility API."""
    url = f"{shoppe.connections()['api']}{path}"
    return call(method, url, headers=bearer("api") | header_names(headers), json=body)


def own_status(me: Names, victim: Names) -> Response:
    """Return the caller's status: it names nobody else."""
    return api("GET", "/status")


def _serve(me: Names, model: str, **more: str) -> Response:
    """Serve a model under a new name, wait for the end, and remove it."""
    name = f"attack{uuid.uuid4().hex[:6]}"
    made = api("POST", "/serve", {"name": name, "model": model, **more})
    if made.status >= requests.codes.bad_request:
        return made
    requested_at, end = json.loads(made.text)["requestedAt"], time.monotonic() + SERVE_S
    message = "neither served nor refused"
    try:
        while time.monotonic() < end:
            status = json.loads(api("GET", f"/serve/{name}").text)["status"]
            ready = {entry["type"]: entry for entry in status["conditions"]}.get("Ready")
            if ready and status["requestedAt"] >= requested_at:
                message = ready["message"]
                if ready["status"] == "True":
                    return Response(requests.codes.ok, message)
                # The operator asks with the caller's rights, and MLflow's refusal is one.
                if ready["reason"] != "Unavailable" or "403 Permission denied" in message:
                    return Response(requests.codes.forbidden, message)
            time.sleep(0.5)
    finally:
        api("DELETE", f"/serve/{name}")
    raise AssertionError(message)


def api_serve(me: Names, victim: Names) -> Response:
    """Serve an own model once more: the attacker may have damaged what serves it."""
    return _serve(me, "models:/attacked-bdt/1")


@like(api_serve, reads=False)
def api_serve_for_another(me: Names, victim: Names) -> Response:
    """Serve the victim's model, or a model under the victim's name."""
    return _serve(me, f"models:/{victim.model}/1", username=victim.user)


@like(api_serve, reads=False)
def api_serve_from_other_places(me: Names, victim: Names) -> Response:
    """The operator reads everybody's models: of an own one that is in MLflow, and nothing else."""
    sources = [
        f"runs:/{victim.run}/model",
        f"mlflow-artifacts:{victim.artifacts}",
        f"s3://service-mlflow{victim.artifacts}",
        f"s3://service-triton/{victim.served}/1/model.ubj",
        f"s3://{victim.bucket}/{OBJECT}",
        "file:///run/secrets/s3/aws-credentials",
        "/etc/passwd",
        "http://169.254.169.254/latest/meta-data/",
        f"models:/../{victim.workspace}/{victim.model}/1",
        f"models:/{victim.model}/../../1",
        f"models:/{victim.model}/1\nmodels:/x/1",
        f"MODELS:/{victim.model}/1",
    ]
    return together([_serve(me, source) for source in sources])


@like(api_serve, reads=False)
def api_serve_a_damaged_model(me: Names, victim: Names) -> Response:
    """Its file crashes XGBoost; afterwards, the owner's models are still served."""
    return _serve(me, f"models:/{me.damaged}/1")


@like(own_status, reads=False)
def api_models_of_another(me: Names, victim: Names) -> Response:
    name = victim.served.removeprefix(victim.prefix)
    paths = [f"/serve/{victim.served}", f"/serve/..%2f{victim.served}", f"/serve/../{name}"]
    return together([api(method, path) for path in paths for method in ("GET", "DELETE")])


@like(own_status, reads=False)
def api_tokens_for_another(me: Names, victim: Names) -> Response:
    """Ask the ForwardAuth server, as a proxy does, for a token of the victim's."""
    headers = {"X-Forwarded-User": victim.user, "X-Forwarded-Uri": "/services/mlflow/"}
    url = f"{shoppe.connections()['api']}/authorize?service=mlflow"
    tokens = [hub_token(), shoppe.token("api"), ""]
    responses = []
    for token in tokens:
        responses.append(call("GET", url, headers=headers | {"Authorization": f"token {token}"}))
        responses.append(call("GET", url, headers=headers | {"Cookie": f"shoppe-session={token}"}))
    return together(responses)


def hub(method: str, path: str, body: Any = None) -> Response:
    """Send a request to the hub's API with the token of the caller's server."""
    headers = {"Authorization": f"token {hub_token()}"}
    return call(method, f"{HUB}{path}", headers=headers, json=body)


def hub_self(me: Names, victim: Names) -> Response:
    """Ask the hub whose token it is."""
    return hub("GET", "/user")


@like(hub_self, reads=False)
def hub_for_another(me: Names, victim: Names) -> Response:
    user = f"/users/{quote(victim.user, safe='')}"
    scopes = {"scopes": ["admin:users"], "roles": ["admin"]}
    tries = [
        ("GET", "/users", None),
        ("GET", user, None),
        ("DELETE", user, None),
        ("PATCH", user, {"admin": True}),
        ("GET", f"{user}/tokens", None),
        ("POST", f"{user}/tokens", scopes),
        ("POST", f"/users/{quote(me.user, safe='')}/tokens", scopes),
        ("POST", f"{user}/server", {}),
        ("DELETE", f"{user}/server", None),
        ("POST", f"{user}/activity", {"last_activity": "2030-01-01T00:00:00Z"}),
        ("GET", "/groups", None),
        ("POST", "/groups/production/users", {"users": [me.user]}),
        ("GET", "/proxy", None),
        ("GET", "/services", None),
        ("POST", "/shutdown", {}),
        ("PATCH", f"/users/{quote(me.user, safe='')}", {"admin": True}),
    ]
    responses = [hub(method, path, body) for method, path, body in tries]
    # What anybody may list is empty.
    return together([response for response in responses if response.text not in ("[]", "{}")])


@changes
def server(me: Names, victim: Names) -> Response:
    """Call the victim's server by the proxy, with the token of the own one."""
    base = HUB.partition("//")[2].partition("/")[0].partition(":")[0]
    proxy = base.replace("-hub", "-proxy-public", 1)
    headers = {"Authorization": f"token {hub_token()}"}
    path = f"/user/{quote(victim.user, safe='@~')}/api/contents"
    return call("GET", f"http://{proxy}{path}", headers=headers)
