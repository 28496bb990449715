"""The user's models in the facility's Triton: registered in MLflow, served by one call."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from coffea_shoppe_contract.api import SERVE_PATH

from coffea_shoppe.connections import FacilityError, address_of, request_json, token

LOAD_TIMEOUT_S = 180


@dataclass(frozen=True)
class Served:
    """A model of the user's in Triton."""

    name: str
    """The name that the user gave it."""
    uri: str
    """Its address in MLflow: models:/NAME@ALIAS or models:/NAME/VERSION."""
    model: str
    """Its name in Triton; empty while nothing is served."""
    version: str
    run: str
    """The MLflow run that logged it."""
    sha256: str
    method: str
    """Method whose output Triton returns: `predict_proba` (rows, classes) or `predict` (rows,
    outputs); empty for a model that an earlier release serves: (rows, 1)."""
    outputs: int
    """Number of columns that Triton returns."""
    url: str
    """HTTP address of the model in Triton."""
    training: str
    """Digests of the datasets that its run logged as inputs."""
    code: str
    """The code that trained it: its run's git commit, or its tag `code.sha256`."""
    ready: bool
    """Whether the version that `uri` names is the one that is served."""
    reason: str
    message: str

    def __str__(self) -> str:
        state = "served" if self.ready else "NOT served"
        return f"{self.name}: {state}, {self.message}"

    __repr__ = __str__


def _parse(response: dict[str, Any]) -> Served:
    status = response["status"]
    ready = next((c for c in status["conditions"] if c["type"] == "Ready"), None)
    return Served(
        name=response["name"],
        uri=response["model"],
        model=status["model"],
        version=status["version"],
        run=status["run"],
        sha256=status["sha256"],
        method=status.get("method", ""),
        outputs=status.get("outputs", 1),
        url=status["url"],
        training=status["training"],
        code=status["code"],
        ready=bool(ready and ready["status"] == "True"),
        reason=ready["reason"] if ready else "",
        message=ready["message"] if ready else "not processed yet",
    )


def _request(method: str, path: str = "", **options: Any) -> dict[str, Any]:
    return request_json("api", method, f"{SERVE_PATH}{path}", name="the facility API", **options)


def default_name(uri: str) -> str:
    """Return the name under which a model is served by default."""
    name = re.split(r"[@/]", uri.removeprefix("models:/"))[0].lower()
    return re.sub(r"[^a-z0-9]+", "-", name).strip("-")[:48].strip("-")


def serve(
    uri: str,
    name: str | None = None,
    *,
    timeout: float = LOAD_TIMEOUT_S,
    note: Callable[[str], None] = lambda _: None,
) -> Served:
    """Serve a model of the user's workspace in Triton, and wait until it is ready.

    `uri` is models:/NAME@ALIAS or models:/NAME/VERSION; when an alias moves, the new version
    is served.  A second call with the same `name` replaces the model.
    `timeout` is in seconds; `note` gets a line whenever the state changes.  Raises
    `FacilityError` with the reason if the model cannot be served; the model that was served
    under the name before stays in service.
    """
    name = name or default_name(uri)
    submitted = _request("POST", json={"model": uri, "name": name})["requestedAt"]
    deadline = time.monotonic() + timeout
    noted = ""
    while True:
        body = _request("GET", f"/{name}")
        model = _parse(body)
        if body["status"]["requestedAt"] >= submitted:
            if model.ready:
                return model
            if model.reason != "Unavailable":
                raise FacilityError(f"{uri} cannot be served: {model.message}")
        if time.monotonic() > deadline:
            raise FacilityError(f"{uri} was not served within {timeout:.0f} s: {model.message}")
        if model.message != noted:
            noted = model.message
            note(f"{uri}: {noted}")
        time.sleep(1)


def served() -> list[Served]:
    """Return all models of the user in Triton."""
    return [_parse(entry) for entry in _request("GET")["models"]]


def unserve(name: str) -> None:
    """Stop serving a model; raises `FacilityError` where there is none of that name."""
    _request("DELETE", f"/{name}")


@dataclass(frozen=True)
class Counts:
    """A model's use since Triton loaded it."""

    version: str
    requests: int
    rows: int


def counts(model: str) -> Counts:
    """Return how many requests and rows a model has scored; `model` is its name in Triton."""
    path = f"/v2/models/{model}/stats"
    # An entry for each replica; Triton leaves out zeros.
    replicas = request_json("triton", "GET", path, name="Triton")["model_stats"]
    requests = sum(int(entry["inference_stats"]["success"].get("count", 0)) for entry in replicas)
    rows = sum(int(entry.get("inference_count", 0)) for entry in replicas)
    return Counts(str(replicas[0]["version"]), requests, rows)


def triton() -> tuple[str, dict[str, str]]:
    """Return Triton's gRPC address, and headers with the user's token, for tritonclient.

    Call it for each request: tokens live for minutes.
    """
    address = address_of("triton-grpc", "Triton")
    return urlsplit(address).netloc, {"authorization": f"Bearer {token('triton')}"}
