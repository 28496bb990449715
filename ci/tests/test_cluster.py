import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from shoppe_ci import cluster, machine
from shoppe_ci.engine import Engine
from shoppe_ci.errors import ShoppeError

ENGINE = Engine("docker", "/usr/bin/docker")


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("SHOPPE_CACHE", str(tmp_path))
    return tmp_path


def write_state(folder: Path, node: str) -> None:
    state = {"name": "mine", "node_id": node, "http_port": 1, "source": "source"}
    (folder / "clusters" / "mine").mkdir(parents=True)
    (folder / "clusters" / "mine" / "state.json").write_text(json.dumps(state))


def test_a_cluster_of_ours_is_found(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    write_state(cache, "abc")
    monkeypatch.setattr(cluster, "_node", lambda *_: "abc")
    found = cluster.load(ENGINE, "mine")
    assert found and found.node_id == "abc"


def test_somebody_elses_cluster_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    removed: list[str] = []
    monkeypatch.setattr(cluster, "_node", lambda *_: "other")
    monkeypatch.setattr(cluster, "_remove", lambda _, name: removed.append(name))
    with pytest.raises(ShoppeError, match="did not create"):
        cluster.load(ENGINE, "mine")
    with pytest.raises(ShoppeError, match="did not create"):
        cluster.delete(ENGINE, "mine")
    assert removed == []


def test_a_recreated_cluster_of_the_same_name_is_not_ours(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    write_state(cache, "abc")
    monkeypatch.setattr(cluster, "_node", lambda *_: "other")
    with pytest.raises(ShoppeError, match="did not create"):
        cluster.load(ENGINE, "mine")


def test_a_creation_that_was_cut_short_is_begun_anew(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    write_state(cache, "")
    removed: list[str] = []
    monkeypatch.setattr(cluster, "_node", lambda *_: "half")
    monkeypatch.setattr(cluster, "_remove", lambda _, name: removed.append(name))
    assert cluster.load(ENGINE, "mine") is None
    assert removed == ["mine"]


def system_pod(*, ready: bool, started: str, phase: str = "Running") -> dict[str, Any]:
    state = {"running": {"startedAt": started}} if ready or phase == "Running" else {}
    return {"status": {"phase": phase, "containerStatuses": [{"ready": ready, "state": state}]}}


RESTARTED = "2026-02-01T10:00:00"
FRESH = system_pod(ready=True, started="2026-02-01T10:00:07Z")


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        (FRESH, True),
        (system_pod(ready=False, started="", phase="Succeeded"), True),
        (system_pod(ready=True, started="2026-02-01T09:59:59Z"), False),
        (system_pod(ready=False, started="2026-02-01T10:00:07Z"), False),
        (system_pod(ready=False, started="", phase="Pending"), False),
        ({"status": {"phase": "Pending"}}, False),
    ],
    ids=["ready", "ended", "state of before", "not ready", "waiting", "no containers"],
)
def test_a_pod_is_ready_since_the_restart(pod: dict[str, Any], expected: bool) -> None:
    assert cluster.ready_since(pod, RESTARTED) is expected


@pytest.mark.parametrize("running", [True, False])
def test_a_cluster_that_was_stopped_is_ready_before_it_is_used(
    monkeypatch: pytest.MonkeyPatch, cache: Path, running: bool
) -> None:
    stale = system_pod(ready=True, started="2026-02-01T09:00:00Z")
    moved = {"endpoints": [{"addresses": ["172.18.0.3"]}, {"addresses": ["172.18.0.4"]}]}
    settled = {"endpoints": [{"addresses": ["172.18.0.4"]}]}
    answers = [[moved], [FRESH], [FRESH], [settled], [FRESH], [stale], [settled], [FRESH], [FRESH]]
    write_state(cache, "abc")
    monkeypatch.setattr(cluster, "_node", lambda *_: "abc")
    monkeypatch.setattr(cluster.Cluster, "get", lambda *_: {"items": answers.pop(0)})
    monkeypatch.setattr("shoppe_ci.wait.time.sleep", lambda _: None)
    monkeypatch.setattr(Engine, "running", lambda *_: running)
    monkeypatch.setattr(Engine, "run", lambda *_: f"{RESTARTED}.319673300Z\n")
    assert cluster.ensure(ENGINE, "mine", "source").node_id == "abc"
    assert answers == []


@pytest.mark.parametrize("lacks", [True, False])
def test_rights_that_the_machine_lacks_are_done_without(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lacks: bool
) -> None:
    monkeypatch.setattr(machine, "lacks_capability", lambda _: lacks)
    monkeypatch.setattr(machine, "cgroup_v1", lambda: lacks)
    found = cluster.configuration(source="source", port=1234, data=tmp_path)
    assert found["featureGates"] == ({"KubeletInUserNamespace": True} if lacks else {})
    assert ("restrict_oom_score_adj = true" in found["containerdConfigPatches"][0]) is lacks
    kubelet = yaml.safe_load(found["nodes"][0]["kubeadmConfigPatches"][0])
    assert kubelet.get("failCgroupV1", True) is not lacks
    assert found["nodes"][0]["extraPortMappings"][0]["listenAddress"] == "127.0.0.1"


class Containers:
    """An engine with one registry, which responds from its `good`th start on."""

    name = "docker"

    def __init__(self, *, good: int, label: str = "registry") -> None:
        self.lives = {cluster.REGISTRY: 1}
        self.good = good
        self.label = label

    def succeeds(self, *words: str) -> bool:
        return words[-1] in self.lives

    def running(self, _: str) -> bool:
        return True

    def run(self, *words: str) -> str:
        verb, name = words[0], words[-1]
        if verb == "rename":
            self.lives[name] = self.lives.pop(words[1])
        elif verb == "rm":
            del self.lives[name]
        elif verb == "run":
            self.lives[cluster.REGISTRY] = max(self.lives.values()) + 1
        elif verb == "port":
            if self.lives[cluster.REGISTRY] < self.good:
                raise ShoppeError("No public port '5000/tcp' published")
            return "127.0.0.1:4321"
        return self.label if words[:2] == ("container", "inspect") else ""


@pytest.fixture
def fast_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shoppe_ci.images.registry_image", lambda _: "registry")
    monkeypatch.setattr(cluster, "eventually", lambda *_, **__: True)


@pytest.mark.usefixtures("fast_start")
@pytest.mark.parametrize("good", [1, 2, 3])
def test_a_registry_that_does_not_respond_is_recreated(good: int) -> None:
    engine = Containers(good=good)
    assert cluster.ensure_registry(engine) == 4321  # type: ignore[arg-type]
    assert engine.lives == {cluster.REGISTRY: good}


@pytest.mark.usefixtures("fast_start")
def test_a_registry_that_never_responds_is_reported() -> None:
    engine = Containers(good=9)
    with pytest.raises(ShoppeError, match="No public port"):
        cluster.ensure_registry(engine)  # type: ignore[arg-type]


@pytest.mark.usefixtures("fast_start")
def test_somebody_elses_registry_is_left_alone() -> None:
    engine = Containers(good=9, label="")
    with pytest.raises(ShoppeError, match="did not create"):
        cluster.ensure_registry(engine)  # type: ignore[arg-type]
    assert engine.lives == {cluster.REGISTRY: 1}
