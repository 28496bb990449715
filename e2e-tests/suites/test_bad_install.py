"""An installation that cannot work is refused before any object exists."""

import pytest
from shoppe_ci import release
from shoppe_ci.cluster import Cluster
from shoppe_ci.errors import ShoppeError


def test_a_misspelt_key_is_named_and_nothing_is_made(cluster: Cluster) -> None:
    values = {"jupyterhub": {"singleusr": {}}}
    with pytest.raises(ShoppeError, match="singleusr"):
        release.install(cluster, release.UMBRELLA, values, name="bad", namespace="bad")
    found = cluster.get(
        "all,configmaps,secrets", "-n", "bad", "-l", "app.kubernetes.io/instance=bad"
    )
    assert found["items"] == []
    cluster.kubectl("delete", "namespace", "bad", "--wait=false")
