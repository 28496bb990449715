"""The services of the facility that this pod is in, and the user's tokens for them."""

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

import requests
from coffea_shoppe_contract import identity

TIMEOUT_S = 30


class FacilityError(RuntimeError):
    """Something of the facility cannot be used; the text names it and the remedy."""


def folder() -> Path:
    """Return the folder of the user's tokens and connections."""
    return Path(os.environ.get(identity.ENV_FOLDER, identity.FOLDER))


def connections() -> dict[str, str]:
    """Return the address of each service of the facility.

    Raises `FacilityError` outside of a facility's pods.
    """
    path = folder() / identity.CONNECTIONS_FILE
    try:
        found: dict[str, str] = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise FacilityError(
            f"{path} is not there: this is no pod of a facility with an operator; "
            "start your server anew, or ask the facility's operators"
        ) from error
    return found


def token(service: str) -> str:
    """Return the user's present token for a service; read it anew for each request.

    Raises `FacilityError` where there is none.
    """
    if service not in identity.AUDIENCES:
        known = ", ".join(identity.AUDIENCES)
        raise FacilityError(f"there are no tokens for {service!r}; there are for: {known}")
    path = folder() / identity.token_file(service)
    try:
        return path.read_text().strip()
    except FileNotFoundError as error:
        raise FacilityError(f"{path} is not there: start your server anew") from error


def workspace() -> str:
    """Return the name of my workspace in MLflow, or '' where the facility gives none."""
    try:
        return (folder() / identity.WORKSPACE_FILE).read_text().strip()
    except FileNotFoundError:
        return ""


def address_of(service: str, name: str) -> str:
    """Return the address of a service that people know as `name`.

    Raises `FacilityError` where the facility has none.
    """
    address = connections().get(service, "")
    if not address:
        raise FacilityError(f"this facility has no {name}: ask its operators")
    return address.rstrip("/")


def ask(
    service: str,
    method: str,
    path: str,
    *,
    name: str,
    timeout: float = TIMEOUT_S,
    **options: Any,
) -> dict[str, Any]:
    """Return a service's JSON answer to a request with the user's token.

    `name` is what its errors call it.  Raises `FacilityError` where it is not there, does
    not answer, or refuses.
    """
    address = address_of(service, name.removeprefix("the facility "))
    headers = {"Authorization": f"Bearer {token(service)}"}
    try:
        answer = requests.request(
            method, f"{address}{path}", headers=headers, timeout=timeout, **options
        )
        found: dict[str, Any] = answer.json()
    except (requests.RequestException, ValueError) as error:
        raise FacilityError(
            f"{name} at {address} does not answer ({type(error).__name__}); "
            "try again in a minute, then tell the facility's operators"
        ) from error
    if not answer.ok:
        told = found.get("error") or found.get("message") or answer.status_code
        raise FacilityError(f"{name} refused: {told}")
    return found


@dataclass(frozen=True)
class Limit:
    """What I may use of a service, and how much of it I do."""

    service: str
    what: str
    """clusters, cores, memory, stored or models."""
    unit: str
    used: float
    limit: float
    """0: there is none."""

    def __str__(self) -> str:
        most = f"of {self.limit:.4g}" if self.limit else "(no limit)"
        return " ".join(filter(None, (self.what, f"{self.used:.3g}", most, self.unit)))


@dataclass(frozen=True)
class Status:
    """What is mine in the facility, and how it is."""

    user: str
    groups: tuple[str, ...]
    valid_until: datetime
    services: dict[str, dict[str, Any]]
    """Service → address, healthy, problem."""
    conditions: tuple[dict[str, str], ...] = ()
    """What the facility has made for me, each with type, status, reason and message."""
    quota: tuple[Limit, ...] = ()

    def _limits(self, service: str) -> str:
        return ", ".join(str(one) for one in self.quota if one.service == service)

    def _rows(self) -> list[tuple[str, str, str, str]]:
        return [
            (
                name,
                "healthy" if one["healthy"] else f"NOT healthy: {one['problem']}",
                one["address"],
                self._limits(name),
            )
            for name, one in sorted(self.services.items())
        ]

    def __str__(self) -> str:
        groups = f" ({', '.join(self.groups)})" if self.groups else ""
        until = f"{self.valid_until:%H:%M:%S} UTC"
        lines = [f"{self.user}{groups}, tokens good until {until}; renewed before"]
        for name, how, address, limits in self._rows():
            lines.append(f"  {name:14s} {how:12s} {address}")
            lines += [f"  {'':14s} {limits}"] if limits else []
        lines += [f"  {one['type']:14s} NOT mine yet: {one['message']}" for one in self._missing()]
        return "\n".join(lines)

    def _missing(self) -> list[dict[str, str]]:
        return [one for one in self.conditions if one["status"] != "True"]

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = "".join(
            "<tr>"
            + "".join(f"<td style='text-align:left'>{escape(cell)}</td>" for cell in row)
            + "</tr>"
            for row in self._rows()
        )
        head, *_ = str(self).splitlines()
        told = "".join(
            f"<p>{escape(one['type'])}: NOT mine yet: {escape(one['message'])}</p>"
            for one in self._missing()
        )
        return f"<p>{escape(head)}</p><table>{rows}</table>{told}"


def status() -> Status:
    """Return who I am to the facility, which services answer, and what I use of my quota.

    Raises `FacilityError` where the facility API cannot be asked.
    """
    address = address_of("api", "API")
    headers = {"Authorization": f"Bearer {token('api')}"}
    url = address + identity.STATUS_PATH
    try:
        answer = requests.get(url, headers=headers, timeout=TIMEOUT_S)
    except requests.RequestException as error:
        raise FacilityError(
            f"the facility API at {address} does not answer ({type(error).__name__}); "
            "try again in a minute, then tell the facility's operators"
        ) from error
    if answer.status_code != 200:
        try:
            problem = answer.json()["error"]
        except (ValueError, KeyError, TypeError):
            problem = f"{answer.status_code} {answer.reason}"
        raise FacilityError(f"the facility API at {address} refused: {problem}")
    found = answer.json()
    return Status(
        user=found["user"],
        groups=tuple(found["groups"]),
        valid_until=datetime.fromtimestamp(found["validUntil"], UTC),
        services=found["services"],
        conditions=tuple(found["conditions"]),
        quota=tuple(Limit(**one) for one in found["quota"]),
    )
