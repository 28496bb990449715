"""Workspaces and registered models of MLflow (its REST API)."""

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import requests
import yaml
from coffea_shoppe_contract.api import WORKSPACE_HEADER
from coffea_shoppe_contract.names import CODE_TAG

from coffea_shoppe_operator.adapters.mlflow import MlflowSettings
from coffea_shoppe_operator.errors import ModelError, StorageError, translate_errors

TIMEOUT_S = 20
CODE_TAGS = ("mlflow.source.git.commit", CODE_TAG)

_translated = translate_errors("MLflow", requests.RequestException)


@dataclass(frozen=True)
class Version:
    """One version of a registered model."""

    name: str
    number: str
    run: str


@dataclass(frozen=True)
class Booster:
    """An XGBoost model in MLflow."""

    content: bytes
    """The file, in XGBoost's own format."""
    file: str
    """`model.ubj` or `model.json`: XGBoost recognizes the format by the suffix."""
    features: int
    """Number of columns in the signature."""
    columns: tuple[str, ...] = ()
    """Names of the columns, if the signature has them."""
    signature: str = ""
    """MLflow's signature of inputs and outputs, as JSON."""
    training: str = ""
    """Digests of the datasets that the run logged as inputs: NAME:DIGEST, …"""
    code: str = ""
    """The run's git commit, or its tag `code.sha256`."""


@dataclass(frozen=True)
class Reader:
    """Access to a workspace with a user's token."""

    token: str
    workspace: str


class Mlflow:
    """The facility's MLflow."""

    def __init__(self, settings: MlflowSettings) -> None:
        self.url = settings.endpoint.rstrip("/")

    def _send(self, method: str, path: str, token: str, **options: object) -> requests.Response:
        return requests.request(
            method,
            f"{self.url}/api/{path}",
            headers={"Authorization": f"Bearer {token}"},
            timeout=TIMEOUT_S,
            **options,  # type: ignore[arg-type]
        )

    @_translated
    def create_workspace(self, token: str) -> None:
        """Create a user and the user's workspace: the first request with a token does so."""
        response = self._send("GET", "2.0/mlflow/users/current", token)
        if not response.ok:
            raise StorageError(f"MLflow: {response.status_code} {response.text[:200]}")

    @_translated
    def remove(self, user: str, workspace: str, token: str) -> None:
        """Remove a workspace with its content, and its user; missing ones are no error.

        `token` is the operator's own.
        """
        for path, options in (
            (f"3.0/mlflow/workspaces/{workspace}", {"params": {"mode": "CASCADE"}}),
            ("2.0/mlflow/users/delete", {"json": {"username": user}}),
        ):
            response = self._send("DELETE", path, token, **options)
            if not response.ok and response.status_code != 404:
                raise StorageError(f"MLflow: {path}: {response.status_code} {response.text[:200]}")

    def _query(self, path: str, reader: Reader, **params: str) -> dict[str, Any]:
        """Query the registry; raises `ModelError` where it has no such entry, or refuses it."""
        response = self._get(f"2.0/mlflow/{path}", reader, params=params)
        _check_permission(response)
        if response.status_code in (400, 404):
            message = response.json().get("message", response.text)
            raise ModelError("NotFound", f"MLflow: {message[:300]}")
        if not response.ok:
            raise StorageError(f"MLflow: {path}: {response.status_code} {response.text[:200]}")
        entry: dict[str, Any] = response.json()
        return entry

    def _get(self, path: str, reader: Reader, **options: object) -> requests.Response:
        headers = {
            "Authorization": f"Bearer {reader.token}",
            WORKSPACE_HEADER: reader.workspace,
        }
        return requests.get(
            f"{self.url}/api/{path}",
            headers=headers,
            timeout=TIMEOUT_S,
            **options,  # type: ignore[arg-type]
        )

    @_translated
    def resolve(self, uri: str, reader: Reader) -> Version:
        """Return the version of `models:/NAME@ALIAS` or `models:/NAME/VERSION`.

        Raises `ModelError` where there is none.
        """
        name, separator, alias = uri.removeprefix("models:/").partition("@")
        if separator:
            entry = self._query("registered-models/alias", reader, name=name, alias=alias)
        else:
            name, _, version = name.rpartition("/")
            entry = self._query("model-versions/get", reader, name=name, version=version)
        resolved = entry["model_version"]
        return Version(name, str(resolved["version"]), resolved.get("run_id", ""))

    @_translated
    def fetch(self, version: Version, reader: Reader, *, megabytes: int) -> Booster:
        """Return a version's model; raises `ModelError` where it cannot be served."""
        entry = self._query(
            "model-versions/get-download-uri", reader, name=version.name, version=version.number
        )
        source = urlsplit(entry["artifact_uri"])
        if source.scheme != "mlflow-artifacts" or source.netloc:
            raise ModelError(
                "WrongSource",
                f"its source is {entry['artifact_uri'][:200]!r}, not in MLflow: log it in a run",
            )
        folder = quote(source.path.strip("/"))
        description = yaml.safe_load(self._artifact(f"{folder}/MLmodel", reader, limit=2**20))
        flavors = description.get("flavors") or {}
        flavor = flavors.get("xgboost")
        if not flavor:
            kinds = ", ".join(flavors) or "none"
            raise ModelError(
                "NoXGBoost",
                f"only XGBoost models can be served, but it has the flavors {kinds}: log it with "
                "mlflow.xgboost",
            )
        file = str(flavor.get("data", ""))
        if file not in ("model.ubj", "model.json"):
            raise ModelError(
                "WrongFormat",
                f"its file is {file!r}: log it with mlflow.xgboost and model_format='ubj'",
            )
        count, names = features(description)
        content = self._artifact(f"{folder}/{file}", reader, limit=megabytes * 2**20)
        training, code = self._origin(version.run, reader)
        return Booster(content, file, count, names, signature(description), training, code)

    def _origin(self, run: str, reader: Reader) -> tuple[str, str]:
        """Return the digests of a run's datasets and of its code, or ''."""
        if not run:
            return "", ""
        logged = self._query("runs/get", reader, run_id=run)["run"]
        inputs = (logged.get("inputs") or {}).get("dataset_inputs") or []
        datasets = [entry["dataset"] for entry in inputs]
        digests = [f"{dataset['name']}:{dataset['digest']}" for dataset in datasets]
        tags = {tag["key"]: tag["value"] for tag in logged["data"].get("tags", [])}
        code = next((tags[key] for key in CODE_TAGS if key in tags), "")
        return ", ".join(sorted(digests)), code

    def _is_missing(self, path: str, reader: Reader) -> bool:
        """Return whether an artifact does not exist: MLflow's own error does not say so."""
        folder, _, name = path.rpartition("/")
        parameters = {"path": unquote(folder)}
        response = self._get("2.0/mlflow-artifacts/artifacts", reader, params=parameters)
        files = response.json().get("files") or [] if response.ok else [{"path": name}]
        return all(file["path"].rpartition("/")[2] != name for file in files)

    def _artifact(self, path: str, reader: Reader, *, limit: int) -> bytes:
        response = self._get(f"2.0/mlflow-artifacts/artifacts/{path}", reader, stream=True)
        _check_permission(response)
        if response.status_code == 404 or (
            response.status_code == 500 and self._is_missing(path, reader)
        ):
            raise ModelError("NotFound", f"MLflow has no artifact {path}: log the model again")
        if not response.ok:
            raise StorageError(f"MLflow: {path}: {response.status_code}")
        content = bytearray()
        for part in response.iter_content(2**20):
            content += part
            if len(content) > limit:
                raise ModelError(
                    "TooLarge", f"{path} is larger than {limit // 2**20} MiB: log a smaller model"
                )
        return bytes(content)


