"""Which of MLflow's endpoints do what, as patterns of `METHOD PATH`."""

import re

API = r"/(ajax-)?api/2\.0"
ARTIFACT_UPLOAD = re.compile(rf"PUT {API}/mlflow-artifacts/artifacts/.*", re.DOTALL)
"""Uploads an artifact as a stream."""
UPLOAD = re.compile(
    rf"{ARTIFACT_UPLOAD.pattern}|POST /ajax-api/2\.0/mlflow/upload-artifact", re.DOTALL
)
MULTIPART = re.compile(rf"POST {API}/mlflow-artifacts/mpu/create/.*", re.DOTALL)
"""Asks for URLs at which parts of any size are uploaded to the store itself."""

OPERATIONS = {
    "run_created": re.compile(rf"POST {API}/mlflow/runs/create"),
    "metrics_or_params_logged": re.compile(rf"POST {API}/mlflow/runs/log-(metric|parameter|batch)"),
    "artifact_stored": re.compile(
        rf"{UPLOAD.pattern}|POST {API}/mlflow-artifacts/mpu/complete/.*", re.DOTALL
    ),
    "artifact_read": re.compile(
        rf"GET ({API}/mlflow-artifacts/artifacts/.+|/(model-versions/)?get-artifact"
        r"|/ajax-api/2\.0/mlflow/logged-models/[^/]+/artifacts/files)",
        re.DOTALL,
    ),
    "model_registered": re.compile(rf"POST {API}/mlflow/model-versions/create"),
}
"""What the metrics count by name; a registered model is a version of it."""
OTHER = "other"
"""The operation of all other requests."""


def operation(method: str, path: str) -> str:
    """Return the name of what a request does: a key of `OPERATIONS`, or `OTHER`."""
    request = f"{method} {path}"
    names = (name for name, pattern in OPERATIONS.items() if pattern.fullmatch(request))
    return next(names, OTHER)
