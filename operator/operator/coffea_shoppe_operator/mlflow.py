"""Workspaces and registered models of MLflow (its REST API)."""

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import requests
import yaml
from coffea_shoppe_contract import identity

from coffea_shoppe_operator.errors import ModelError, StorageError, telling
from coffea_shoppe_operator.models import MlflowSettings

TIMEOUT_S = 20
CODE_TAGS = ("mlflow.source.git.commit", identity.CODE_TAG)

_telling = telling("MLflow", requests.RequestException)


@dataclass(frozen=True)
class Version:
    """One version of a registered model."""

    name: str
    number: str
    run: str


@dataclass(frozen=True)
class Booster:
    """An XGBoost model as MLflow keeps it."""

    data: bytes
    """In XGBoost's own format."""
    file: str
    """`model.ubj` or `model.json`: XGBoost tells the format by the ending."""
    features: int
    signature: str = ""
    """MLflow's signature of inputs and outputs, as JSON."""
    training: str = ""
    """Digests of the datasets that its run logged as inputs: NAME:DIGEST, …"""
    code: str = ""
    """What made it: the run's git commit, or its tag `code.sha256`."""


@dataclass(frozen=True)
class Reader:
    """Who looks into a workspace."""

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

    @_telling
    def welcome(self, token: str) -> None:
        """Make a user known, and the user's workspace: the first request does so."""
        answer = self._send("GET", "2.0/mlflow/users/current", token)
        if not answer.ok:
            raise StorageError(f"MLflow: {answer.status_code} {answer.text[:200]}")

    @_telling
    def remove(self, user: str, workspace: str, token: str) -> None:
        """Remove a workspace with all that is in it, and its user; none is no error.

        `token` is the operator's own.
        """
        for path, options in (
            (f"3.0/mlflow/workspaces/{workspace}", {"params": {"mode": "CASCADE"}}),
            ("2.0/mlflow/users/delete", {"json": {"username": user}}),
        ):
            answer = self._send("DELETE", path, token, **options)
            if not answer.ok and answer.status_code != 404:
                raise StorageError(f"MLflow: {path}: {answer.status_code} {answer.text[:200]}")

    def _look(self, path: str, who: Reader, **params: str) -> dict[str, Any]:
        """Ask the registry; raises `ModelError` where there is no such thing."""
        answer = self._get(f"2.0/mlflow/{path}", who, params=params)
        if answer.status_code in (400, 404):
            told = answer.json().get("message", answer.text)
            raise ModelError("NotFound", f"MLflow: {told[:300]}")
        if not answer.ok:
            raise StorageError(f"MLflow: {path}: {answer.status_code} {answer.text[:200]}")
        found: dict[str, Any] = answer.json()
        return found

    def _get(self, path: str, who: Reader, **options: object) -> requests.Response:
        headers = {
            "Authorization": f"Bearer {who.token}",
            identity.WORKSPACE_HEADER: who.workspace,
        }
        return requests.get(
            f"{self.url}/api/{path}",
            headers=headers,
            timeout=TIMEOUT_S,
            **options,  # type: ignore[arg-type]
        )

    @_telling
    def resolve(self, uri: str, who: Reader) -> Version:
        """Return the version that `models:/NAME@ALIAS` or `models:/NAME/VERSION` is.

        Raises `ModelError` where there is none.
        """
        name, separator, alias = uri.removeprefix("models:/").partition("@")
        if separator:
            found = self._look("registered-models/alias", who, name=name, alias=alias)
        else:
            name, _, version = name.rpartition("/")
            found = self._look("model-versions/get", who, name=name, version=version)
        told = found["model_version"]
        return Version(name, str(told["version"]), told.get("run_id", ""))

    @_telling
    def fetch(self, version: Version, who: Reader, *, megabytes: int) -> Booster:
        """Return a version's model; raises `ModelError` where it is none that can be served."""
        found = self._look(
            "model-versions/get-download-uri", who, name=version.name, version=version.number
        )
        folder = quote(urlsplit(found["artifact_uri"]).path.strip("/"))
        described = yaml.safe_load(self._artifact(f"{folder}/MLmodel", who, limit=2**20))
        flavor = (described.get("flavors") or {}).get("xgboost")
        if not flavor:
            held = ", ".join(described.get("flavors") or {}) or "nothing"
            raise ModelError("NoXGBoost", f"only XGBoost models can be served; this is: {held}")
        file = str(flavor.get("data", ""))
        if file not in ("model.ubj", "model.json"):
            raise ModelError("WrongFormat", "log it with mlflow.xgboost and model_format='ubj'")
        columns = features(described)
        data = self._artifact(f"{folder}/{file}", who, limit=megabytes * 2**20)
        training, code = self._origin(version.run, who)
        return Booster(data, file, columns, signature(described), training, code)

    def _origin(self, run: str, who: Reader) -> tuple[str, str]:
        """Return the digests of a run's datasets, and of its code; '' where it tells none."""
        if not run:
            return "", ""
        found = self._look("runs/get", who, run_id=run)["run"]
        inputs = (found.get("inputs") or {}).get("dataset_inputs") or []
        sets = [f"{one['dataset']['name']}:{one['dataset']['digest']}" for one in inputs]
        tags = {tag["key"]: tag["value"] for tag in found["data"].get("tags", [])}
        code = next((tags[key] for key in CODE_TAGS if key in tags), "")
        return ", ".join(sorted(sets)), code

    def _lacks(self, path: str, who: Reader) -> bool:
        """Return whether an artifact is not there: MLflow says no more than that it failed."""
        folder, _, name = path.rpartition("/")
        where = {"path": unquote(folder)}
        answer = self._get("2.0/mlflow-artifacts/artifacts", who, params=where)
        listed = answer.json().get("files") or [] if answer.ok else [{"path": name}]
        return all(one["path"].rpartition("/")[2] != name for one in listed)

    def _artifact(self, path: str, who: Reader, *, limit: int) -> bytes:
        answer = self._get(f"2.0/mlflow-artifacts/artifacts/{path}", who, stream=True)
        if answer.status_code == 404 or (answer.status_code == 500 and self._lacks(path, who)):
            raise ModelError("NotFound", f"MLflow has no artifact {path}")
        if not answer.ok:
            raise StorageError(f"MLflow: {path}: {answer.status_code}")
        held = bytearray()
        for part in answer.iter_content(2**20):
            held += part
            if len(held) > limit:
                raise ModelError("TooLarge", f"{path} is larger than {limit // 2**20} MiB")
        return bytes(held)


def signature(described: dict[str, Any]) -> str:
    """Return a model's signature as one JSON object: inputs and outputs, where it has them."""
    told = described.get("signature") or {}
    parts = {key: json.loads(told[key]) for key in ("inputs", "outputs") if told.get(key)}
    return json.dumps(parts, sort_keys=True) if parts else ""


def features(described: dict[str, Any]) -> int:
    """Return the number of columns that a model's signature tells."""
    inputs = yaml.safe_load((described.get("signature") or {}).get("inputs") or "[]")
    if len(inputs) == 1 and inputs[0].get("type") == "tensor":
        shape = inputs[0]["tensor-spec"]["shape"]
        if len(shape) == 2 and shape[1] > 0:
            return int(shape[1])
    elif inputs and all(one.get("type") != "tensor" for one in inputs):
        return len(inputs)
    raise ModelError("NoSignature", "log it with a signature that tells the number of features")
