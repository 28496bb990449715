"""Garbage collection: removes what users deleted in MLflow more than some days ago.

It replaces MLflow's `mlflow gc`, which stops for all workspaces at a run that its owner
restored in a deleted experiment, leaves models and traces of deleted experiments in the
artifact store, and removes artifacts of models that are still registered.
"""

import argparse
import os
import re
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

from mlflow.entities.lifecycle_stage import LifecycleStage
from mlflow.entities.model_registry.model_version_stages import STAGE_DELETED_INTERNAL
from mlflow.environment_variables import MLFLOW_ENABLE_WORKSPACES
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.model_registry.dbmodels.models import SqlModelVersion
from mlflow.store.tracking.dbmodels.models import SqlExperiment, SqlLoggedModel, SqlRun
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.tracking import _get_store
from mlflow.tracking._workspace.registry import get_workspace_store
from mlflow.utils.workspace_context import WorkspaceContext
from mlflow.utils.workspace_utils import DEFAULT_WORKSPACE_NAME

LOCATION = re.compile(r"mlflow-artifacts:/+([\w-]+(?:/[\w-]+)*)")
"""An artifact location that the server chose itself, without `..` or escapes."""
ID = re.compile(r"(?:m-)?[0-9a-f]{32}")
"""The id of a run or of a logged model, in the source of a model version."""
DAY_MS = 24 * 3600 * 1000


