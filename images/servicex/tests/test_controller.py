"""What the controller does in a cluster: the pool's size, and pods of requests' own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from coffea_shoppe_contract import identity
from coffea_shoppe_servicex import controller as controllers
from coffea_shoppe_servicex.controller import REQUEST_LABEL, Controller
from coffea_shoppe_servicex.delivery import Delivery, Owner, Result, Submission
from coffea_shoppe_servicex.settings import Own, Pool
from servicex_helpers import ANN, BOB, changed

TEMPLATE = {
    "metadata": {"labels": {"app.kubernetes.io/component": "transformer"}},
    "spec": {
        "containers": [
            {"name": "transformer", "args": ["worker"], "resources": {"requests": {"cpu": "20m"}}}
        ],
        "volumes": [{"name": "key", "secret": {}}],
    },
}
SOURCE = "ZGVmIHJ1bl9xdWVyeShmKToKICAgIHJldHVybiBmCg=="
RAW = '[{"treename": "E", "expressions": ["x"]}]'


class FakeCluster:
    """A cluster that remembers."""

    def __init__(self) -> None:
        self.wanted = 1
        self.held: dict[str, dict[str, Any]] = {}
        self.secrets: dict[str, Any] = {}
        self.broken = ""

    def replicas(self) -> int:
        return self.wanted

    def scale(self, replicas: int) -> None:
        self.wanted = replicas

    def pods(self) -> list[dict[str, Any]]:
        return list(self.held.values())

    def create(self, pod: Mapping[str, Any], secret: Mapping[str, Any]) -> None:
        if self.broken:
            raise RuntimeError(self.broken)
        name = pod["metadata"]["name"]
        self.held[name] = {**pod, "status": {"phase": "Running"}}
        self.secrets[name] = secret

    def delete(self, name: str) -> None:
        self.held.pop(name, None)


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
def controller(delivery: Delivery, cluster: FakeCluster, tmp_path: Path) -> Controller:
    template = tmp_path / "transformer.yaml"
    template.write_text(yaml.safe_dump(TEMPLATE))
    whole = changed(
        delivery,
        own=Own(namespace="own", template=template, max_pods=2),
        pool=Pool(deployment="pool", namespace="n", max_replicas=3, files_per_replica=2),
    )
    return Controller(whole, cluster=cluster)


def submit(controller: Controller, owner: Owner, files: int, codegen: str = "uproot-raw") -> str:
    selection = RAW if codegen == "uproot-raw" else SOURCE
    listed = [f"{owner.user}{codegen}{number}" for number in range(files)]
    asked = {"codegen": codegen, "selection": selection, "file-list": listed}
    controller.delivery.clock.now += 1  # type: ignore[attr-defined]
    return controller.delivery.submit(owner, Submission.model_validate(asked)).id


def test_the_pool_grows_with_the_queue_up_to_its_limit_and_shrinks_when_idle(
    controller: Controller, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = [1000.0]
    monkeypatch.setattr(controllers.time, "monotonic", lambda: moment[0])
    controller.scale()
    assert cluster.wanted == 1
    request = submit(controller, ANN, 3)
    controller.scale()
    assert cluster.wanted == 2
    submit(controller, BOB, 100)
    controller.scale()
    assert cluster.wanted == 3
    for one in (request, *(r.id for r in controller.delivery.mine(BOB))):
        owner = ANN if one == request else BOB
        controller.delivery.cancel(owner, one)
    controller.scale()
    assert cluster.wanted == 3, "not at once"
    moment[0] += 61
    controller.scale()
    assert cluster.wanted == 1


def test_each_request_with_a_user_s_function_has_a_pod_of_that_user(
    controller: Controller, cluster: FakeCluster
) -> None:
    first, second = submit(controller, ANN, 5, "python"), submit(controller, BOB, 5, "python")
    third = submit(controller, ANN, 1, "python")
    submit(controller, ANN, 1)
    for _ in range(3):
        controller.own_pods()
    assert len(cluster.held) == 2, "no more than the limit"
    of = {pod["metadata"]["labels"][REQUEST_LABEL]: pod for pod in cluster.pods()}
    assert set(of) == {first, second}
    assert of[second]["metadata"]["labels"][identity.USER_LABEL] == "bob"
    pod = of[first]
    name = pod["metadata"]["name"]
    assert pod["spec"]["volumes"][0]["secret"]["secretName"] == name
    assert pod["spec"]["containers"][0]["args"] == ["worker", "--memory=1000"]
    assert pod["spec"]["containers"][0]["resources"]["limits"]["memory"] == "1512Mi"
    assert [volume["name"] for volume in pod["spec"]["volumes"]] == ["key"]
    controller.delivery.cancel(ANN, first)
    cluster.held[of[second]["metadata"]["name"]]["status"]["phase"] = "Failed"
    controller.own_pods()
    controller.own_pods()
    now = {pod["metadata"]["labels"][REQUEST_LABEL]: pod for pod in cluster.pods()}
    assert set(now) == {second, third}, "ended ones make room, and are made anew where needed"


def test_a_user_s_function_finds_the_user_s_tokens(
    controller: Controller, cluster: FakeCluster
) -> None:
    controller.delivery.settings.own.user_secrets = True
    submit(controller, ANN, 1, "python")
    controller.own_pods()
    (pod,) = cluster.pods()
    volume = {"secretName": identity.secret_name(ANN.user), "optional": True}
    assert pod["spec"]["volumes"][1] == {"name": "identity", "secret": volume}
    (mount,) = pod["spec"]["containers"][0]["volumeMounts"]
    assert mount == {"name": "identity", "mountPath": identity.FOLDER, "readOnly": True}


def test_a_file_that_ran_out_of_memory_gets_a_larger_pod(
    controller: Controller, cluster: FakeCluster, clock: Any
) -> None:
    request = submit(controller, ANN, 1)
    lease = controller.delivery.lease("pool", memory=1000)
    assert lease
    again = {"reason": "OutOfMemory", "message": "used more", "again": True}
    controller.delivery.fail(lease.file, 1, **again)
    controller.own_pods()
    (pod,) = cluster.pods()
    assert pod["spec"]["containers"][0]["args"][-1] == "--memory=2000"
    clock.now += 100
    larger = controller.delivery.lease("own", memory=2000, request=request)
    assert larger
    controller.delivery.complete(larger.file, larger.attempt, Result(1, 1, 1, 1.0), request=request)
    controller.own_pods()
    assert cluster.pods() == []


def test_a_pod_that_finds_no_node_is_told_to_its_user(
    controller: Controller, cluster: FakeCluster
) -> None:
    request = submit(controller, ANN, 1, "python")
    controller.own_pods()
    assert controller.delivery.get(ANN, request).reason == ""
    (pod,) = cluster.pods()
    condition = {"type": "PodScheduled", "status": "False", "message": "0/1 nodes: no memory"}
    pod["status"] = {"phase": "Pending", "conditions": [condition]}
    controller.own_pods()
    assert "no memory" in controller.delivery.get(ANN, request).reason
    assert len(cluster.pods()) == 1


def test_a_request_has_more_pods_where_there_is_room(
    controller: Controller, cluster: FakeCluster
) -> None:
    controller.delivery.settings.own.max_pods = 6

    def held() -> list[str]:
        controller.own_pods()
        return [pod["metadata"]["labels"][REQUEST_LABEL] for pod in cluster.pods()]

    first = submit(controller, ANN, 2, "python")
    assert held() == [first] * 2, "no more than it has files"
    second = submit(controller, BOB, 9, "python")
    assert held().count(second) == 4
    cluster.held.clear()
    third = submit(controller, ANN, 9, "python")
    found = held()
    assert [found.count(one) for one in (first, second, third)] == [2, 3, 1], "as many a user"
    keys = {cluster.secrets[name]["data"]["key"] for name in cluster.held}
    assert len(keys) == 3, "one a request"


def test_users_share_the_pods(controller: Controller, cluster: FakeCluster) -> None:
    first = submit(controller, ANN, 1, "python")
    submit(controller, ANN, 2, "python")
    controller.delivery.settings.own.max_pods = 1
    controller.own_pods()
    theirs = submit(controller, BOB, 1, "python")
    controller.delivery.settings.own.max_pods = 2
    controller.own_pods()
    held = {pod["metadata"]["labels"][REQUEST_LABEL] for pod in cluster.pods()}
    assert held == {first, theirs}, "Ann has one already, though she asked before"


def test_a_pod_that_cannot_be_made_is_told_to_its_user(
    controller: Controller, cluster: FakeCluster
) -> None:
    request = submit(controller, ANN, 1, "python")
    cluster.broken = "exceeded quota: pods"
    controller.own_pods()
    found = controller.delivery.get(ANN, request)
    assert found.status == "Running"
    assert "exceeded quota: pods" in found.reason
