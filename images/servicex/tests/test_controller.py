"""What the controller does in a cluster: the pool's size, and pods of requests' own."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from coffea_shoppe_contract.files import IDENTITY_FOLDER
from coffea_shoppe_contract.names import secret_name
from coffea_shoppe_contract.resources import USER_LABEL
from coffea_shoppe_servicex.backend import Backend
from coffea_shoppe_servicex.controller import CANCELED_GRACE_S, REQUEST_LABEL, Controller
from coffea_shoppe_servicex.errors import LeaseLostError
from coffea_shoppe_servicex.models import Owner, Result, Submission
from coffea_shoppe_servicex.responses import iso_time
from coffea_shoppe_servicex.settings import DedicatedPods, SharedPool
from coffea_shoppe_servicex.turns import TURN_S
from lib import api_schemas
from servicex_helpers import ANN, BOB, Clock, changed, look_up, object_path, store

TEMPLATE = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"labels": {"app.kubernetes.io/component": "transformer"}},
    "spec": {
        "containers": [
            {
                "name": "transformer",
                "args": ["transformer"],
                "resources": {"requests": {"cpu": "20m"}},
            }
        ],
        "volumes": [{"name": "key", "secret": {}}],
    },
}
SOURCE = "ZGVmIHJ1bl9xdWVyeShmKToKICAgIHJldHVybiBmCg=="
RAW = '[{"treename": "E", "expressions": ["x"]}]'


CARL = Owner("carl", "uid-carl")


class FakeCluster:
    """A cluster that remembers."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
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
        api_schemas.check([pod, secret])
        name = pod["metadata"]["name"]
        metadata = {**pod["metadata"], "creationTimestamp": iso_time(self.clock())}
        self.held[name] = {**pod, "metadata": metadata, "status": {"phase": "Running"}}
        self.secrets[name] = secret

    def delete(self, name: str, *, grace_s: int = CANCELED_GRACE_S) -> None:
        """Delete a pod, at once unless it is ended for another user's sake."""
        if grace_s == CANCELED_GRACE_S:
            self.held.pop(name, None)
        elif name in self.held:
            end = iso_time(self.clock() + grace_s)
            self.held[name]["metadata"]["deletionTimestamp"] = end

    def end_pods(self) -> None:
        """Let the grace period of each pod pass by."""
        self.held = {
            name: pod
            for name, pod in self.held.items()
            if "deletionTimestamp" not in pod["metadata"]
        }


@pytest.fixture
def cluster(clock: Clock) -> FakeCluster:
    return FakeCluster(clock)


@pytest.fixture
def controller(backend: Backend, cluster: FakeCluster, tmp_path: Path) -> Controller:
    template = tmp_path / "transformer.yaml"
    template.write_text(yaml.safe_dump(TEMPLATE))
    whole = changed(
        backend,
        dedicated_pods=DedicatedPods(namespace="own", template=template, max_pods=2),
        shared_pool=SharedPool(
            deployment="pool", namespace="n", max_replicas=3, files_per_replica=2
        ),
    )
    return Controller(whole, cluster=cluster)


def submit(controller: Controller, owner: Owner, files: int, codegen: str = "uproot-raw") -> str:
    selection = RAW if codegen == "uproot-raw" else SOURCE
    listed = [f"{owner.user}{codegen}{number}" for number in range(files)]
    asked = {"codegen": codegen, "selection": selection, "file-list": listed}
    controller.backend.context.clock.now += 1  # type: ignore[attr-defined]
    created = controller.backend.requests.submit(owner, Submission.model_validate(asked))
    assert look_up(controller.backend)
    return created.id


