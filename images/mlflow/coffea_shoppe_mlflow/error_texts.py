"""Readable texts for errors of MLflow's database, which otherwise contain SQL."""

import json
import logging
import re

from flask import Response, request
from mlflow.entities.lifecycle_stage import LifecycleStage
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode

LOG = logging.getLogger(__name__)
SQL = "[SQL: "
"""The statement in the text of SQLAlchemy's errors."""
DRIVER_ERROR = re.compile(r"(?:\s*Error:)?\s*\([\w.]+\) .*", re.DOTALL)
NAMES_EXPERIMENT = re.compile(r".*/mlflow/experiments/(create|update)")


def without_sql(response: Response, *, older_than: str) -> Response:
    """Replace the database's text in an error; other responses stay as they are.

    `older_than`: days after which the garbage collection removes what is deleted; empty
    where there is none.
    """
    if response.status_code < 400 or not response.is_json:
        return response
    body = response.get_json(silent=True)
    if not isinstance(body, dict) or SQL not in str(body.get("message")):
        return response
    LOG.warning("%s: %r", request.path, body["message"])
    message = DRIVER_ERROR.sub("", body["message"]).strip() or "the database refused it"
    if reason := _name_in_use(older_than):
        message, body["error_code"] = reason, ErrorCode.Name(RESOURCE_ALREADY_EXISTS)
    response.set_data(json.dumps({**body, "message": message}))
    return response


def _name_in_use(older_than: str) -> str:
    """Return which experiment has the name that the request gives to one, or ''."""
    from mlflow.server.handlers import _get_tracking_store

    sent = request.get_json(silent=True) if NAMES_EXPERIMENT.fullmatch(request.path) else None
    name = (sent or {}).get("new_name") or (sent or {}).get("name")
    experiment = _get_tracking_store().get_experiment_by_name(name) if name else None
    if not experiment:
        return ""
    if experiment.lifecycle_stage != LifecycleStage.DELETED:
        return f"an experiment named {name!r} exists: use it, or choose another name"
    return (
        f"the deleted experiment {experiment.experiment_id} has the name {name!r}: restore it with"
        f" mlflow.MlflowClient().restore_experiment('{experiment.experiment_id}'), choose another"
        " name, or wait until it is removed: "
        + (
            f"{older_than} days after its deletion"
            if older_than
            else "the administrator does so with `mlflow gc`"
        )
    )
