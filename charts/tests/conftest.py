from collections.abc import Callable

import pytest
from rendering import ALONE, Manifest, template


@pytest.fixture(scope="session")
def render() -> Callable[..., list[Manifest]]:
    return template


@pytest.fixture(scope="session", params=[*ALONE, "coffea-shoppe"])
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    """Each component installed alone, and the whole facility."""
    return template(request.param, ALONE.get(request.param))
