"""A model that MLflow does not let its user read is not permitted; it is not retried."""

from collections.abc import Iterator

import pytest
from coffea_shoppe_operator.adapters.mlflow import MlflowSettings
from coffea_shoppe_operator.clients.mlflow import Mlflow, Reader, Version
from coffea_shoppe_operator.errors import ModelError, StorageError
from http_server import Request, serving

READER = Reader("token", "ann")
VERSION = {"model_version": {"version": "3", "run_id": "r"}}
REFUSAL = {"error_code": "PERMISSION_DENIED", "message": "Permission denied"}


@pytest.fixture
def mlflow() -> Iterator[Mlflow]:
    """An MLflow that lets its user read the model `mine`, but not its artifacts."""

    def respond(request: Request) -> tuple[int, object]:
        if "name=broken" in request.path:
            return 503, b"overloaded"
        if "name=mine" in request.path and "get-download-uri" in request.path:
            return 200, {"artifact_uri": "mlflow-artifacts:/7/r/artifacts"}
        if "name=mine" in request.path:
            return 200, VERSION
        return 403, REFUSAL

    with serving(respond) as url:
        yield Mlflow(MlflowSettings(endpoint=url))


@pytest.mark.parametrize("model", ["models:/theirs@prod", "models:/theirs/3"])
def test_a_model_of_another_user_is_not_permitted(mlflow: Mlflow, model: str) -> None:
    with pytest.raises(ModelError, match=r"Permission denied.*share_runs") as refused:
        mlflow.resolve(model, READER)
    assert refused.value.reason == "NotPermitted"
    assert mlflow.resolve(model.replace("theirs", "mine"), READER) == Version("mine", "3", "r")


def test_artifacts_of_another_user_are_not_permitted(mlflow: Mlflow) -> None:
    with pytest.raises(ModelError, match="MLflow refuses it") as refused:
        mlflow.fetch(Version("mine", "3", "r"), READER, megabytes=1)
    assert refused.value.reason == "NotPermitted"


def test_a_server_that_is_overloaded_is_tried_again(mlflow: Mlflow) -> None:
    with pytest.raises(StorageError, match="503 overloaded"):
        mlflow.resolve("models:/broken@prod", READER)
