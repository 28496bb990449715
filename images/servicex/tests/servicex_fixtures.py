"""The whole service in this process, its transformers beside it, and stock clients."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from coffea_shoppe_servicex.backend import Backend
from coffea_shoppe_servicex.context import Context
from coffea_shoppe_servicex.database import connect, migrate
from coffea_shoppe_servicex.objects import FolderStore
from coffea_shoppe_servicex.settings import Limits, Objects, S3Gateway, Settings
from servicex_helpers import Clock, Service, make, serving


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("servicex"), transformers=2) as service:
        yield service


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three files with a tree of jets, a second of weights, and a histogram."""
    folder = tmp_path_factory.mktemp("inputs")
    return [make(folder / f"events_{number}.root", first=1000 * number) for number in range(3)]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def backend(tmp_path: Path, clock: Clock) -> Iterator[Backend]:
    """Requests of nobody yet, in a file; the tests in the cluster have PostgreSQL."""
    database = f"sqlite:///{tmp_path / 'requests.db'}"
    gateway = S3Gateway(endpoint="127.0.0.1:7000")
    settings = Settings(
        database=database,
        objects=Objects(folder=tmp_path / "results"),
        s3_gateway=gateway,
        local_files=True,
        limits=Limits(attempts=3, memory_mib=1000, memory_max_mib=3000),
    )
    engine = connect(database)
    migrate(engine)
    yield Backend(Context(settings, engine, FolderStore(tmp_path / "results", gateway), clock))
    engine.dispose()
