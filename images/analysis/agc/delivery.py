"""The analysis' columns by ServiceX: cut out of the files by transformers, read as parquet.

The stock client asks for them; nothing here names a facility.  The transformers' cut is
looser than the selection, so that the histograms are the same as by direct reading.
"""

import io
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import awkward as ak
import pyarrow.parquet as pq
import requests

from agc.samples import File, InputError
from agc.selection import MIN_JETS

CUT = f"(nJet >= {MIN_JETS}) & (nElectron + nMuon >= 1)"
"""Jets are varied in momentum, never in number: no variation selects more than this."""
TIMEOUT_S = (10, 120)


@dataclass(frozen=True)
class Delivered:
    """What ServiceX delivered."""

    urls: dict[str, list[str]]
    """Sample → addresses of its parquet files."""
    seconds: float
    """From the request to the last address."""

    @property
    def files(self) -> int:
        """Return how many files were delivered."""
        return sum(map(len, self.urls.values()))


def deliver(
    files: Iterable[File],
    branches: Sequence[str],
    *,
    tree: str,
    cut: str = CUT,
    config: str | None = None,
    progress: bool = True,
) -> Delivered:
    """Have the branches of all files delivered; the samples are asked for side by side.

    `config` names the client's configuration; by default it finds its own.  Raises
    `InputError` with ServiceX's words where a sample cannot be had.
    """
    from servicex import ProgressBarFormat, dataset, query
    from servicex import deliver as ask

    paths: dict[str, list[str]] = {}
    for file in files:
        paths.setdefault(file.sample.name, []).append(file.path)
    wanted = query.UprootRaw({"treename": tree, "filter_name": list(branches), "cut": cut})
    asked = [
        {"Name": name, "Dataset": dataset.FileList(some), "Query": wanted}
        for name, some in paths.items()
    ]
    general = {"OutputFormat": "parquet", "Delivery": "URLs"}
    bar = ProgressBarFormat.default if progress else ProgressBarFormat.none
    start = time.perf_counter()
    # The facility keeps results itself; addresses of an earlier run may have expired.
    found = ask(
        {"General": general, "Sample": asked},
        config_path=config,
        progress_bar=bar,
        ignore_local_cache=True,
    )
    seconds = time.perf_counter() - start
    urls, problems = {}, []
    for name, some in found.items():
        try:
            urls[name] = [str(url) for url in some]
        except Exception as error:
            problems.append(f"{name}: {_told(error)}")
    if problems:
        raise InputError("ServiceX could not deliver:\n" + "\n".join(problems))
    return Delivered(urls, seconds)


def _told(error: BaseException) -> str:
    """Return the last words of what the client raises, which has a traceback as its text."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else repr(error)


def read(url: str) -> tuple[ak.Array, int]:
    """Return the events of a delivered file, with its size in bytes.

    Columns `Jet_pt`, … become the fields of a collection `Jet`, as NanoAOD names them.
    """
    answer = requests.get(url, timeout=TIMEOUT_S)
    answer.raise_for_status()
    columns = ak.from_arrow(pq.read_table(io.BytesIO(answer.content)))
    return collections({name: columns[name] for name in columns.fields}), len(answer.content)


def collections(columns: Mapping[str, ak.Array]) -> ak.Array:
    """Return flat columns as events with collections: whatever an `nX` counts is one, `X`."""
    prefixes = [name[1:] for name in columns if name.startswith("n") and name[1:2].isupper()]
    fields: dict[str, Any] = {}
    for prefix in prefixes:
        members = {
            name.removeprefix(f"{prefix}_"): array
            for name, array in columns.items()
            if name.startswith(f"{prefix}_")
        }
        if members:
            fields[prefix] = ak.zip(members)
    rest = {
        name: array
        for name, array in columns.items()
        if not any(name.startswith(f"{prefix}_") for prefix in prefixes)
    }
    return ak.zip({**rest, **fields}, depth_limit=1)
