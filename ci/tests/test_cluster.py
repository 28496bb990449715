import json
from pathlib import Path

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


def known(folder: Path, node: str) -> None:
    state = {"name": "mine", "node_id": node, "http_port": 1, "source": "source"}
    (folder / "clusters" / "mine").mkdir(parents=True)
    (folder / "clusters" / "mine" / "state.json").write_text(json.dumps(state))


def test_a_cluster_of_ours_is_found(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    known(cache, "abc")
    monkeypatch.setattr(cluster, "_node", lambda *_: "abc")
    found = cluster.load(ENGINE, "mine")
    assert found and found.node_id == "abc"


def test_somebody_elses_cluster_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    removed: list[str] = []
    monkeypatch.setattr(cluster, "_node", lambda *_: "other")
    monkeypatch.setattr(cluster, "_remove", lambda _, name: removed.append(name))
    with pytest.raises(ShoppeError, match="did not make"):
        cluster.load(ENGINE, "mine")
    with pytest.raises(ShoppeError, match="did not make"):
        cluster.delete(ENGINE, "mine")
    assert removed == []


def test_a_recreated_cluster_of_the_same_name_is_not_ours(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    known(cache, "abc")
    monkeypatch.setattr(cluster, "_node", lambda *_: "other")
    with pytest.raises(ShoppeError, match="did not make"):
        cluster.load(ENGINE, "mine")


def test_a_creation_that_was_cut_short_is_begun_anew(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    known(cache, "")
    removed: list[str] = []
    monkeypatch.setattr(cluster, "_node", lambda *_: "half")
    monkeypatch.setattr(cluster, "_remove", lambda _, name: removed.append(name))
    assert cluster.load(ENGINE, "mine") is None
    assert removed == ["mine"]


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
