"""Why a cluster's pods do not run, as its owner sees it: real gateway and controller."""

from pathlib import Path
from typing import Any

import pytest
from gateway_helpers import NAMESPACE, Gateway, eventually, run_with_gateway
from kube_api import Key, Object


def component_of(content: Object) -> str:
    return str(content["metadata"].get("labels", {}).get("app.kubernetes.io/component", ""))


def kubelet(scheduler: Object) -> Any:
    """Return what happens to pods: the scheduler's container gets a state, workers run."""

    def run(key: Key, pod: Object) -> None:
        if key[0] == "pods":
            kind = component_of(pod)
            state = scheduler if kind == "dask-scheduler" else {"running": {}}
            container = {"name": kind, "image": "", "imageID": "", "ready": True, "restartCount": 0}
            phase = "Pending" if "waiting" in state else "Running"
            pod["status"] = {"phase": phase, "containerStatuses": [{**container, "state": state}]}

    return run


async def client_error(gateway: Gateway, name: str, user: str = "ann") -> tuple[int, str]:
    """Return what the client of a user who waits for a cluster gets."""
    status, response = await gateway.request(user, "GET", name, params={"wait": "1"})
    return status, response.get("error", "")


def test_a_scheduler_that_kubernetes_refuses_fails_the_cluster_with_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def steps(gateway: Gateway) -> None:
        gateway.api.refusals["POST", "pods"] = (403, "pods is forbidden:\n exceeded quota")
        name = await gateway.started("ann")
        words = "Kubernetes refused the scheduler's pod: pods is forbidden: exceeded quota"
        assert await client_error(gateway, name) == (409, f"Dask cluster {name}: {words}")
        assert (await client_error(gateway, name, "bob"))[0] == 403, "it is not for others"
        status, response = await gateway.request("ann", "GET", name)
        assert (status, response["status"]) == (200, "FAILED")
        await eventually(lambda: not gateway.api.of("secrets"), "the credentials are removed")

    run_with_gateway(tmp_path, monkeypatch, steps, controller=True)


def test_an_image_that_cannot_be_pulled_fails_the_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def steps(gateway: Gateway) -> None:
        waiting = {"reason": "ImagePullBackOff", "message": "no such image"}
        gateway.api.after_write = kubelet({"waiting": waiting})
        status, reason = await client_error(gateway, await gateway.started("ann"))
        assert status == 409
        assert reason.endswith("container cannot start: ImagePullBackOff: no such image")
        await eventually(lambda: not gateway.api.of("pods"), "the pod is removed")

    run_with_gateway(tmp_path, monkeypatch, steps, controller=True)


def test_an_error_that_may_pass_fails_no_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def steps(gateway: Gateway) -> None:
        gateway.api.after_write = kubelet({"waiting": {"reason": "ContainerCreating"}})
        gateway.api.refusals["POST", "pods"] = (500, "no quorum")
        name = await gateway.started("ann")
        await eventually(lambda: gateway.api.of("secrets"), "the controller has begun")
        del gateway.api.refusals["POST", "pods"]
        await eventually(lambda: gateway.api.of("pods"), "the controller tries again")
        assert gateway.status(name).get("phase", "Pending") == "Pending"

    run_with_gateway(tmp_path, monkeypatch, steps, controller=True)


def test_missing_workers_have_a_reason_until_they_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def steps(gateway: Gateway) -> None:
        async def forward(*_: Any) -> None:
            pass

        # There is no scheduler behind the pod.
        monkeypatch.setattr(gateway.backend, "forward_message_to_scheduler", forward)
        gateway.api.after_write = kubelet({"running": {}})
        name = await gateway.started("ann")
        await eventually(lambda: gateway.api.of("services"), "the scheduler has a service")
        (service,) = gateway.api.of("services")
        await gateway.api.put(
            "endpoints",
            {
                "metadata": {
                    "name": service["metadata"]["name"],
                    "namespace": NAMESPACE,
                    "labels": service["metadata"]["labels"],
                },
                "subsets": [{"addresses": [{"ip": "10.0.0.1"}]}],
            },
        )
        assert await client_error(gateway, name) == (200, "")
        scale = ("ann", "POST", f"{name}/scale")
        assert (await gateway.request(*scale, json={"count": 1}))[0] == 200

        gateway.api.refusals["POST", "pods"] = (403, "exceeded quota")
        await gateway.heartbeat(name, 1)
        await eventually(lambda: "reason" in gateway.status(name), "the reason is recorded")
        await eventually(
            lambda: "reason" in gateway.backend.informer.get(name)["status"], "the gateway sees it"
        )
        status, response = await gateway.request(*scale, json={"count": 1})
        assert status == 409
        assert "Kubernetes refused a worker's pod: exceeded quota" in response["error"]
        assert await client_error(gateway, name) == (200, ""), "the cluster itself runs"

        del gateway.api.refusals["POST", "pods"]
        await eventually(
            lambda: "dask-worker" in map(component_of, gateway.api.of("pods")), "a worker comes"
        )
        await eventually(lambda: "reason" not in gateway.status(name), "the reason is gone")

    run_with_gateway(tmp_path, monkeypatch, steps, controller=True)
