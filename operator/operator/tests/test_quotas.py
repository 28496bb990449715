"""What users may use, and what becomes of one who uses more."""

import importlib
import json
import pkgutil
from typing import Any

import pytest
from coffea_shoppe_contract.resources import DASK_SCHEDULER, DASK_WORKER
from coffea_shoppe_operator import adapters, quotas, services
from coffea_shoppe_operator.adapters.base import Used
from coffea_shoppe_operator.adapters.dask import DaskPods, DaskSettings, PodLimits
from coffea_shoppe_operator.adapters.mlflow import MlflowSettings
from coffea_shoppe_operator.adapters.triton import TritonSettings
from coffea_shoppe_operator.models import (
    FacilityUser,
    FacilityUserSpec,
    FacilityUserStatus,
    Quota,
    QuotaSettings,
    definitions,
)
from coffea_shoppe_operator.schema import schema_of
from pydantic import BaseModel, ValidationError
from test_services import (
    NOW,
    SETTINGS,
    STORE,
    Delivering,
    Memory,
    Store,
    Tracking,
    Well,
    facility_of,
)

RULES = QuotaSettings.model_validate(
    {
        "default": {
            "dask": {"clusters": 2, "cores": 8, "memoryGiB": 16},
            "objectStore": {"gigabytes": 1},
            "servicex": {"gigabytes": 0.5, "share": 1},
            "triton": {"models": 20},
        },
        "groups": {
            "cms": {"dask": {"cores": 32, "clusters": 1}, "servicex": {"share": 2}},
            "atlas": {"dask": {"cores": 16, "memoryGiB": 0}, "triton": {"models": 5}},
        },
    }
)
HEALTH, TRITON = "http://gateway/health", "http://triton:8000"


def effective(*groups: str, **own: Any) -> Quota:
    spec = FacilityUserSpec(username="ann", groups=list(groups), quota=Quota.model_validate(own))
    return quotas.effective(spec, RULES)


def test_a_group_s_word_comes_before_the_default_and_the_user_s_own_before_both() -> None:
    assert effective() == RULES.default
    assert effective("unknown") == RULES.default
    cms = effective("cms")
    assert (cms.dask.cores, cms.dask.clusters, cms.dask.memory_gi_b) == (32, 1, 16)
    assert cms.service_x.share == 2
    own = effective("cms", dask={"cores": 1}, triton={"models": 0})
    assert (own.dask.cores, own.dask.clusters, own.triton.models) == (1, 1, 0)


def test_of_several_groups_each_limit_is_the_most_and_none_is_more_than_any() -> None:
    both = effective("cms", "atlas")
    assert (both.dask.cores, both.dask.clusters, both.dask.memory_gi_b) == (32, 1, 0)
    assert both.triton.models == 5


