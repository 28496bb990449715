"""The addresses of the facility's services, and the user's tokens for them."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

import requests
from coffea_shoppe_contract.api import STATUS_PATH
from coffea_shoppe_contract.files import (
    CONNECTIONS_FILE,
    ENV_IDENTITY_FOLDER,
    IDENTITY_FOLDER,
    WORKSPACE_FILE,
    token_file,
)
from requests.exceptions import InvalidSchema, InvalidURL, MissingSchema

TIMEOUT_S = 30
MLFLOW_AUTH = "coffea-shoppe"
"""Value of MLFLOW_TRACKING_AUTH where MLflow accepts the facility's tokens."""


class FacilityError(RuntimeError):
    """A service of the facility cannot be used; the text names it and the remedy."""


def folder() -> Path:
    """Return the folder of the user's tokens and connections."""
    return Path(os.environ.get(ENV_IDENTITY_FOLDER, IDENTITY_FOLDER))


def connections() -> dict[str, str]:
    """Return the address of each service of the facility.

    Raises `FacilityError` outside of a facility's pods.
    """
    path = folder() / CONNECTIONS_FILE
    try:
        addresses: dict[str, str] = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise FacilityError(
            f"{path} does not exist. In a facility, restart your server, or ask its "
            f"administrators; outside of it, set {ENV_IDENTITY_FOLDER} to a folder with your "
            "connections and tokens"
        ) from error
    except ValueError as error:
        raise FacilityError(f"{path} is not valid JSON: {error}; download it again") from error
    return addresses


def token(service: str) -> str:
    """Return the user's current token for a service; call this for each request.

    Raises `FacilityError` where there is none.
    """
    prefix = token_file("")
    files = {path.name.removeprefix(prefix): path for path in folder().glob(f"{prefix}*")}
    if not files:
        raise FacilityError(
            f"{folder()} contains no tokens: restart your server, or download them again"
        )
    if service not in files:
        known = ", ".join(sorted(files))
        raise FacilityError(f"service: there is no token for {service!r}; give one of {known}")
    return files[service].read_text().strip()


def workspace() -> str:
    """Return the name of the user's workspace in MLflow, or '' where there is none."""
    try:
        return (folder() / WORKSPACE_FILE).read_text().strip()
    except FileNotFoundError:
        return ""


def mlflow_address() -> str:
    """Return the address of the MLflow that accepts the facility's tokens, or ''.

    An external MLflow with its own logins gets no token of the facility.
    """
    if os.environ.get("MLFLOW_TRACKING_AUTH") != MLFLOW_AUTH:
        return ""
    return os.environ.get("MLFLOW_TRACKING_URI", "")


def address_of(service: str, name: str) -> str:
    """Return the address of a service, which errors call `name`.

    Raises `FacilityError` where the facility has none.
    """
    address = connections().get(service, "")
    if not address:
        raise FacilityError(f"this facility has no {name}; ask its administrators")
    return address.rstrip("/")


def send(
    method: str,
    url: str,
    *,
    audience: str,
    name: str,
    headers: Mapping[str, str] | None = None,
    timeout: float = TIMEOUT_S,
    **options: Any,
) -> requests.Response:
    """Return the response to a request with the user's token for `audience`.

    `name` is what errors call the service, `timeout` is in seconds, and `options` are those
    of `requests.request`.  Raises `FacilityError` where the service does not respond.
    """
    authorization = {"Authorization": f"Bearer {token(audience)}"}
    try:
        return requests.request(
            method, url, headers={**(headers or {}), **authorization}, timeout=timeout, **options
        )
    except (InvalidSchema, InvalidURL, MissingSchema) as error:
        raise FacilityError(
            f"{name} has the address {url!r}, which is not a URL: correct it in "
            f"{folder() / CONNECTIONS_FILE}"
        ) from error
    except requests.RequestException as error:
        raise FacilityError(
            f"{name} at {url} does not respond ({type(error).__name__}); "
            "try again in a minute, then report it to the administrators"
        ) from error


