"""What the operator does for ever goes on, whatever happens to it once."""

from collections.abc import Callable
from types import SimpleNamespace

import kopf
import pytest
from coffea_shoppe_operator import handlers
from coffea_shoppe_operator.errors import StorageError
from coffea_shoppe_operator.metrics import Metrics
from coffea_shoppe_operator.models import FacilityUser, ServedModel
from coffea_shoppe_operator.storage import Storage
from prometheus_client import CollectorRegistry
from urllib3.exceptions import MaxRetryError


class EnoughError(BaseException):
    """Ends what would go on for ever."""


def test_work_goes_on_after_what_was_expected_and_what_was_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry = CollectorRegistry()
    slept: list[float] = []
    failures = iter([StorageError("away"), RuntimeError("a mistake"), None, EnoughError()])

    def work() -> None:
        if failure := next(failures):
            raise failure

    monkeypatch.setattr("coffea_shoppe_operator.handlers.time.sleep", slept.append)
    with pytest.raises(EnoughError):
        handlers.run_periodically("measure", work, Metrics(registry), every=30)
    assert slept == [handlers.RETRY_S, 30, 30]
    labels = {"what": "measure"}
    assert registry.get_sample_value("shoppe_operator_failures_total", labels) == 2


def test_a_user_who_cannot_be_removed_says_why() -> None:
    def remove(*_: object) -> None:
        raise StorageError("the object store: connection refused")

    facility, told = SimpleNamespace(remove=remove), kopf.Patch()
    metrics = Metrics(CollectorRegistry())
    body = kopf.Body({"metadata": {"name": "ann", "uid": "u"}, "spec": {"username": "ann"}})
    with pytest.raises(kopf.TemporaryError, match="connection refused"):
        handlers.remove_user(facility, metrics, body, told)  # type: ignore[arg-type]
    (condition,) = told["status"]["conditions"]
    assert (condition["type"], condition["status"]) == ("Ready", "False")
    assert condition["reason"] == "Removing"
    assert "the object store: connection refused" in condition["message"]


def test_an_invalid_resource_is_refused_by_field() -> None:
    def body(**limits: object) -> kopf.Body:
        spec = {"username": "ann", "quota": {"dask": limits}}
        return kopf.Body({"metadata": {"name": "ann", "uid": "u"}, "spec": spec})

    assert handlers.parse(FacilityUser, body(cores=4)).spec.quota.dask.cores == 4
    message = r"invalid FacilityUser: spec\.quota\.dask\.cores: .* valid .*; correct the resource"
    with pytest.raises(kopf.PermanentError, match=message):
        handlers.parse(FacilityUser, body(cores="many"))
    spec = {"username": "ann", "name": "bdt", "model": "bdt"}
    model = kopf.Body({"metadata": {"name": "ann.bdt"}, "spec": spec})
    with pytest.raises(kopf.PermanentError, match=r"invalid ServedModel: spec\.model: "):
        handlers.parse(ServedModel, model)


def refusing_call() -> Callable[..., None]:
    def refuse(*_: object, **__: object) -> None:
        raise MaxRetryError(None, "/api", None)  # type: ignore[arg-type]

    return refuse


def test_an_api_server_that_is_away_is_told_as_one() -> None:
    storage = object.__new__(Storage)
    storage.core = SimpleNamespace(read_namespaced_secret=refusing_call())
    with pytest.raises(StorageError, match="the cluster: read_secret"):
        storage.read_secret("shoppe", "any")
