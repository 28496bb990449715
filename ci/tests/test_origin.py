import hashlib
from pathlib import Path

import pytest
from shoppe_ci import origin
from shoppe_ci.cluster import Cluster
from shoppe_ci.errors import ShoppeError


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cluster:
    monkeypatch.setenv("SHOPPE_CACHE", str(tmp_path / "cache"))
    return Cluster("c", "id", 1, "source")


def test_one_path_never_has_two_contents(cluster: Cluster, tmp_path: Path) -> None:
    source = tmp_path / "f.root"
    urls = []
    for content in (b"one", b"two", b"one"):
        source.write_bytes(content)
        urls.append(origin.publish(cluster, source))
        digest = hashlib.sha256(content).hexdigest()[:12]
        assert urls[-1] == f"{origin.ADDRESS}//{digest}/f.root"
        assert (cluster.data / digest / "f.root").read_bytes() == content
    assert urls[0] == urls[2] != urls[1]


def test_a_file_that_is_not_there_is_named(cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(ShoppeError, match=r"absent\.root: no such file"):
        origin.publish(cluster, tmp_path / "absent.root")


def test_the_origin_is_fit_for_the_restricted_level() -> None:
    objects = {item["kind"]: item for item in origin.manifests("image:1")}
    spec = objects["Deployment"]["spec"]["template"]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["automountServiceAccountToken"] is False
    for container in spec["containers"]:
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert not [volume for volume in spec["volumes"] if "hostPath" in volume]