def main() -> None:
    """Collect the garbage of all workspaces; exits with 1 if something could not be removed."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--older-than", type=int, required=True, help="days since the deletion")
    parser.add_argument("--artifacts-destination", required=True, help="the option of the server")
    arguments = parser.parse_args()
    uri = os.environ["MLFLOW_BACKEND_STORE_URI"]
    workspaces, context = [DEFAULT_WORKSPACE_NAME], nullcontext
    if MLFLOW_ENABLE_WORKSPACES.get():
        context = WorkspaceContext
        workspaces = sorted(entry.name for entry in get_workspace_store(uri).list_workspaces())
    collector = Collector(
        _get_store(uri, "mlflow-artifacts:/"),
        get_artifact_repository(arguments.artifacts_destination),
        before_ms=int(time.time() * 1000) - arguments.older_than * DAY_MS,
    )
    for workspace in workspaces:
        # An error in one workspace does not affect the others.
        try:
            with context(workspace):
                collector.collect(workspace)
        except MlflowException as error:
            collector.report_failure(workspace, error)
    print(
        f"{len(workspaces)} workspaces: {collector.removed} removed, {collector.retained} kept,"
        f" {collector.failed} failed",
        flush=True,
    )
    sys.exit(1 if collector.failed else 0)


class Collector:
    """Removes deleted runs, logged models and experiments, and their artifacts."""

    def __init__(
        self, store: SqlAlchemyStore, artifacts: ArtifactRepository, *, before_ms: int
    ) -> None:
        """`before_ms`: time until which deleted entries are removed, milliseconds since 1970."""
        self.store, self.artifacts, self.before_ms = store, artifacts, before_ms
        self.removed = self.retained = self.failed = 0

    def collect(self, workspace: str) -> None:
        """Remove the garbage of a workspace, and print what was removed, kept or failed.

        Runs and models of registered model versions are kept, and so are experiments with a
        run that was restored, or deleted later.
        """
        versions = self._versions_by_id(workspace)
        with self.store.ManagedSessionMaker() as session:
            in_workspace = SqlExperiment.workspace == workspace
            runs = (
                session.query(SqlRun.run_uuid, SqlRun.artifact_uri)
                .join(SqlExperiment, SqlExperiment.experiment_id == SqlRun.experiment_id)
                .filter(in_workspace, *self._is_deleted(SqlRun, SqlRun.deleted_time))
                .all()
            )
            models = (
                session.query(SqlLoggedModel.model_id, SqlLoggedModel.artifact_location)
                .join(SqlExperiment, SqlExperiment.experiment_id == SqlLoggedModel.experiment_id)
                .filter(in_workspace)
                .filter(*self._is_deleted(SqlLoggedModel, SqlLoggedModel.last_updated_timestamp_ms))
                .all()
            )
            experiments = (
                session.query(
                    SqlExperiment.experiment_id, SqlExperiment.name, SqlExperiment.artifact_location
                )
                .filter(
                    in_workspace, *self._is_deleted(SqlExperiment, SqlExperiment.last_update_time)
                )
                .all()
            )
        for kind, rows, remove in (
            ("run", runs, self.store._hard_delete_run),
            ("model", models, self.store._hard_delete_logged_model),
        ):
            for key, location in rows:
                label = f"{workspace}: {kind} {key}"
                if version := versions.get(key):
                    self._keep(label, f"{version} was created from it")
                else:
                    self._remove(label, location, workspace, partial(remove, key))
        for key, name, location in experiments:
            label = f"{workspace}: experiment {key}, {name!r}"
            if reason := self._reason_to_keep(key, versions):
                self._keep(label, reason)
            else:
                hard_delete = partial(self.store._hard_delete_experiment, str(key))
                self._remove(label, location, workspace, hard_delete)

    def _is_deleted(self, table: Any, time_ms: Any) -> tuple[Any, Any]:
        return table.lifecycle_stage == LifecycleStage.DELETED, time_ms <= self.before_ms

    def _versions_by_id(self, workspace: str) -> dict[str, str]:
        """Return the ids of runs and logged models that model versions refer to."""
        with self.store.ManagedSessionMaker() as session:
            rows = (
                session.query(SqlModelVersion)
                .filter(
                    SqlModelVersion.workspace == workspace,
                    SqlModelVersion.current_stage != STAGE_DELETED_INTERNAL,
                )
                .all()
            )
            return {
                key: f"version {row.version} of {row.name!r}"
                for row in rows
                for text in (row.run_id, row.source, row.storage_location)
                for key in ID.findall(text or "")
            }

    def _reason_to_keep(self, experiment: int, versions: dict[str, str]) -> str:
        """Return why an experiment that was deleted long ago is kept, or ''."""
        with self.store.ManagedSessionMaker() as session:
            # Its removable runs have been removed before.
            runs = session.query(SqlRun.run_uuid).filter_by(experiment_id=experiment).all()
            models = session.query(SqlLoggedModel.model_id).filter_by(experiment_id=experiment)
            keys = [key for (key,) in [*runs, *models.all()]]
        if version := next((versions[key] for key in keys if key in versions), None):
            return f"{version} was created from it"
        return f"its run {runs[0][0]} is not removed" if runs else ""

    def _keep(self, label: str, reason: str) -> None:
        self.retained += 1
        print(f"kept: {label}: {reason}", flush=True)

    def _remove(
        self, label: str, location: str, workspace: str, hard_delete: Callable[[], None]
    ) -> None:
        """Remove the artifacts, then the entry in the database, so that a retry is possible."""
        try:
            folder = artifact_folder(location, workspace)
            self.artifacts.delete_artifacts(folder)
            if self.artifacts.list_artifacts(folder):
                raise ValueError("the artifact store kept some of its artifacts")
            hard_delete()
        # Each store's client raises its own errors.
        except Exception as error:
            self.report_failure(label, error)
        else:
            self.removed += 1
            print(f"removed: {label}", flush=True)

    def report_failure(self, label: str, error: Exception) -> None:
        """Print that something was not removed; the next run tries again."""
        self.failed += 1
        print(f"failed: {label}: {error}", flush=True)


def artifact_folder(location: str, workspace: str) -> str:
    """Return the folder of a location in the artifact store.

    Raises ValueError for a location outside of the workspace, because this program has the
    right to delete the artifacts of all users.
    """
    match = LOCATION.fullmatch(location)
    folder = match[1] if match else ""
    in_workspace = folder.startswith(f"workspaces/{workspace}/")
    # Artifacts of the default workspace are directly below the root.
    in_default = workspace == DEFAULT_WORKSPACE_NAME and not folder.startswith("workspaces/")
    if not match or not (in_workspace or in_default):
        raise ValueError(f"its artifacts are outside of the workspace: {location}")
    return folder.removesuffix("/artifacts")
