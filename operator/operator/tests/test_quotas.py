"""What users may use, and what becomes of one who uses more."""

import json
from typing import Any

import pytest
from coffea_shoppe_operator import quotas, services
from coffea_shoppe_operator.models import (
    DaskSettings,
    FacilityUser,
    FacilityUserSpec,
    FacilityUserStatus,
    Quota,
    QuotaSettings,
    TritonSettings,
    schema_of,
)
from pydantic import ValidationError
from test_services import NOW, SETTINGS, STORE, Delivering, Memory, Store, Well

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
    return services.Facility(settings, cluster, store, deliveries=servicex, health=health)


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
    facility.measure()
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
    facility.measure()
    assert conditions(facility.reconcile(ann(status=full), NOW))["ObjectStore"][0] == "True"
    assert allowed("user-ann") == {"s3:*"}


def test_what_was_measured_outlives_the_operator_and_goes_with_the_user(
    facility: services.Facility, store: Store
) -> None:
    store.sizes["user-ann"] = (7, 3)
    status = facility.reconcile(ann(), NOW)
    facility.measure()
    status = facility.reconcile(ann(status=status), NOW)
    again = services.Facility(facility.settings, Memory(), store)
    assert again.reconcile(ann(status=status), NOW).used == status.used
    unlimited = {"objectStore": {"gigabytes": 0}, "servicex": {"gigabytes": 0}}
    assert facility.reconcile(ann(status=status, **unlimited), NOW).used.object_store == 0
    store.down = True
    facility.measure()  # nobody is measured any more


def test_rows_tell_what_is_used_and_leave_out_what_is_not_there() -> None:
    pods = quotas.Pods(clusters=1, cores=4, memory=2**31)
    used = FacilityUserStatus().used.model_copy(update={"object_store": 5 * 10**8})
    rows = list(quotas.rows(RULES.default, used, pods, 3))
    told = {(row.service, row.what): (row.used, row.limit, row.unit) for row in rows}
    assert told == {
        ("dask-gateway", "clusters"): (1, 2, ""),
        ("dask-gateway", "cores"): (4, 8, ""),
        ("dask-gateway", "memory"): (2.0, 16, "GiB"),
        ("s3", "stored"): (0.5, 1, "GB"),
        ("servicex", "stored"): (0.0, 0.5, "GB"),
        ("triton", "models"): (3, 20, ""),
    }
    assert list(quotas.rows(Quota(), used, None, None)) == []
