"""Contradictions in the values of all charts are reported in one message."""

from typing import Any

import pytest
from rendering import HelmError, template

FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "triton": (
        {"autoscaling": {"enabled": True}, "keda": {"enabled": True, "serverAddress": "http://p"}},
        "triton.autoscaling.enabled and triton.keda.enabled are both true",
    ),
    "xcache": (
        {"XCacheConfig": {"HighWaterMark": 0.5, "LowWaterMark": 0.6}},
        "xcache.instances[0] (xcache): XCacheConfig.HighWaterMark is not above",
    ),
    "mlflow": ({"auth": {"api": ""}}, "mlflow.auth.api is empty"),
    "servicex": (
        {"transformer": {"memoryMaxMiB": 512}},
        "is above servicex.transformer.memoryMaxMiB (512)",
    ),
    "operator": (
        {"objectStore": {"endpoint": "http://s3.example.org"}},
        "operator.objectStore.endpoint is set, but follows from global.services",
    ),
    "postgresql": (
        {"databases": ["mlflow", "servicex"], "networkPolicy": {"clients": ["mlflow"]}},
        "postgresql.networkPolicy.clients lacks servicex",
    ),
    "jupyterhub": (
        {"hub": {"db": {"type": "other"}}},
        "jupyterhub.hub.db.type is other, but jupyterhub.hub.db.url is empty",
    ),
    "dask-gateway": ({"gateway": {"replicas": 2}}, "dask-gateway.gateway.replicas is 2"),
}


def refusal(values: dict[str, Any]) -> str:
    with pytest.raises(HelmError) as refused:
        template("coffea-shoppe", values)
    return str(refused.value)


def test_faults_in_all_charts_are_in_one_message() -> None:
    text = refusal({chart: values for chart, (values, _) in FAULTS.items()})
    assert text.count("invalid values of") == 1
    assert "invalid values of coffea-shoppe:" in text
    assert [named for _, named in FAULTS.values() if named not in text] == []


def test_contradictions_come_before_what_breaks_a_template() -> None:
    values = {"mlflow": FAULTS["mlflow"][0], "servicex": {"image": {"tag": ""}}}
    assert FAULTS["mlflow"][1] in refusal(values)
    assert "servicex.image.tag is missing" in refusal({"servicex": {"image": {"tag": ""}}})


def test_a_service_that_is_off_has_no_problems_and_those_that_need_it_have() -> None:
    off = {"global": {"services": {"postgresql": {"enabled": False}}}}
    text = refusal({**off, "triton": FAULTS["triton"][0], "mlflow": FAULTS["mlflow"][0]})
    for named in (
        "global.services.postgresql.enabled is false, but mlflow has its database there",
        "global.services.postgresql.enabled is false, but servicex has its database there",
        FAULTS["triton"][1],
        FAULTS["mlflow"][1],
    ):
        assert named in text
    triton = {"global": {"services": {"triton": {"enabled": False}}}}
    assert template("coffea-shoppe", {**triton, "triton": FAULTS["triton"][0]})
