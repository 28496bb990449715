from collections.abc import Callable, Iterator

import pytest
from mlflow_server import MlflowServer, mlflow_server
from rendering import ALONE, Manifest, template


@pytest.fixture(scope="session")
def render() -> Callable[..., list[Manifest]]:
    return template


@pytest.fixture(scope="session", params=[*ALONE, "coffea-shoppe"])
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    """Each component installed alone, and the whole facility."""
    return template(request.param, ALONE.get(request.param))


@pytest.fixture(scope="session")
def running_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """One server for all modules, whose users differ: its start takes ten CPU seconds."""
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as server, server.running():
        yield server
