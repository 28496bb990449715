"""Attacks on Dask clusters and their gateway."""

import socket
import ssl
from typing import Any
from urllib.parse import urlsplit

import requests

from lib.attacks.table import (
    GATEWAY,
    Names,
    Response,
    call,
    changes,
    header_names,
    hub_token,
    like,
    reads,
    together,
)


def dask(method: str, path: str, body: Any = None, **headers: str) -> Response:
    """Send a request to the gateway of Dask clusters."""
    token = {"Authorization": f"jupyterhub {hub_token()}"}
    base = GATEWAY.rstrip("/")
    return call(method, f"{base}{path}", headers=token | header_names(headers), json=body)


@changes
def dask_cluster(me: Names, victim: Names) -> Response:
    return dask("GET", f"/api/v1/clusters/{victim.cluster}")


@reads
def dask_clusters(me: Names, victim: Names) -> Response:
    response = dask("GET", "/api/v1/clusters/")
    return Response(response.status, response.text.replace(victim.cluster, victim.secret))


@changes
def dask_scale(me: Names, victim: Names) -> Response:
    return dask("POST", f"/api/v1/clusters/{victim.cluster}/scale", {"count": 0})


@changes
def dask_dashboard(me: Names, victim: Names) -> Response:
    return dask("GET", f"/clusters/{victim.cluster}/status")


@like(dask_dashboard, reads=False)
def dask_dashboard_for_another(me: Names, victim: Names) -> Response:
    path = f"/clusters/{victim.cluster}/status"
    names = ("X_Forwarded_User", "X_Forwarded-User", "x-forwarded-user", "X_FORWARDED_USER")
    return together([dask("GET", path, **{name: victim.user}) for name in names])


@like(dask_cluster, reads=False)
def dask_heartbeat(me: Names, victim: Names) -> Response:
    """Speak to the gateway as the victim's scheduler does."""
    body = {"count": 0, "active_workers": [], "closing_workers": [], "closed_workers": []}
    return dask("POST", f"/api/v1/clusters/{victim.cluster}/heartbeat", body)


@like(dask_cluster, reads=False)
def dask_scheduler(me: Names, victim: Names) -> Response:
    """Speak to the scheduler itself, at its own address and through Traefik."""
    traefik = urlsplit(GATEWAY)
    here = (traefik.hostname or "", traefik.port or 80)
    host, _, port = victim.scheduler.rpartition(":")
    plain = ssl.create_default_context()
    plain.check_hostname, plain.verify_mode = False, ssl.CERT_NONE
    responses = []
    for address, name in (
        ((host, int(port)), f"daskgateway-{victim.cluster}"),
        (here, f"daskgateway-{victim.cluster}"),
    ):
        try:
            with (
                socket.create_connection(address, 5) as connection,
                plain.wrap_socket(connection, server_hostname=name) as secured,
            ):
                secured.settimeout(5)
                secured.sendall(b"\0" * 64)
                received = secured.recv(64)  # a scheduler greets
            if not received:
                raise ConnectionResetError("closed")
            responses.append(Response(requests.codes.ok, repr(received)))
        except OSError as error:  # of TLS, too
            responses.append(Response(requests.codes.forbidden, str(error)))
    return together(responses)


@changes
def dask_stop(me: Names, victim: Names) -> Response:
    return dask("DELETE", f"/api/v1/clusters/{victim.cluster}")
