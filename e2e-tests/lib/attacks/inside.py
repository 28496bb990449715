"""Attacks on Kubernetes, and on what services tell each other."""

import os

import requests

from lib.attacks.logins import own_status
from lib.attacks.table import Names, Response, call, like, together


def kubernetes_health(me: Names, victim: Names) -> Response:
    """Ask Kubernetes how it is, which anybody may."""
    return kubernetes("/readyz")


def kubernetes(path: str) -> Response:
    """Send a request to the API server, without a login: pods of users have none."""
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST", "kubernetes.default"), "443"
    return call("GET", f"https://{host}:{port}{path}", verify=False)


@like(kubernetes_health, reads=False)
def kubernetes_resources(me: Names, victim: Names) -> Response:
    group, namespaces = "/apis/coffea-shoppe.dev/v1alpha1/namespaces/shoppe", "/api/v1/namespaces"
    return together(
        [
            kubernetes(f"{group}/facilityusers"),
            kubernetes(f"{group}/servedmodels"),
            kubernetes(f"{namespaces}/shoppe/secrets"),
            kubernetes(f"{namespaces}/shoppe-dask/pods"),
        ]
    )


def metrics(me: Names, victim: Names) -> Response:
    """Read what monitoring reads, from all that respond; it must name no user."""
    ports = {"servicex": 5000, "xcache": 9931, "dask-traefik": 9000, "triton": 8000}
    responses = []
    for service, port in ports.items():
        namespace = "shoppe-dask" if service.startswith("dask") else "shoppe"
        try:
            responses.append(call("GET", f"http://shoppe-{service}.{namespace}:{port}/metrics"))
        except requests.RequestException as error:
            responses.append(Response(requests.codes.forbidden, str(error)))
    text = "\n".join(response.text for response in responses)
    named = victim.user in text or victim.prefix in text or victim.bucket in text
    assert "servicex_files" in text, text[:500]
    return Response(requests.codes.ok if named else requests.codes.forbidden, text[:300])


@like(own_status, reads=False)
def metrics_that_name_users(me: Names, victim: Names) -> Response:
    return metrics(me, victim)
