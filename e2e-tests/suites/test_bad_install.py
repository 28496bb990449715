"""An installation that cannot work is refused before any object exists."""

from typing import Any

import pytest
from shoppe_ci import release
from shoppe_ci.cluster import Cluster
from shoppe_ci.errors import ShoppeError


def test_a_misspelt_key_is_named_and_nothing_is_made(facility: Cluster) -> None:
    values: dict[str, Any] = {"jupyterhub": {"singleusr": {}}}
    with pytest.raises(ShoppeError, match="singleusr"):
        release.install(facility, release.UMBRELLA, values, name="bad", namespace="bad")
    found = facility.get(
        "all,configmaps,secrets", "-n", "bad", "-l", "app.kubernetes.io/instance=bad"
    )
    assert found["items"] == []
    facility.kubectl("delete", "namespace", "bad", "--wait=false")
