"""What the tests of the delivery service share: users, files with known content, a clock."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot
import yaml
from coffea_shoppe_servicex.delivery import Delivery, Owner


class Clock:
    """A time that goes on when it is told."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


ANN, BOB = Owner("ann", "uid-ann"), Owner("bob", "uid-bob")


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


def changed(delivery: Delivery, **settings: Any) -> Delivery:
    """Return the same requests under other settings."""
    own = delivery.settings.model_copy(update=settings)
    return Delivery(own, delivery.engine, delivery.store, delivery.clock)
