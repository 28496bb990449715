"""My models in the facility's Triton: registered in MLflow, served by one call."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from coffea_shoppe_contract import identity

from coffea_shoppe.connections import FacilityError, address_of, ask, token

LOAD_S = 180


@dataclass(frozen=True)
class Served:
    """A model of mine in Triton."""

    name: str
    """My own name for it."""
    uri: str
    """In MLflow: models:/NAME@ALIAS or models:/NAME/VERSION."""
    model: str
    """Its name in Triton; empty while nothing is served."""
    version: str
    run: str
    """MLflow's run that it comes from."""
    sha256: str
    url: str
    """Of the model in Triton, over HTTP."""
    training: str
    """Digests of the datasets that its run logged as inputs."""
    code: str
    """What made it: its run's git commit, or its tag `code.sha256`."""
    ready: bool
    """Whether what `uri` names is what is served."""
    reason: str
    message: str

    def __str__(self) -> str:
        how = "served" if self.ready else "NOT served"
        return f"{self.name}: {how}, {self.message}"

    __repr__ = __str__


def _parse(found: dict[str, Any]) -> Served:
    status = found["status"]
    ready = next((c for c in status["conditions"] if c["type"] == "Ready"), None)
    return Served(
        name=found["name"],
        uri=found["model"],
        model=status["model"],
        version=status["version"],
        run=status["run"],
        sha256=status["sha256"],
        url=status["url"],
        training=status["training"],
        code=status["code"],
        ready=bool(ready and ready["status"] == "True"),
        reason=ready["reason"] if ready else "",
        message=ready["message"] if ready else "not looked at yet",
    )


def _ask(method: str, path: str = "", **options: Any) -> dict[str, Any]:
    return ask("api", method, f"{identity.SERVE_PATH}{path}", name="the facility API", **options)


def default_name(uri: str) -> str:
    """Return the name under which a model is served unless told."""
    name = re.split(r"[@/]", uri.removeprefix("models:/"))[0].lower()
    return re.sub(r"[^a-z0-9]+", "-", name).strip("-")[:48].strip("-")


def serve(
    uri: str,
    name: str | None = None,
    *,
    timeout: float = LOAD_S,
    note: Callable[[str], None] = lambda _: None,
) -> Served:
    """Serve a model of my workspace in Triton, and wait until it is.

    `uri` is models:/NAME@ALIAS or models:/NAME/VERSION; an alias is followed when it
    moves.  The same `name` again serves another version instead.  Raises
    `FacilityError` with the reason where it cannot be served; what was served under
    that name then still is.
    """
    name = name or default_name(uri)
    asked = _ask("POST", json={"model": uri, "name": name})["asked"]
    end = time.monotonic() + timeout
    told = ""
    while True:
        body = _ask("GET", f"/{name}")
        found = _parse(body)
        if body["status"]["asked"] >= asked:
            if found.ready:
                return found
            if found.reason != "Unavailable":
                raise FacilityError(f"{uri} cannot be served: {found.message}")
        if time.monotonic() > end:
            raise FacilityError(f"{uri} was not served within {timeout:.0f} s: {found.message}")
        if found.message != told:
            told = found.message
            note(f"{uri}: {told}")
        time.sleep(1)


def served() -> list[Served]:
    """Return all models of mine in Triton."""
    return [_parse(one) for one in _ask("GET")["models"]]


def unserve(name: str) -> None:
    """Stop serving a model of mine; raises `FacilityError` where there is none."""
    _ask("DELETE", f"/{name}")


@dataclass(frozen=True)
class Counts:
    """What Triton has counted of a model's use since it was loaded."""

    version: str
    requests: int
    rows: int


def counts(model: str) -> Counts:
    """Return how often a model of mine was asked, by its name in Triton, and for how many rows."""
    every = ask("triton", "GET", f"/v2/models/{model}/stats", name="Triton")["model_stats"]
    # An entry for each replica; Triton leaves out what is zero.
    asked = sum(int(one["inference_stats"]["success"].get("count", 0)) for one in every)
    rows = sum(int(one.get("inference_count", 0)) for one in every)
    return Counts(str(every[0]["version"]), asked, rows)


def triton() -> tuple[str, dict[str, str]]:
    """Return Triton's gRPC address, and the headers with my token, for tritonclient.

    Ask anew for each request: tokens live for minutes.
    """
    address = address_of("triton-grpc", "Triton")
    return urlsplit(address).netloc, {"authorization": f"Bearer {token('triton')}"}
