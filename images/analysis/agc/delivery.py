"""The analysis' columns by ServiceX: cut out of the files by transformers, read as parquet.

The stock client asks for them; nothing here names a facility.  The transformers' cut is
looser than the selection, so that the histograms are the same as by direct reading.
"""

import io
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import awkward as ak
import pyarrow as pa
import pyarrow.parquet as pq
import requests

from agc.samples import File, InputError
from agc.selection import (
    ELECTRON_TIGHT,
    JET_ETA,
    LEPTON_ETA,
    LEPTON_PT,
    MIN_JETS,
    MUON_ISOLATION,
    SIP3D,
    TIGHT_LEPTON_VETO,
)

ELECTRONS = (
    f"(Electron_pt > {LEPTON_PT}) & (abs(Electron_eta) < {LEPTON_ETA})"
    f" & (Electron_cutBased == {ELECTRON_TIGHT}) & (Electron_sip3d < {SIP3D})"
)
MUONS = (
    f"(Muon_pt > {LEPTON_PT}) & (abs(Muon_eta) < {LEPTON_ETA}) & Muon_tightId"
    f" & (Muon_sip3d < {SIP3D}) & (Muon_pfRelIso04_all < {MUON_ISOLATION})"
)
JETS = f"(abs(Jet_eta) < {JET_ETA}) & ((Jet_jetId & {TIGHT_LEPTON_VETO}) != 0)"
CUT = f"(sum({ELECTRONS}) + sum({MUONS}) == 1) & (sum({JETS}) >= {MIN_JETS})"
"""What `selection` asks of leptons, and of jets but for their momenta and tags, which vary."""
TIMEOUT_S = (10, 120)
GROUPS, LARGEST_GROUP = 2, 50


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
    kept: bool = True,
    progress: bool = True,
) -> Delivered:
    """Have the branches of all files delivered; the samples are asked for side by side.

    `config` names the client's configuration; by default it finds its own.  Unless `kept`
    the service cannot use what it has of an earlier request.  Raises
    `InputError` with ServiceX's words where a sample cannot be had.
    """
    from servicex import ProgressBarFormat, dataset, query
    from servicex import deliver as ask

    if not kept:
        cut = unlike(cut)
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


def unlike(cut: str) -> str:
    """Return a cut that the service has not seen, and that passes the same events."""
    return f"({cut}) & (nJet < {10**9 + secrets.randbits(30)})"


def _told(error: BaseException) -> str:
    """Return the last words of what the client raises, which has a traceback as its text."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else repr(error)


def batches(urls: Sequence[str], workers: int) -> list[Sequence[str]]:
    """Return a sample's files in groups that are analysed at once.

    What was selected of a file is small, and a call of the analysis has its own cost; each
    worker has some groups, so that none waits for the others at the end.
    """
    size = min(max(len(urls) // (GROUPS * workers), 1), LARGEST_GROUP)
    return [urls[first : first + size] for first in range(0, len(urls), size)]


def read(urls: Sequence[str]) -> tuple[ak.Array, int]:
    """Return the events of delivered files, with their size in bytes.

    Columns `Jet_pt`, … become the fields of a collection `Jet`, as NanoAOD names them.
    """
    tables, size = [], 0
    with requests.Session() as session:
        for url in urls:
            answer = session.get(url, timeout=TIMEOUT_S)
            answer.raise_for_status()
            size += len(answer.content)
            tables.append(pq.read_table(io.BytesIO(answer.content)))
    columns = ak.from_arrow(pa.concat_tables(tables))
    return collections({name: columns[name] for name in columns.fields}), size


def collections(columns: Mapping[str, ak.Array]) -> ak.Array:
    """Return flat columns as events with collections: lists `X_a`, `X_b` are one, `X`."""
    fields: dict[str, Any] = {}
    members: dict[str, dict[str, ak.Array]] = {}
    for name, array in columns.items():
        prefix, separator, member = name.partition("_")
        if separator and array.ndim == 2:
            members.setdefault(prefix, {})[member] = array
        else:
            fields[name] = array
    fields |= {prefix: ak.zip(some) for prefix, some in members.items()}
    return ak.zip(fields, depth_limit=1)