@pytest.mark.parametrize(
    ("quota", "where"),
    [
        ({"dask": {"clusters": -1}}, "dask.clusters"),
        ({"servicex": {"share": 0}}, "servicex.share"),
        ({"triton": {"gpus": 1}}, "triton.gpus"),
    ],
)
def test_a_bad_quota_is_told_by_its_field(quota: Any, where: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Quota.model_validate(quota)
    assert ".".join(map(str, caught.value.errors()[0]["loc"])) == where


def test_the_cluster_s_schema_takes_what_is_left_out() -> None:
    dask = schema_of(FacilityUserSpec)["properties"]["quota"]["properties"]["dask"]
    assert dask["properties"]["memoryGiB"]["type"] == "number"
    servicex = schema_of(FacilityUserSpec)["properties"]["quota"]["properties"]["servicex"]
    assert (
        servicex["properties"]["share"].items() >= {"minimum": 0, "exclusiveMinimum": True}.items()
    )
    assert "default" not in str(dask)
    assert "anyOf" not in str(dask)


@pytest.fixture
def cluster() -> Memory:
    return Memory()


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def servicex() -> Delivering:
    return Delivering()


@pytest.fixture
def health() -> Well:
    return Well()


@pytest.fixture
def facility(
    cluster: Memory, store: Store, servicex: Delivering, health: Well
) -> services.Facility:
    settings = SETTINGS.model_copy(
        update={
            "object_store": STORE,
            "dask": DaskSettings(health=HEALTH),
            "triton": TritonSettings(endpoint=TRITON, bucket="service-triton"),
            "quotas": RULES,
        }
    )
    return facility_of(settings, cluster, store, servicex=servicex, health=health)


def measure(facility: services.Facility) -> None:
    assert facility.measurements
    facility.measurements.measure()


def ann(*groups: str, status: FacilityUserStatus | None = None, **own: Any) -> FacilityUser:
    spec = FacilityUserSpec(username="ann", groups=list(groups), quota=Quota.model_validate(own))
    return FacilityUser(name="ann", uid="u1", spec=spec, status=status or FacilityUserStatus())


def conditions(status: FacilityUserStatus) -> dict[str, tuple[str, str, str]]:
    return {one.type: (one.status, one.reason, one.message) for one in status.conditions}


def test_each_service_has_a_condition(facility: services.Facility, health: Well) -> None:
    first = facility.reconcile(ann("cms"), NOW)
    told = conditions(first)
    assert list(told) == ["Ready", "ObjectStore", "ServiceX", "Dask", "Triton"]
    assert told["Dask"] == ("True", "Ready", "at most 1 clusters, 32 cores, 16 GiB")
    assert told["ServiceX"] == ("True", "Ready", "a share of 2; results up to 0.5 GB are kept")
    assert told["Triton"] == ("True", "Ready", "models are named ann.*")
    health.problems[HEALTH] = "503 Service Unavailable"
    told = conditions(facility.reconcile(ann("cms", status=first), NOW))
    assert told["Dask"] == ("False", "Unavailable", "503 Service Unavailable")
    assert told["Triton"][0] == "True"
    assert told["Ready"][0] == "True", "a service that is down keeps nobody out"


def test_servicex_is_told_once_and_again_of_what_changed(
    facility: services.Facility, servicex: Delivering
) -> None:
    status = facility.reconcile(ann(), NOW)
    assert facility.reconcile(ann(status=status), NOW) == status
    assert servicex.told == [("ann", 0.5, 1)]
    changed = facility.reconcile(ann(status=status, servicex={"gigabytes": 3}), NOW)
    assert servicex.told[1:] == [("ann", 3, 1)]
    assert changed.quota.service_x.gigabytes == 3


def test_servicex_that_is_down_is_told_later(
    facility: services.Facility, servicex: Delivering
) -> None:
    servicex.down = True
    status = facility.reconcile(ann(), NOW)
    assert conditions(status)["ServiceX"][:2] == ("False", "Unavailable")
    servicex.down = False
    status = facility.reconcile(ann(status=status), NOW)
    assert conditions(status)["ServiceX"][:2] == ("True", "Ready")
    assert servicex.told == [("ann", 0.5, 1)]


def test_servicex_forgets_a_user_whose_data_go(
    facility: services.Facility, servicex: Delivering
) -> None:
    facility.remove(ann(), NOW)
    assert servicex.removed == []
    gone = ann()
    gone.spec.data = "remove"
    facility.remove(gone, NOW)
    assert servicex.removed == ["ann"]


def test_a_bucket_that_holds_too_much_can_be_read_and_deleted_from_only(
    facility: services.Facility, store: Store
) -> None:
    def allowed(account: str) -> set[str]:
        policy = json.loads(store.policies["user-ann"])
        return {
            action
            for statement in policy["Statement"]
            if account in statement["Principal"]["AWS"]
            for action in statement["Action"]
        }

    status = facility.reconcile(ann(), NOW)
    assert allowed("user-ann") == {"s3:*"}
    assert "s3:PutObject" in allowed("service-servicex")
    store.sizes["user-ann"] = (1_000_000_001, 400)
    measure(facility)
    full = facility.reconcile(ann(status=status), NOW)
    assert (full.used.object_store, full.used.service_x) == (1_000_000_001, 400)
    assert conditions(full)["ObjectStore"][:2] == ("False", "Full")
    for account in ("user-ann", "user-ann.2", "service-servicex"):
        assert {"s3:GetObject", "s3:DeleteObject"} <= allowed(account)
        assert not {"s3:*", "s3:PutObject", "s3:PutBucketPolicy"} & allowed(account)
    writes = store.writes
    assert facility.reconcile(ann(status=full), NOW) == full
    assert store.writes == writes
    store.sizes["user-ann"] = (10, 0)
    measure(facility)
    assert conditions(facility.reconcile(ann(status=full), NOW))["ObjectStore"][0] == "True"
    assert allowed("user-ann") == {"s3:*"}


def test_artifacts_of_mlflow_count_in_the_quota(cluster: Memory, store: Store) -> None:
    settings = SETTINGS.model_copy(
        update={
            "object_store": STORE,
            "mlflow": MlflowSettings(endpoint="http://mlflow:5000", bucket="service-mlflow"),
            "quotas": RULES,
        }
    )
    facility = facility_of(settings, cluster, store, Tracking())
    status = facility.reconcile(ann(), NOW)
    store.sizes["user-ann"] = (600_000_000, 0)
    store.sizes["service-mlflow/workspaces/user-ann"] = (400_000_000, 0)
    store.sizes["service-mlflow/workspaces/user-ann2"] = (400_000_000, 0)
    assert facility.measurements
    facility.measurements.measure()
    status = facility.reconcile(ann(status=status), NOW)
    assert (status.used.object_store, status.used.mlflow) == (1_000_000_000, 400_000_000)
    assert conditions(status)["ObjectStore"][0] == "True"
    store.sizes["service-mlflow/workspaces/user-ann"] = (500_000_000, 0)
    facility.measurements.measure()
    status = facility.reconcile(ann(status=status), NOW)
    is_ready, reason, message = conditions(status)["ObjectStore"]
    assert (is_ready, reason) == ("False", "Full")
    assert "0.5 GB of it are MLflow's artifacts" in message


def test_what_was_measured_outlives_the_operator_and_goes_with_the_user(
    facility: services.Facility, store: Store
) -> None:
    store.sizes["user-ann"] = (7, 3)
    status = facility.reconcile(ann(), NOW)
    measure(facility)
    status = facility.reconcile(ann(status=status), NOW)
    again = facility_of(facility.settings, Memory(), store)
    assert again.reconcile(ann(status=status), NOW).used == status.used
    unlimited = {"objectStore": {"gigabytes": 0}, "servicex": {"gigabytes": 0}}
    assert facility.reconcile(ann(status=status, **unlimited), NOW).used.object_store == 0
    store.down = True
    measure(facility)  # nobody is measured any more


class Busy(Memory):
    """A cluster with a user's Dask cluster of two workers, and three served models."""

    def read_pods(self, namespace: str, labels: dict[str, str]) -> list[PodLimits]:
        worker = PodLimits(DASK_WORKER, 2, 2**30)
        return [PodLimits(DASK_SCHEDULER, 1, 2**30), worker, worker]

    def list_models(self, namespace: str, labels: dict[str, str]) -> list[dict[str, Any]]:
        return [{}, {}, {}]


def test_rows_tell_what_is_used_and_leave_out_what_is_not_there(
    store: Store, servicex: Delivering
) -> None:
    pods = DaskPods(namespace="shoppe-dask", labels={"app": "dask"})
    settings = SETTINGS.model_copy(
        update={
            "object_store": STORE,
            "dask": DaskSettings(pods=pods),
            "triton": TritonSettings(endpoint=TRITON, bucket="service-triton"),
        }
    )
    everything = facility_of(settings, Busy(), store, servicex=servicex)
    user = ann(status=FacilityUserStatus(used=Used(object_store=5 * 10**8)))
    owner = user.owner(RULES.default)
    rows = [row for adapter in everything.adapters for row in adapter.usage(owner)]
    usage = {(row.service, row.what): (row.used, row.limit, row.unit) for row in rows}
    assert usage == {
        ("dask-gateway", "clusters"): (1, 2, ""),
        ("dask-gateway", "cores"): (4, 8, ""),
        ("dask-gateway", "memory"): (2.0, 16, "GiB"),
        ("s3", "stored"): (0.5, 1, "GB"),
        ("servicex", "stored"): (0.0, 0.5, "GB"),
        ("triton", "models"): (3, 20, ""),
    }
    unlimited = facility_of(SETTINGS, Memory(), store, servicex=servicex)
    owner = user.owner(Quota())
    assert [row for adapter in unlimited.adapters for row in adapter.usage(owner)] == []


def test_the_crd_s_quota_is_the_sum_of_the_adapters_quotas() -> None:
    modules = [
        importlib.import_module(f"{adapters.__name__}.{module.name}")
        for module in pkgutil.iter_modules(adapters.__path__)
    ]
    declared = {
        value
        for module in modules
        for name, value in vars(module).items()
        if name.endswith("Quota")
        and isinstance(value, type)
        and issubclass(value, BaseModel)
        and value.__module__ == module.__name__
    }
    assert {type(part) for part in Quota().parts()} == declared
    definition = next(d for d in definitions() if d["spec"]["names"]["kind"] == "FacilityUser")
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    for part in (schema["spec"], schema["status"]):
        quota = part["properties"]["quota"]["properties"]
        assert sorted(map(sorted, (limits["properties"] for limits in quota.values()))) == sorted(
            sorted(kind.model_json_schema()["properties"]) for kind in declared
        )
