"""The hook before an upgrade waits for the images, and says what it waits for."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from coffea_shoppe_hub import await_images
from kube_api import KubeApi, kube_api
from kubespawner.clients import load_config

Object = dict[str, Any]
LABELS = {"app.kubernetes.io/component": "hook-image-puller"}
PULLING = {"reason": "ImagePullBackOff", "message": "no such tag"}


@pytest.fixture(autouse=True)
def fast_polling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(await_images, "POLL_S", 0.01)


def daemon_set(nodes: int, *, observed: bool = True) -> Object:
    return {
        "metadata": {"name": "puller", "namespace": "facility", "generation": 2},
        "spec": {"selector": {"matchLabels": LABELS}, "template": {}},
        "status": {
            "observedGeneration": 2 if observed else 1,
            "desiredNumberScheduled": nodes,
            "currentNumberScheduled": nodes,
            "numberMisscheduled": 0,
            "numberReady": 0,
        },
    }


def pod(
    name: str, *, ready: bool = True, scheduled: bool = True, waits: Object | None = None
) -> Object:
    container: Object = {"name": "pull-0", "image": "notebook:1", "state": {"waiting": waits}}
    container |= {"ready": False, "restartCount": 0, "imageID": ""}
    states = [
        {"type": "Ready", "status": str(ready)},
        {"type": "PodScheduled", "status": str(scheduled), "message": "" if scheduled else "full"},
    ]
    return {
        "metadata": {"name": name, "namespace": "facility", "labels": LABELS},
        "spec": {"containers": [], **({"nodeName": f"node-{name}"} if scheduled else {})},
        "status": {
            "conditions": states,
            "initContainerStatuses": [container] if waits else [],
        },
    }


def test_all_nodes_have_the_images() -> None:
    state = await_images.progress(daemon_set(2), [pod("a"), pod("b")], all_nodes=True)
    assert state == await_images.Progress(2, 2, ())
    assert state.ended


def test_a_cluster_without_nodes_for_users() -> None:
    state = await_images.progress(daemon_set(0), [], all_nodes=True)
    assert state is not None
    assert state.ended


def test_nodes_that_are_not_counted_yet() -> None:
    assert await_images.progress(daemon_set(0, observed=False), [], all_nodes=True) is None
    state = await_images.progress(daemon_set(2), [pod("a")], all_nodes=False)
    assert state is not None
    assert not state.ended


def test_an_image_that_cannot_be_pulled_is_said() -> None:
    pods = [pod("a"), pod("b", ready=False, waits=PULLING)]
    state = await_images.progress(daemon_set(2), pods, all_nodes=True)
    assert state is not None
    assert not state.ended
    assert state.waiting == ("node-b: notebook:1: ImagePullBackOff: no such tag",)


def test_a_node_without_room_is_left_out_after_a_while() -> None:
    pods = [pod("a"), pod("b", ready=False, scheduled=False)]
    early = await_images.progress(daemon_set(2), pods, all_nodes=True)
    assert early is not None
    assert (early.ended, early.waiting) == (False, ("b: full",))
    late = await_images.progress(daemon_set(2), pods, all_nodes=False)
    assert late == await_images.Progress(1, 1, ())


async def _wait(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *pods: Object,
    timeout: float,
    later: Object | None = None,
    refusal: tuple[int, str] | None = None,
) -> None:
    """Wait for two nodes; `later` is a pod as it is 0.1 s after the start."""
    load_config.cache_clear()

    async def changes(api: KubeApi) -> None:
        await asyncio.sleep(0.1)
        if later:
            await api.put("pods", later)

    async with kube_api(folder, monkeypatch) as api, asyncio.TaskGroup() as tasks:
        await api.put("daemonsets", daemon_set(2))
        for content in pods:
            await api.put("pods", content)
        if refusal:
            api.refusals["GET", "daemonsets"] = refusal
        tasks.create_task(changes(api))
        await await_images.wait("puller", "facility", timeout, -1)


def test_it_ends_when_the_last_node_is_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pods = [pod("a"), pod("b", ready=False, waits=PULLING)]
    asyncio.run(_wait(tmp_path, monkeypatch, *pods, timeout=30, later=pod("b")))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "1 of 2 nodes have the images"
    assert lines[-1] == "2 of 2 nodes have the images"


def reason(folder: Path, monkeypatch: pytest.MonkeyPatch, *pods: Object, **api: Any) -> str:
    """Return why the wait ended before its time."""
    with pytest.raises(ExceptionGroup) as ended:
        asyncio.run(_wait(folder, monkeypatch, *pods, timeout=0.2, **api))
    (error,) = ended.value.exceptions
    assert isinstance(error, TimeoutError)
    return str(error)


def test_it_ends_in_time_with_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = reason(tmp_path, monkeypatch, pod("a"), pod("b", ready=False, waits=PULLING))
    assert "node-b: notebook:1: ImagePullBackOff: no such tag" in text


def test_an_api_server_that_refuses_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "is forbidden" in reason(tmp_path, monkeypatch, refusal=(403, "it is forbidden"))
