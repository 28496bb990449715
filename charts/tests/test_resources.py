from typing import Any

from rendering import containers

CORES_FOR_US = 0.6
"""What Kubernetes' own pods leave of two cores, a user and two workers taken off."""


def cores(quantity: str) -> float:
    return float(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)


def test_every_container_has_requests_and_a_memory_limit(manifests: list[Any]) -> None:
    for name, container in containers(manifests):
        assert {"cpu", "memory"} <= set(container["resources"]["requests"]), name
        assert "memory" in container["resources"]["limits"], name


def test_requests_fit_two_cores(manifests: list[Any]) -> None:
    total = sum(cores(c["resources"]["requests"]["cpu"]) for _, c in containers(manifests))
    assert total < CORES_FOR_US