def test_the_pool_grows_with_the_queue_up_to_its_limit_and_shrinks_when_idle(
    controller: Controller, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = [1000.0]
    monkeypatch.setattr("coffea_shoppe_servicex.controller.time.monotonic", lambda: moment[0])
    controller.scale_shared_pool()
    assert cluster.wanted == 1
    request = submit(controller, ANN, 3)
    controller.scale_shared_pool()
    assert cluster.wanted == 2
    submit(controller, BOB, 100)
    controller.scale_shared_pool()
    assert cluster.wanted == 3
    for one in (request, *(r.id for r in controller.backend.requests.owned_by(BOB))):
        owner = ANN if one == request else BOB
        controller.backend.requests.cancel(owner, one)
    controller.scale_shared_pool()
    assert cluster.wanted == 3, "not at once"
    moment[0] += 61
    controller.scale_shared_pool()
    assert cluster.wanted == 1


def test_each_request_with_a_user_s_function_has_a_pod_of_that_user(
    controller: Controller, cluster: FakeCluster
) -> None:
    first, second = submit(controller, ANN, 5, "python"), submit(controller, BOB, 5, "python")
    third = submit(controller, ANN, 1, "python")
    submit(controller, ANN, 1)
    for _ in range(3):
        controller.adjust_dedicated_pods()
    assert len(cluster.held) == 2, "no more than the limit"
    of = {pod["metadata"]["labels"][REQUEST_LABEL]: pod for pod in cluster.pods()}
    assert set(of) == {first, second}
    assert of[second]["metadata"]["labels"][USER_LABEL] == "bob"
    pod = of[first]
    name = pod["metadata"]["name"]
    assert pod["spec"]["volumes"][0]["secret"]["secretName"] == name
    assert pod["spec"]["containers"][0]["args"] == ["transformer", "--memory=1000"]
    assert pod["spec"]["containers"][0]["resources"]["limits"]["memory"] == "1512Mi"
    assert [volume["name"] for volume in pod["spec"]["volumes"]] == ["key"]
    controller.backend.requests.cancel(ANN, first)
    cluster.held[of[second]["metadata"]["name"]]["status"]["phase"] = "Failed"
    controller.adjust_dedicated_pods()
    controller.adjust_dedicated_pods()
    now = {pod["metadata"]["labels"][REQUEST_LABEL]: pod for pod in cluster.pods()}
    assert set(now) == {second, third}, "ended ones make room, and are made anew where needed"


def test_a_user_s_function_finds_the_user_s_tokens(
    controller: Controller, cluster: FakeCluster
) -> None:
    controller.backend.context.settings.dedicated_pods.user_secrets = True
    submit(controller, ANN, 1, "python")
    controller.adjust_dedicated_pods()
    (pod,) = cluster.pods()
    volume = {"secretName": secret_name(ANN.user), "optional": True}
    assert pod["spec"]["volumes"][1] == {"name": "identity", "secret": volume}
    (mount,) = pod["spec"]["containers"][0]["volumeMounts"]
    assert mount == {"name": "identity", "mountPath": IDENTITY_FOLDER, "readOnly": True}


def test_a_file_that_ran_out_of_memory_gets_a_larger_pod(
    controller: Controller, cluster: FakeCluster, clock: Any
) -> None:
    request = submit(controller, ANN, 1)
    lease = controller.backend.queue.lease("pool", memory=1000)
    assert lease
    controller.backend.queue.fail(
        lease.file, 1, reason="OutOfMemory", message="used more", retry=True
    )
    controller.adjust_dedicated_pods()
    (pod,) = cluster.pods()
    assert pod["spec"]["containers"][0]["args"][-1] == "--memory=2000"
    clock.now += 100
    larger = controller.backend.queue.lease("own", memory=2000, request_id=request)
    assert larger
    store(controller.backend, larger)
    controller.backend.queue.complete(
        larger.file, larger.attempt, Result(events=1, read=1, seconds=1.0), request_id=request
    )
    controller.adjust_dedicated_pods()
    assert cluster.pods() == []


def test_a_pod_that_finds_no_node_is_told_to_its_user(
    controller: Controller, cluster: FakeCluster
) -> None:
    request = submit(controller, ANN, 1, "python")
    controller.adjust_dedicated_pods()
    assert controller.backend.requests.get(ANN, request).reason == ""
    (pod,) = cluster.pods()
    condition = {"type": "PodScheduled", "status": "False", "message": "0/1 nodes: no memory"}
    pod["status"] = {"phase": "Pending", "conditions": [condition]}
    controller.adjust_dedicated_pods()
    assert "no memory" in controller.backend.requests.get(ANN, request).reason
    assert len(cluster.pods()) == 1


def test_a_request_has_more_pods_where_there_is_room(
    controller: Controller, cluster: FakeCluster
) -> None:
    controller.backend.context.settings.dedicated_pods.max_pods = 6

    def held() -> list[str]:
        controller.adjust_dedicated_pods()
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
    controller.backend.context.settings.dedicated_pods.max_pods = 1
    controller.adjust_dedicated_pods()
    theirs = submit(controller, BOB, 1, "python")
    controller.backend.context.settings.dedicated_pods.max_pods = 2
    controller.adjust_dedicated_pods()
    held = {pod["metadata"]["labels"][REQUEST_LABEL] for pod in cluster.pods()}
    assert held == {first, theirs}, "Ann has one already, though she asked before"


def owners(cluster: FakeCluster) -> list[str]:
    return sorted(pod["metadata"]["labels"][USER_LABEL] for pod in cluster.pods())


def test_a_user_s_sleeping_functions_leave_another_user_a_share(
    controller: Controller, cluster: FakeCluster, clock: Clock
) -> None:
    controller.backend.context.settings.dedicated_pods.max_pods = 4
    sleeping = submit(controller, ANN, 9, "python")
    controller.adjust_dedicated_pods()
    assert owners(cluster) == ["ann"] * 4, "nobody else waits"
    leases = {
        name: controller.backend.queue.lease(name, memory=4000, request_id=sleeping)
        for name in cluster.held
    }
    clock.now += 1
    waiting = submit(controller, BOB, 9, "python")
    controller.adjust_dedicated_pods()
    ending = [p["metadata"]["name"] for p in cluster.pods() if "deletionTimestamp" in p["metadata"]]
    assert len(ending) == 2, "they may finish their files meanwhile"
    reason = controller.backend.requests.get(BOB, waiting).reason
    assert reason == "waits for a transformer: other users have all 4 at present"
    controller.adjust_dedicated_pods()
    assert controller.backend.queue.lease("early", memory=4000, request_id=sleeping), "of the rest"
    clock.now += TURN_S - 1
    for name in cluster.held.keys() - set(ending):
        lease = leases[name]
        assert lease
        controller.backend.queue.renew(lease.file, lease.attempt)
    controller.adjust_dedicated_pods()
    cluster.end_pods()
    controller.adjust_dedicated_pods()
    assert owners(cluster) == ["ann", "ann", "bob", "bob"]
    assert controller.backend.requests.get(BOB, waiting).reason == ""
    # What the ended pods had begun is done by the others, and counts as no attempt.
    for name in ending:
        lease = leases[name]
        assert lease
        with pytest.raises(LeaseLostError):
            controller.backend.queue.renew(lease.file, lease.attempt)
    files = {f.id: f for f in controller.backend.requests.files(ANN, sleeping)}
    begun = [leases[name].file for name in ending if leases[name]]  # type: ignore[union-attr]
    assert {(files[file].state, files[file].attempt) for file in begun} == {("waiting", 0)}
    clock.now += 100
    again = controller.backend.queue.lease("later", memory=4000, request_id=sleeping)
    assert again
    object_path(controller.backend, again).write_bytes(b"x")
    controller.backend.queue.complete(
        again.file, again.attempt, Result(events=1, read=1, seconds=1.0), request_id=sleeping
    )


def test_with_one_pod_users_take_turns(
    controller: Controller, cluster: FakeCluster, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coffea_shoppe_servicex.controller.time.monotonic", clock)
    controller.backend.context.settings.dedicated_pods.max_pods = 1
    for owner in ANN, BOB, CARL:
        submit(controller, owner, 9, "python")
    order = []
    for _ in range(6):
        controller.adjust_dedicated_pods()
        order += owners(cluster)
        clock.now += TURN_S + 1
        controller.adjust_dedicated_pods()
        assert all("deletionTimestamp" in pod["metadata"] for pod in cluster.pods())
        cluster.end_pods()
    assert order == ["ann", "bob", "carl"] * 2


def test_a_pod_that_cannot_be_made_is_told_to_its_user(
    controller: Controller, cluster: FakeCluster
) -> None:
    request = submit(controller, ANN, 1, "python")
    cluster.broken = "exceeded quota: pods"
    controller.adjust_dedicated_pods()
    found = controller.backend.requests.get(ANN, request)
    assert found.status == "Running"
    assert "exceeded quota: pods" in found.reason
