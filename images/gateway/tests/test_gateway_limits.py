"""What users may have at once, and what they may choose: a real gateway, an API in memory."""

import json
from pathlib import Path
from typing import Any

import pytest
from coffea_shoppe_contract.resources import FACILITY_USERS, SERVER_IMAGES_ANNOTATION
from coffea_shoppe_gateway import backend
from dask_gateway_server.models import ClusterStatus
from dask_gateway_server.options import Float, Options
from gateway_helpers import FACILITY, Gateway, eventually, run_with_gateway


def limits(**changes: Any) -> dict[str, Any]:
    return {"limits": {"clusters": 2, "cores": 4, "memoryGiB": 16, **changes}}


def test_a_cluster_too_many_is_refused_and_another_user_s_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def steps(gateway: Gateway) -> None:
        # The gateway counts those, too, that it has not seen yet.
        first, second, third = [await gateway.start("ann") for _ in range(3)]
        assert (first[0], second[0], third[0]) == (201, 201, 422)
        assert "you have 2 of at most 2 Dask clusters" in third[1]
        assert (await gateway.start("bob"))[0] == 201
        assert len(gateway.api.of("daskclusters")) == 3

    run_with_gateway(tmp_path, monkeypatch, steps, **limits())


def test_a_cluster_that_has_ended_no_longer_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def steps(gateway: Gateway) -> None:
        name = await gateway.started("ann")
        assert (await gateway.start("ann"))[0] == 422
        resource = gateway.resource(name)
        resource["status"] = {"phase": "Stopped", "completionTime": "2026-01-01T00:00:00Z"}
        await gateway.api.put("daskclusters", resource)
        await eventually(
            lambda: gateway.backend.clusters[name].status == ClusterStatus.STOPPED,
            "the gateway sees that the cluster has ended",
        )
        assert (await gateway.start("ann"))[0] == 201

    run_with_gateway(tmp_path, monkeypatch, steps, **limits(clusters=1))


def test_choices_that_are_not_offered_are_refused_and_others_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def steps(gateway: Gateway) -> None:
        for choice, words in (
            ({"image": "mine:1"}, "the image 'mine:1' is not offered here"),
            ({"worker_cores": 6}, "one worker of 6 cores is above your limit of 4"),
            ({"worker_cores": 99}, "worker_cores"),
            ({"worker_memory": 24}, "one worker of 24.0 GiB is above your limit of 16.0 GiB"),
            ({"workers": 1}, "Unknown fields"),
        ):
            status, reason = await gateway.start("ann", **choice)
            assert status == 422, choice
            assert words in reason
        offered: dict[str, Any] = {"image": "offered:7", "worker_cores": 2, "worker_memory": 3}
        name = await gateway.started("ann", **offered)
        config = gateway.resource(name)["spec"]["config"]
        assert config["image"] == "offered:7"
        assert (config["worker_cores_limit"], config["worker_threads"]) == (2, 2)
        assert config["worker_memory_limit"] == 3 * 2**30
        default = gateway.resource(await gateway.started("ann"))["spec"]["config"]
        assert default["image"] == "analysis:1"

    options = {"imagePatterns": ["offered:.*"], "maxWorkerCores": 8, "maxWorkerMemoryGiB": 32}
    run_with_gateway(tmp_path, monkeypatch, steps, options=options, **limits())


def test_workers_are_granted_as_far_as_the_sum_of_a_user_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def steps(gateway: Gateway) -> None:
        first, second = [await gateway.started("ann") for _ in range(2)]
        other = await gateway.started("bob")
        assert await gateway.heartbeat(first, 3) == 3
        assert await gateway.heartbeat(second, 3) == 1
        assert await gateway.heartbeat(other, 3) == 3, "another user's workers do not count"
        assert await gateway.heartbeat(first, 1) == 1
        assert await gateway.heartbeat(second, 9) == 3

    run_with_gateway(tmp_path, monkeypatch, steps, **limits(memoryGiB=0))


def facility_user(clusters: int) -> dict[str, Any]:
    quota = {"dask": {"clusters": clusters}}
    return {"metadata": {"name": "ann", "namespace": FACILITY}, "status": {"quota": quota}}


def test_the_limits_of_a_user_s_resource_come_first_and_follow_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def steps(gateway: Gateway) -> None:
        await gateway.api.put(FACILITY_USERS, facility_user(clusters=1))
        assert (await gateway.start("ann"))[0] == 201
        status, reason = await gateway.start("ann")
        assert (status, "1 of at most 1" in reason) == (422, True)
        await gateway.api.put(FACILITY_USERS, facility_user(clusters=3))
        assert (await gateway.start("ann"))[0] == 201
        # One who has no resource has the gateway's limits.
        assert [(await gateway.start("bob"))[0] for _ in range(3)] == [201, 201, 422]

    run_with_gateway(tmp_path, monkeypatch, steps, facility_users=FACILITY, **limits())


def test_a_cluster_may_have_the_image_of_the_user_s_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def steps(gateway: Gateway) -> None:
        resource = facility_user(clusters=9)
        images = json.dumps(["notebook:1", "own:2"])
        resource["metadata"]["annotations"] = {SERVER_IMAGES_ANNOTATION: images}
        await gateway.api.put(FACILITY_USERS, resource)
        for image, has in (("own:2", "own:2"), ("notebook:1", "analysis:1"), ("", "analysis:1")):
            config = gateway.resource(await gateway.started("ann", image=image))["spec"]["config"]
            assert config["image"] == has
        for user, image in (("ann", "own:3"), ("bob", "own:2")):
            status, reason = await gateway.start(user, image=image)
            assert (status, f"the image {image!r} is not offered" in reason) == (422, True)

    run_with_gateway(tmp_path, monkeypatch, steps, facility_users=FACILITY, **limits())


def test_own_options_without_an_image_ignore_that_of_the_server_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def steps(gateway: Gateway) -> None:
        gateway.backend.cluster_options = Options(Float("worker_cores", default=1))
        assert (await gateway.start("ann", image="notebook:1"))[0] == 201
        status, reason = await gateway.start("ann", image="another:1")
        assert (status, "Unknown fields ['image']" in reason) == (422, True)

    run_with_gateway(tmp_path, monkeypatch, steps, **limits())


def test_a_user_of_a_similar_name_starts_nothing_that_mounts_anothers_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def steps(gateway: Gateway) -> None:
        resource = facility_user(clusters=2)
        await gateway.api.put(FACILITY_USERS, {**resource, "spec": {"username": "another"}})
        status, reason = await gateway.start("ann")
        assert (status, "'ann' is too similar to another user's" in reason) == (422, True)
        assert gateway.api.of("daskclusters") == []
        await gateway.api.put(FACILITY_USERS, {**resource, "spec": {"username": "ann"}})
        assert (await gateway.start("ann"))[0] == 201

    run_with_gateway(tmp_path, monkeypatch, steps, facility_users=FACILITY, **limits())


def test_limits_that_cannot_be_read_are_those_read_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "MAX_AGE_S", 0)

    async def steps(gateway: Gateway) -> None:
        await gateway.api.put(FACILITY_USERS, facility_user(clusters=1))
        assert (await gateway.start("ann"))[0] == 201
        gateway.api.refusals["GET", FACILITY_USERS] = (500, "no quorum")
        assert (await gateway.start("ann"))[0] == 422
        assert [(await gateway.start("bob"))[0] for _ in range(3)] == [201, 201, 422]

    run_with_gateway(tmp_path, monkeypatch, steps, facility_users=FACILITY, **limits())
