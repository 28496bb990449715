"""The whole service in this process, its transformers beside it, and stock clients."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
import uvicorn
import yaml
from coffea_shoppe_servicex.local import local

START_S = 60


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Service:
    url: str
    folder: Path

    def client(self, folder: Path) -> Path:
        """Return the configuration of a client that remembers nothing of the others."""
        told = {
            "api_endpoints": [{"name": "here", "endpoint": self.url}],
            "cache_path": str(folder / "cache"),
        }
        path = folder / "servicex.yaml"
        path.write_text(yaml.safe_dump(told))
        return path


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
    jets = ak.Array([[float(n + i) for i in range(n % 4)] for n in number])
    keys = {
        "run": np.ones(count, "u4"),
        "luminosityBlock": (number // 100).astype("u4"),
        "event": number.astype("u8"),
    }
    with uproot.recreate(path) as file:
        jet = ak.zip({"pt": jets, "eta": jets * 0.001})
        file.mktree(
            "Events",
            {**{k: v.dtype for k, v in keys.items()}, "Jet": jet.type.content, "met": "f4"},
        )
        file["Events"].extend({**keys, "Jet": jet, "met": number.astype("f4")})
        file["Weights"] = {**keys, "weight": number * 0.5}
        file["Events_up"] = {"met": number.astype("f4") * 1.1}
        file["h"] = np.histogram(number, bins=10)
        for name, tree in more.items():
            file[name] = tree
    return path


Deliver = Callable[..., Any]


@pytest.fixture
def deliver(service: Service, tmp_path: Path) -> Deliver:
    """The stock client's deliver() for one sample; returns what it gives for it."""
    from servicex import deliver as stock

    def run(dataset: Any, query: Any, **options: Any) -> Any:
        general = {"OutputFormat": "parquet", **options.pop("general", {})}
        kept = {k: options.pop(k) for k in ("fail_if_incomplete",) if k in options}
        sample = {"Name": "sample", "Dataset": dataset, "Query": query, **options}
        spec = {"General": general, "Sample": [sample]}
        config = str(service.client(tmp_path))
        return stock(spec, config_path=config, progress_bar=_quiet(), **kept)["sample"]

    return run


def _quiet() -> Any:
    from servicex import ProgressBarFormat

    return ProgressBarFormat.none
