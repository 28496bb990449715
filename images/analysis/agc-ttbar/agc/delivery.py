"""The analysis' columns from ServiceX, delivered as parquet.

The stock client requests them; nothing here names a facility.  The transformers' cut is
looser than the selection, so that the histograms are the same as with direct reading.
"""

import io
import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import awkward as ak
import pyarrow as pa
import pyarrow.parquet as pq
import requests
from coffea_shoppe_contract.addresses import redacted

from agc.assignment import MIN_JETS
from agc.columns import Columns
from agc.nanoaod import Jets
from agc.samples import File, InputError
from agc.selection import ELECTRON, JET, MUON, expression


def cut_for(definition: Jets) -> str:
    """Return the cuts of `selection` on leptons and jets, as a ServiceX expression.

    Without those on jets' momenta and tags, which systematic variations change.
    """
    electrons, muons = expression("Electron", ELECTRON), expression("Muon", MUON)
    jets = f"{expression('Jet', JET)} & {definition.identification}"
    return f"(sum({electrons}) + sum({muons}) == 1) & (sum({jets}) >= {MIN_JETS})"


CUT = cut_for(Jets())
TIMEOUT_S = (10, 120)
GROUPS, LARGEST_GROUP = 2, 50


@dataclass(frozen=True)
class Delivered:
    """What ServiceX delivered."""

    urls: dict[str, list[str]]
    """Sample → addresses of its parquet files."""
    seconds: float
    """Time from the request to the last address."""

    @property
    def files(self) -> int:
        """Return the number of delivered files."""
        return sum(map(len, self.urls.values()))


def deliver(
    files: Iterable[File],
    branches: Sequence[str],
    *,
    tree: str,
    cut: str = CUT,
    config: str | None = None,
    use_cached_results: bool = True,
    progress: bool = True,
) -> Delivered:
    """Have branches of all files delivered; all samples are requested together.

    `config` is the path of the client's configuration; by default the client searches it.
    Without `use_cached_results` ServiceX processes the files again, also where it has the
    results of an earlier request.  Raises `InputError` with ServiceX's message where a sample
    cannot be delivered.
    """
    from servicex import ProgressBarFormat, dataset, query
    from servicex import deliver as deliver_columns

    if not use_cached_results:
        cut = with_cache_buster(cut)
    paths: dict[str, list[str]] = {}
    for file in files:
        paths.setdefault(file.sample.name, []).append(file.path)
    selection = query.UprootRaw({"treename": tree, "filter_name": list(branches), "cut": cut})
    requested = [
        {"Name": name, "Dataset": dataset.FileList(listed), "Query": selection}
        for name, listed in paths.items()
    ]
    general = {"OutputFormat": "parquet", "Delivery": "URLs"}
    bar = ProgressBarFormat.default if progress else ProgressBarFormat.none
    start = time.perf_counter()
    # ServiceX keeps the results itself; cached addresses of an earlier run may have expired.
    delivered = deliver_columns(
        {"General": general, "Sample": requested},
        config_path=config,
        progress_bar=bar,
        ignore_local_cache=True,
    )
    seconds = time.perf_counter() - start
    urls, problems = {}, []
    for name, results in delivered.items():
        try:
            urls[name] = [str(url) for url in results]
        except Exception as error:
            problems.append(f"{name}: {redacted(_last_line(error))}")
    if problems:
        raise InputError("ServiceX could not deliver:\n" + "\n".join(problems))
    return Delivered(urls, seconds)


def with_cache_buster(cut: str) -> str:
    """Return a cut that passes the same events, and that ServiceX has no cached results for."""
    return f"({cut}) & (nJet < {10**9 + secrets.randbits(30)})"


def _last_line(error: BaseException) -> str:
    """Return the last line of an error of the client, whose text is a whole traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else repr(error)


def batches(urls: Sequence[str], workers: int) -> list[Sequence[str]]:
    """Return a sample's files in groups that are analysed together.

    A delivered file is small compared with the overhead of a call.  There are several groups
    for each worker, so that the workers end at about the same time.
    """
    size = min(max(len(urls) // (GROUPS * workers), 1), LARGEST_GROUP)
    return [urls[first : first + size] for first in range(0, len(urls), size)]


def read(urls: Sequence[str]) -> tuple[Columns, int]:
    """Return the columns of delivered files, and the files' size in bytes."""
    tables, size = [], 0
    with requests.Session() as session:
        for url in urls:
            response = session.get(url, timeout=TIMEOUT_S)
            response.raise_for_status()
            size += len(response.content)
            tables.append(pq.read_table(io.BytesIO(response.content)))
    columns = ak.from_arrow(pa.concat_tables(tables))
    return Columns.of({name: columns[name] for name in columns.fields}), size
