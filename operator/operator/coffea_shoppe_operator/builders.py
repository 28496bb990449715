"""Kubernetes objects that the operator creates: pure functions."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from coffea_shoppe_contract.claims import (
    SERVICEX_REFRESH,
)
from coffea_shoppe_contract.files import (
    CONNECTIONS_FILE,
    SERVICEX_FILE,
    token_file,
)
from coffea_shoppe_contract.names import model_prefix
from coffea_shoppe_contract.resources import API_GROUP, API_VERSION

from coffea_shoppe_operator.models import (
    FacilityUser,
    ServedModelSpec,
    Settings,
)


def user_files(tokens: Mapping[str, bytes], settings: Settings) -> dict[str, bytes]:
    """Return the files of a user's Secret that no adapter provides: tokens and connections."""
    refresh_token = tokens[token_file(SERVICEX_REFRESH)].decode()
    connections = json.dumps(settings.connections, indent=1, sort_keys=True)
    files = {**servicex_files(refresh_token, settings), CONNECTIONS_FILE: connections}
    return {**tokens, **{name: text.encode() for name, text in files.items()}}


def servicex_files(token: str, settings: Settings) -> dict[str, str]:
    """Return the configuration of the stock ServiceX client, if the facility has ServiceX."""
    endpoint = settings.connections.get("servicex")
    if not endpoint:
        return {}
    entry = {"name": "servicex", "endpoint": endpoint.rstrip("/"), "token": token}
    return {SERVICEX_FILE: yaml.safe_dump({"api_endpoints": [entry]}, sort_keys=False)}


def secret(
    name: str, namespace: str, files: Mapping[str, bytes], labels: Mapping[str, str]
) -> dict[str, Any]:
    """Return a Secret; its values are bytes, not yet base64."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(labels)},
        "type": "Opaque",
        "data": dict(files),
    }


@dataclass(frozen=True)
class TritonModel:
    """A version of a model in Triton's repository."""

    name: str
    version: str
    file: str
    """Name of the file in MLflow: model.ubj or model.json."""
    features: int
    """Number of columns of the input."""
    backend: str
    """python or fil."""
    parameters: Mapping[str, str]
    """Provenance of the version."""
    method: str = ""
    """predict_proba or predict; empty for models served by an earlier release."""
    outputs: int = 1
    """Number of columns of the output."""
    rounds: int = 0
    """Number of boosting rounds that the prediction uses; 0: all."""


MAX_OUTPUT_BYTES = 128 * 2**20
"""Size of the largest output of one request."""


def triton_files(model: TritonModel, booster: bytes) -> dict[str, bytes]:
    """Return a model's files in Triton's repository, by path.

    Tensors have the names of the FIL backend, with both backends.
    """
    folder = f"{model.name}/{model.version}"
    config = {f"{model.name}/config.pbtxt": triton_config(model).encode()}
    if model.backend == "fil":
        return {f"{folder}/xgboost{Path(model.file).suffix}": booster, **config}
    python = f"{folder}/model.py"
    return {f"{folder}/{model.file}": booster, python: TRITON_MODEL.encode(), **config}


TRITON_MODEL = """import sys

sys.path.insert(0, "/opt/triton")
from coffea_shoppe_triton.model import TritonPythonModel  # noqa
"""


def triton_config(model: TritonModel) -> str:
    """Return a model's configuration, in which this version only is served.

    FIL's settings are those of its releases since 25.09; it has no setting for the rounds,
    so its file contains only the rounds that are used:
    https://github.com/triton-inference-server/fil_backend/blob/main/docs/model_config.md
    """
    parameters, kind = dict(model.parameters), "KIND_CPU"
    if model.method:
        parameters |= {"xgboost.method": model.method, "xgboost.rounds": str(model.rounds)}
    if model.backend == "fil":
        form = "xgboost_json" if model.file.endswith(".json") else "xgboost_ubj"
        classifier = model.method == "predict_proba"
        parameters |= {"model_type": form, "is_classifier": str(classifier).lower()}
        parameters |= {"predict_proba": "true"} if classifier else {}
        kind = "KIND_AUTO"
    parameter_lines = "".join(
        f"parameters {{key: {json.dumps(key)} value {{string_value: {json.dumps(value)}}}}}\n"
        for key, value in sorted(parameters.items())
    )
    return f"""name: {json.dumps(model.name)}
backend: "{model.backend}"
max_batch_size: {min(1_000_000, MAX_OUTPUT_BYTES // (4 * model.outputs))}
input {{name: "input__0" data_type: TYPE_FP32 dims: [{model.features}]}}
output {{name: "output__0" data_type: TYPE_FP32 dims: [{model.outputs}]}}
version_policy {{specific {{versions: [{model.version}]}}}}
dynamic_batching {{max_queue_delay_microseconds: 500}}
instance_group {{count: 1 kind: {kind}}}
{parameter_lines}"""


def served_model(
    user: FacilityUser, spec: ServedModelSpec, settings: Settings, labels: Mapping[str, str]
) -> dict[str, Any]:
    """Return the resource of a model; it is deleted with its user."""
    return {
        "apiVersion": f"{API_GROUP}/{API_VERSION}",
        "kind": "ServedModel",
        "metadata": {
            "name": f"{model_prefix(user.spec.username)}{spec.name}",
            "namespace": settings.namespace,
            "labels": dict(labels),
            "ownerReferences": [
                {
                    "apiVersion": f"{API_GROUP}/{API_VERSION}",
                    "kind": "FacilityUser",
                    "name": user.name,
                    "uid": user.uid,
                }
            ],
        },
        "spec": spec.model_dump(by_alias=True),
    }
