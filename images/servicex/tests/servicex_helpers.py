"""Helpers of the tests of ServiceX: users, files with known content, a clock."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot
import uvicorn
import yaml
from coffea_shoppe_servicex import transform
from coffea_shoppe_servicex.backend import Backend
from coffea_shoppe_servicex.codegens import Codegens
from coffea_shoppe_servicex.database import Request, transaction
from coffea_shoppe_servicex.formats import Format
from coffea_shoppe_servicex.identities import Identity
from coffea_shoppe_servicex.local import local
from coffea_shoppe_servicex.models import Lease, Owner, Result, Submission
from coffea_shoppe_servicex.objects import FolderStore, ObjectPrefix

START_S = 60


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


@contextlib.contextmanager
def serving(folder: Path, *, transformers: int, codegens: Path | None = None) -> Iterator[Service]:
    """Yield the whole service of a laptop at a free port."""
    with socket.socket() as listening:
        # Bound before the service starts: no other run on this machine can take the port.
        listening.bind(("127.0.0.1", 0))
        port = int(listening.getsockname()[1])
        with local(folder, port=port, transformers=transformers, codegens=codegens) as (
            application,
            _,
        ):
            config = uvicorn.Config(application, log_level="warning", access_log=False)
            server = uvicorn.Server(config)
            thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
            thread.start()
            end = time.monotonic() + START_S
            while not server.started:
                assert time.monotonic() < end, "the service has not started"
                time.sleep(0.05)
            yield Service(f"http://127.0.0.1:{port}", folder)
            server.should_exit = True
            thread.join(20)


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


def changed(backend: Backend, **settings: Any) -> Backend:
    """Return the same requests under other settings."""
    own = backend.context.settings.model_copy(update=settings)
    return Backend(replace(backend.context, settings=own))


def raw(**query: Any) -> str:
    """Return the selection of an uproot-raw query of one tree."""
    return json.dumps([query])


def deliver(
    folder: Path,
    selection: str,
    *urls: Path | str,
    codegen: str = "uproot-raw",
    form: Format = "parquet",
    local_files: bool = True,
) -> Path:
    """Return the file, in a folder, that a transform of an input writes."""
    target = folder / "out"
    query = Codegens.load().parse(codegen, selection, form)
    source_urls = [str(url) for url in urls]
    transform.transform(query, source_urls, target, form, local_files=local_files)
    return target


def columns(
    folder: Path, selection: str, *urls: Path | str, form: Format = "parquet", **more: Any
) -> Any:
    """Return what a transform of a file delivers: the columns of its first tree."""
    target = deliver(folder, selection, *urls, form=form, **more)
    if form == "parquet":
        return ak.from_parquet(target)
    with uproot.open({target: None}) as file:
        return file[file.keys()[0]].arrays()


RAW = json.dumps([{"treename": "Events", "expressions": ["met"]}])
DONE = Result(events=5, read=100, seconds=1.0)
CONTENT = b"0123456789"
"""What the transformers of the tests store as a result."""


def unchanged(files: Sequence[Sequence[str]]) -> list[Identity]:
    """Return the identities of files that never change: a look-up without origins."""
    return [{"url": urls[0], "size": 7, "mtime": "then", "etag": ""} for urls in files]


def look_up(backend: Backend, found: Iterable[str] = ()) -> bool:
    """Look up a waiting request; return whether there was one.  `found`: a dataset's files."""
    listing = [{"paths": [path], "size": 7} for path in found]
    return backend.datasets.look_up(lambda _: listing, unchanged)


def submit(backend: Backend, owner: Owner = ANN, files: int = 1, **more: Any) -> str:
    """Submit a request, and look up the files that it lists.

    `_` in the name of a further field stands for a hyphen.
    """
    listed = [f"root://origin//{more.get('title', '')}{number}.root" for number in range(files)]
    asked = {"codegen": "uproot-raw", "selection": RAW, "file-list": listed}
    asked |= {name.replace("_", "-"): value for name, value in more.items()}
    created = backend.requests.submit(owner, Submission.model_validate(asked))
    while created.files and backend.requests.get(owner, created.id).status == "Lookup":
        assert look_up(backend)
    return created.id


def take(backend: Backend, **more: Any) -> Lease:
    lease = backend.queue.lease("transformer", memory=more.pop("memory", 4000), **more)
    assert lease
    return lease


def finish(backend: Backend, lease: Lease, content: bytes = CONTENT) -> None:
    """Store a result as a transformer would, and complete its file."""
    object_path(backend, lease).write_bytes(content)
    backend.queue.complete(lease.file, lease.attempt, DONE)


def object_path(backend: Backend, lease: Lease) -> Path:
    """Return the path of the object of a lease, in an existing folder."""
    url = backend.queue.upload_url(lease.file, lease.attempt).partition("?")[0]
    results = backend.context.store
    assert isinstance(results, FolderStore)
    with transaction(backend.context.engine) as session:
        request = session.get_one(Request, lease.request)
        path = results.path(ObjectPrefix(request.owner, request.folder), url.rpartition("/")[2])
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def stored(backend: Backend, request: str) -> list[str]:
    found = backend.requests.get(ANN, request)
    return list(backend.context.store.sizes(ObjectPrefix(found.owner, found.folder)))


def store(backend: Backend, lease: Lease) -> str:
    """Store an object as a transformer would; return its name."""
    path = object_path(backend, lease)
    path.write_bytes(CONTENT)
    return path.name
