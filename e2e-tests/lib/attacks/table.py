"""The table of attacks: what a user tries who knows every id, name and bucket of another one.

An attack is a function of two users' names, `me` who calls and `victim`.  The owner calls it with
the own names for both, and succeeds.  A new service adds a module with attacks, which
`lib.attacks` imports, and what they aim at in `lib.attacks.planting`.
"""

import http.client
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import botocore.session
import coffea_shoppe as shoppe
import requests
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

TIMEOUT_S = 30
HUB = os.environ.get("JUPYTERHUB_API_URL", "http://shoppe-hub.shoppe:8081/hub/api")
GATEWAY = os.environ.get(
    "DASK_GATEWAY__ADDRESS", "http://shoppe-dask-traefik.shoppe-dask/services/dask-gateway"
)
MULTIPLE_CHOICES = 300
ARTIFACT = "notes/secret.txt"
OBJECT = "attacks/secret.txt"


@dataclass(frozen=True)
class Names:
    """What is a user's: names that the attacker knows, and a secret that only the owner reads."""

    user: str
    secret: str
    bucket: str
    workspace: str
    prefix: str
    """Of the user's models in Triton."""
    url: str
    """A published file, which everybody may read."""
    experiment: str = ""
    run: str = ""
    artifacts: str = ""
    """Path of the run's artifacts in MLflow."""
    model: str = ""
    """A registered model, with a version 1."""
    damaged: str = ""
    """A registered model, of which the file of version 1 crashes XGBoost."""
    served: str = ""
    """Name of a model in Triton."""
    request: str = ""
    """A transform request with one result."""
    result: str = ""
    """Name of that result's object."""
    file: str = ""
    """Id of the request's file."""
    dataset: str = ""
    cluster: str = ""
    """A Dask cluster."""
    scheduler: str = ""
    """HOST:PORT of its scheduler."""


@dataclass(frozen=True)
class Response:
    """What a server said."""

    status: int
    text: str

    @property
    def good(self) -> bool:
        """Return whether the server did it; sending the caller to a login is a refusal."""
        return self.status < MULTIPLE_CHOICES


Attack = Callable[[Names, Names], Response]


@dataclass(frozen=True)
class Row:
    """An attack, and how it is judged."""

    name: str
    attack: Attack
    twin: Attack
    """What the owner calls: the attack itself, or the same way where the owner has none."""
    reads: bool
    """True: it succeeds if the response has the victim's secret; False: if the status says so."""


ROWS: list[Row] = []


def reads(attack: Attack) -> Attack:
    """Add an attack that wants to read the victim's secret."""
    ROWS.append(Row(attack.__name__, attack, attack, reads=True))
    return attack


def changes(attack: Attack) -> Attack:
    """Add an attack that wants to change what is the victim's, or to act for the victim."""
    ROWS.append(Row(attack.__name__, attack, attack, reads=False))
    return attack


def like(twin: Attack, *, reads: bool = True) -> Callable[[Attack], Attack]:
    """Add an attack by a detour that is open to nobody; the owner takes the direct way `twin`."""

    def add(attack: Attack) -> Attack:
        ROWS.append(Row(attack.__name__, attack, twin, reads=reads))
        return attack

    return add


def header_names(keywords: dict[str, str]) -> dict[str, str]:
    """Return headers that were given as keywords, with `-` in place of `_` in their names."""
    return {name.replace("_", "-"): value for name, value in keywords.items()}


def call(
    method: str, url: str, *, headers: dict[str, str] | None = None, **options: Any
) -> Response:
    """Send a request."""
    response = requests.request(
        method, url, headers=headers, timeout=TIMEOUT_S, allow_redirects=False, **options
    )
    return Response(response.status_code, response.text)


def call_raw(method: str, url: str, headers: dict[str, str], body: bytes = b"") -> Response:
    """Send a request whose path stays as it is: clients resolve `..`."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=TIMEOUT_S)
    try:
        target = url.partition(parts.netloc)[2]
        connection.putrequest(method, target, skip_host="Host" in headers)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            connection.putheader(name, value)
        connection.endheaders(body or None)
        response = connection.getresponse()
        return Response(response.status, response.read().decode(errors="replace"))
    except (http.client.HTTPException, ConnectionError) as error:
        return Response(requests.codes.bad_request, f"closed: {error}")
    finally:
        connection.close()


def bearer(audience: str) -> dict[str, str]:
    """Return the header with the caller's token."""
    return {"Authorization": f"Bearer {shoppe.token(audience)}"}


def hub_token() -> str:
    """Return the hub's token of the caller's server; '' in pods that are no servers."""
    return os.environ.get("JUPYTERHUB_API_TOKEN", "")


def own_keys() -> Credentials:
    """Return the caller's keys of the object store."""
    credentials = botocore.session.get_session().get_credentials()
    assert credentials is not None
    frozen = credentials.get_frozen_credentials()
    return Credentials(frozen.access_key, frozen.secret_key)


def s3(
    method: str,
    path: str,
    *,
    keys: Credentials | None = None,
    base: str = "",
    body: bytes = b"",
    presigned: bool = False,
    **headers: str,
) -> Response:
    """Send a signed request to the object store, or to `base`; the path stays as it is."""
    url = f"{base or shoppe.connections()['s3']}{path}"
    named = header_names(headers)
    request = AWSRequest(method=method, url=url, headers=named, data=body)
    if presigned:
        S3SigV4QueryAuth(keys or own_keys(), "s3", "us-east-1", expires=600).add_auth(request)
        return call_raw(method, str(request.url), named, body)
    S3SigV4Auth(keys or own_keys(), "s3", "us-east-1").add_auth(request)
    return call_raw(method, url, dict(request.headers.items()), body)


def together(responses: list[Response]) -> Response:
    """Return many responses as one: any success is a success."""
    status = min(response.status for response in responses)
    return Response(status, "\n".join(response.text for response in responses))