def request_json(
    service: str,
    method: str,
    path: str,
    *,
    name: str,
    **options: Any,
) -> dict[str, Any]:
    """Return the JSON response of a service to a request with the user's token.

    `name` and `options` are those of `send`.  Raises `FacilityError` where the facility has
    no such service, or it does not respond, or refuses.
    """
    address = address_of(service, name.removeprefix("the facility "))
    response = send(method, f"{address}{path}", audience=service, name=name, **options)
    try:
        body: dict[str, Any] = response.json()
    except ValueError as error:
        status = f"{response.status_code} {response.reason}"
        raise FacilityError(
            f"{name} at {address} sent {status} instead of JSON; "
            "try again in a minute, then report it to the administrators"
        ) from error
    if not response.ok:
        reason = body.get("error") or body.get("message") or response.status_code
        raise FacilityError(f"{name} refused the request: {reason}")
    return body


@dataclass(frozen=True)
class Limit:
    """A limit of a service for the user, and how much of it is used."""

    service: str
    what: str
    """clusters, cores, memory, stored or models."""
    unit: str
    used: float
    limit: float
    """0: there is no limit."""

    def __str__(self) -> str:
        limit = f"of {self.limit:.4g}" if self.limit else "(no limit)"
        return " ".join(filter(None, (self.what, f"{self.used:.3g}", limit, self.unit)))


@dataclass(frozen=True)
class Status:
    """What the user has in the facility, and its state."""

    user: str
    groups: tuple[str, ...]
    valid_until: datetime
    services: dict[str, dict[str, Any]]
    """Service → address, healthy, problem."""
    conditions: tuple[dict[str, str], ...] = ()
    """What the facility has set up for the user, each with type, status, reason and message."""
    quota: tuple[Limit, ...] = ()

    def _limits(self, service: str) -> str:
        return ", ".join(str(limit) for limit in self.quota if limit.service == service)

    def _rows(self) -> list[tuple[str, str, str, str]]:
        return [
            (
                name,
                "healthy" if service["healthy"] else f"NOT healthy: {service['problem']}",
                service["address"],
                self._limits(name),
            )
            for name, service in sorted(self.services.items())
        ]

    def __str__(self) -> str:
        groups = f" ({', '.join(self.groups)})" if self.groups else ""
        until = f"{self.valid_until:%H:%M:%S} UTC"
        lines = [f"{self.user}{groups}, tokens valid until {until}; renewed before"]
        for name, health, address, limits in self._rows():
            lines.append(f"  {name:14s} {health:12s} {address}")
            lines += [f"  {'':14s} {limits}"] if limits else []
        lines += [
            f"  {condition['type']:14s} NOT ready yet: {condition['message']}"
            for condition in self._missing()
        ]
        return "\n".join(lines)

    def _missing(self) -> list[dict[str, str]]:
        return [condition for condition in self.conditions if condition["status"] != "True"]

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = "".join(
            "<tr>"
            + "".join(f"<td style='text-align:left'>{escape(cell)}</td>" for cell in row)
            + "</tr>"
            for row in self._rows()
        )
        head, *_ = str(self).splitlines()
        missing = "".join(
            f"<p>{escape(condition['type'])}: NOT ready yet: {escape(condition['message'])}</p>"
            for condition in self._missing()
        )
        return f"<p>{escape(head)}</p><table>{rows}</table>{missing}"


def status() -> Status:
    """Return who the user is, which services respond, and how much of the quota is used.

    Raises `FacilityError` where the facility API does not respond, or refuses.
    """
    body = request_json("api", "GET", STATUS_PATH, name="the facility API")
    return Status(
        user=body["user"],
        groups=tuple(body["groups"]),
        valid_until=datetime.fromtimestamp(body["validUntil"], UTC),
        services=body["services"],
        conditions=tuple(body["conditions"]),
        quota=tuple(Limit(**entry) for entry in body["quota"]),
    )
