"""The whole service in this process, its transformers beside it, and stock clients."""

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
import uvicorn
import yaml
from coffea_shoppe_servicex.database import connect, migrate
from coffea_shoppe_servicex.delivery import Delivery, Owner
from coffea_shoppe_servicex.local import local
from coffea_shoppe_servicex.objects import FolderStore
from coffea_shoppe_servicex.settings import Front, Limits, Objects, Settings

START_S = 60


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Service:
    url: str
    folder: Path

    def client(self, folder: Path) -> str:
        """Return the configuration of a client that remembers nothing of the others."""
        told = {
            "api_endpoints": [{"name": "here", "endpoint": self.url}],
            "cache_path": str(folder / "cache"),
        }
        path = folder / "servicex.yaml"
        path.write_text(yaml.safe_dump(told))
        return str(path)


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


def make(path: Path, *, first: int = 0, count: int = 1000, **more: Any) -> Path:
    """Write events with known content: event number N has N % 4 jets of N, N+1, … GeV."""
    number = np.arange(first, first + count)
    counts = number % 4
    momenta = np.repeat(number, counts) + ak.flatten(
        ak.local_index(ak.unflatten(np.repeat(number, counts), counts))
    )
    jets = ak.unflatten(np.asarray(momenta, float), counts)
    keys = {
        "run": np.ones(count, "u4"),
        "luminosityBlock": (number // 100).astype("u4"),
        "event": number.astype("u8"),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with uproot.recreate(path) as file:
        jet = ak.zip({"pt": jets, "eta": jets * 0.001})
        kinds = {name: column.dtype for name, column in keys.items()}
        file.mktree("Events", {**kinds, "Jet": jet.type.content, "met": "f4"})
        file["Events"].extend({**keys, "Jet": jet, "met": number.astype("f4")})
        file["Weights"] = {**keys, "weight": number * 0.5}
        file["Events_up"] = {"met": number.astype("f4") * 2}
        file["h"] = np.histogram(number, bins=10)
        for name, tree in more.items():
            file[name] = tree
    return path


class Clock:
    """A time that goes on when it is told."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


ANN, BOB = Owner("ann", "uid-ann"), Owner("bob", "uid-bob")


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


def changed(delivery: Delivery, **settings: Any) -> Delivery:
    """Return the same requests under other settings."""
    own = delivery.settings.model_copy(update=settings)
    return Delivery(own, delivery.engine, delivery.store, delivery.clock)
