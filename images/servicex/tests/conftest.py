"""The whole service in this process, its transformers beside it, and stock clients."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from coffea_shoppe_servicex.database import connect, migrate
from coffea_shoppe_servicex.delivery import Delivery
from coffea_shoppe_servicex.local import local
from coffea_shoppe_servicex.objects import FolderStore
from coffea_shoppe_servicex.settings import Front, Limits, Objects, Settings
from servicex_helpers import Clock, Service, make

START_S = 60


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder, port = tmp_path_factory.mktemp("servicex"), free_port()
    with local(folder, port=port, workers=2) as (application, _):
        config = uvicorn.Config(application, port=port, log_level="warning", access_log=False)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        end = time.monotonic() + START_S
        while not server.started:
            assert time.monotonic() < end, "the service has not started"
            time.sleep(0.05)
        yield Service(f"http://127.0.0.1:{port}", folder)
        server.should_exit = True
        thread.join(20)


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three files with a tree of jets, a second of weights, and a histogram."""
    folder = tmp_path_factory.mktemp("inputs")
    return [make(folder / f"events_{number}.root", first=1000 * number) for number in range(3)]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def delivery(tmp_path: Path, clock: Clock) -> Iterator[Delivery]:
    """Requests of nobody yet, in a file; the tests in the cluster have PostgreSQL."""
    database = f"sqlite:///{tmp_path / 'requests.db'}"
    front = Front(endpoint="127.0.0.1:7000")
    settings = Settings(
        database=database,
        objects=Objects(folder=tmp_path / "results"),
        front=front,
        local_files=True,
        limits=Limits(attempts=3, memory_mi_b=1000, memory_max_mi_b=3000),
    )
    engine = connect(database)
    migrate(engine)
    yield Delivery(settings, engine, FolderStore(tmp_path / "results", front), clock)
    engine.dispose()