def _check_permission(response: requests.Response) -> None:
    """Raise `ModelError` where MLflow does not let the model's user read something."""
    if response.status_code == 403:
        raise ModelError(
            "NotPermitted",
            f"MLflow refuses it ({' '.join(response.text.split())[:200]}): its owner shares the "
            "runs with coffea_shoppe.share_runs(), or you log the model in a run of yours",
        )


def signature(description: dict[str, Any]) -> str:
    """Return a model's signature as one JSON object with inputs and outputs, or ''."""
    logged = description.get("signature") or {}
    parts = {key: json.loads(logged[key]) for key in ("inputs", "outputs") if logged.get(key)}
    return json.dumps(parts, sort_keys=True) if parts else ""


def features(description: dict[str, Any]) -> tuple[int, tuple[str, ...]]:
    """Return the number of columns in a model's signature, and their names if it has them."""
    inputs = yaml.safe_load((description.get("signature") or {}).get("inputs") or "[]")
    if len(inputs) == 1 and inputs[0].get("type") == "tensor":
        shape = inputs[0]["tensor-spec"]["shape"]
        if len(shape) == 2 and shape[1] > 0:
            return int(shape[1]), ()
    elif inputs and all(column.get("type") != "tensor" for column in inputs):
        names = tuple(str(column["name"]) for column in inputs if column.get("name"))
        return len(inputs), names if len(names) == len(inputs) else ()
    raise ModelError(
        "NoSignature",
        "its signature does not have the number of features: log it with a signature inferred from "
        "its training rows",
    )
