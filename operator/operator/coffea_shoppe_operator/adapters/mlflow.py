"""MLflow: each user has a workspace."""

from collections.abc import Mapping
from typing import Protocol

from coffea_shoppe_contract.claims import MLFLOW_ADMIN
from coffea_shoppe_contract.files import WORKSPACE_FILE
from coffea_shoppe_contract.names import artifact_folder, workspace_name

from coffea_shoppe_operator.adapters.base import Adapter, Context, Owner
from coffea_shoppe_operator.conditions import Condition, service_condition
from coffea_shoppe_operator.errors import StorageError
from coffea_shoppe_operator.schema import Model


class MlflowSettings(Model):
    """The MLflow of the users' workspaces."""

    endpoint: str
    bucket: str = ""
    """Bucket of the artifacts; empty: they are not in the object store."""


class Client(Protocol):
    """What the adapter needs of MLflow, implemented by `clients.mlflow.Mlflow`."""

    def create_workspace(self, token: str) -> None: ...  # noqa: D102
    def remove(self, user: str, workspace: str, token: str) -> None: ...  # noqa: D102


class Store(Protocol):
    """The store of artifacts, implemented by `clients.object_store.ObjectStore`."""

    def remove_folder(self, bucket: str, folder: str) -> None: ...  # noqa: D102


class MlflowAdapter(Adapter):
    """Workspaces of users."""

    def __init__(
        self, settings: MlflowSettings, client: Client, store: Store | None = None
    ) -> None:
        self.settings, self.client, self.store = settings, client, store

    def files(self, owner: Owner, previous: Mapping[str, bytes], now: float) -> dict[str, bytes]:
        """Return the name of the owner's workspace."""
        return {WORKSPACE_FILE: workspace_name(owner.name).encode()}

    def provision(self, owner: Owner, context: Context) -> Condition:
        """Make the owner's workspace.

        It is requested with each fresh token only: many users would keep MLflow busy.  The
        request uses a new token: the one in the Secret of an absent user has expired.
        """
        message = f"the workspace is {workspace_name(owner.name)}"
        ready = service_condition("MLflow", message=message)
        if ready in owner.conditions and not context.fresh:
            return ready
        try:
            self.client.create_workspace(context.user_token("mlflow"))
        except StorageError as error:
            return service_condition("MLflow", message=message, problem=str(error))
        return ready

    def remove(self, owner: Owner, context: Context) -> None:
        """Remove the owner's workspace, and the artifacts, which MLflow keeps."""
        workspace = workspace_name(owner.name)
        self.client.remove(owner.name, workspace, context.admin_token(MLFLOW_ADMIN))
        if self.store and self.settings.bucket:
            self.store.remove_folder(self.settings.bucket, artifact_folder(workspace))
