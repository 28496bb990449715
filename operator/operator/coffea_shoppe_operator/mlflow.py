"""Workspaces of MLflow (its REST API)."""

import requests

from coffea_shoppe_operator.errors import StorageError, telling
from coffea_shoppe_operator.models import MlflowSettings

TIMEOUT_S = 20

_telling = telling("MLflow", requests.RequestException)


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
