"""Cost estimates, from the metadata of sampled files and from earlier transforms."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from coffea_shoppe_servicex import addresses, finders, identities, isolation, lookups, root_files
from coffea_shoppe_servicex.backend import Backend
from coffea_shoppe_servicex.codegen import Codegen, Size, Source
from coffea_shoppe_servicex.codegens import Codegens, built_in_modules
from coffea_shoppe_servicex.errors import QueryError, TransformError, UnreadableError
from coffea_shoppe_servicex.formats import Format
from coffea_shoppe_servicex.models import History, Owner, Submission

SAMPLED_FILES = 3
"""Number of files whose metadata are read; the others are assumed to be like them."""
ASSUMED_RATE = 20e6
"""Compressed bytes per second and transformer, if there is no earlier transform."""
DEADLINE_S = 35
"""Longest estimate; with the time for which it waits, it is shorter than its clients' timeout."""
IDENTITIES_DEADLINE_S = 10
"""Longest look-up of what the sampled files are now; later ones are read as the cache has them."""
MEMORY_MIB = 384
"""Memory for what the sampled files contain: each is opened, and none of its baskets is read."""
PRELOADED = ("awkward", "uproot", "fsspec_xrootd", "qastle", *built_in_modules(), __name__)
"""Modules that the processes need which open files."""


@dataclass(frozen=True)
class Estimate:
    """The estimated cost of a transform request, which the API sends under these names."""

    files: int
    sampled: int
    events: int
    read: int
    """Compressed bytes of the inputs' columns."""
    output: int
    """Bytes of the results; equal to `read` without an earlier transform by the same query."""
    seconds: float
    """Duration if all shared transformers work on it."""
    basis: str


def size(query: Codegen, source_urls: Sequence[str], *, local_files: bool) -> Size:
    """Return what a query reads from a file, opened at the first URL that can be read.

    Raises `TransformError`, for example if the file lacks a branch.
    """
    for number, url in enumerate(source_urls, 1):
        try:
            with root_files.opened(url, local_files=local_files) as file:
                return query.estimate(file, Source(url, local_files))
        except UnreadableError as error:
            if number == len(source_urls) or not error.other_url_may_help:
                raise
    raise TransformError("MissingFile", "the file has no URL")


def sample(count: int) -> list[int]:
    """Return the indices of the sampled ones among `count` files, evenly spaced."""
    if count <= SAMPLED_FILES:
        return list(range(count))
    return [round(step * (count - 1) / (SAMPLED_FILES - 1)) for step in range(SAMPLED_FILES)]


def estimate(count: int, sizes: Sequence[Size], history: History, *, transformers: int) -> Estimate:
    """Return the estimated cost of a query over `count` files, from the sizes of the sample."""
    scale = count / len(sizes)
    events = round(sum(sampled_size.events for sampled_size in sizes) * scale)
    read = round(sum(sampled_size.read for sampled_size in sizes) * scale)
    if history.files and history.read:
        output = round(read * history.bytes / history.read)
        transformer_seconds = read * history.seconds / history.read
        basis = f"{history.files} files that were transformed by this query"
    else:
        output, transformer_seconds = read, read / ASSUMED_RATE
        basis = "no transform by this query yet"
    seconds = transformer_seconds / max(min(transformers, count), 1)
    return Estimate(count, len(sizes), events, read, output, seconds, basis)


def estimate_submission(backend: Backend, owner: Owner, submission: Submission) -> Estimate:
    """Return the estimated cost of a transform request, without creating it.

    Files are opened, and datasets are looked up, in processes of their own.  Raises
    `QueryError` if the request would be refused, or if a sampled file cannot be used.
    """
    settings, codegen = backend.context.settings, submission.codegen
    backend.context.codegens.parse(codegen, submission.selection, submission.result_format)
    deadline = time.monotonic() + DEADLINE_S
    try:
        if submission.did and not submission.file_list:
            name, _ = addresses.split_did(submission.did)
            files = lookups.find(name, settings.finders, deadline_s=DEADLINE_S)
        else:
            paths = backend.requests.check_files(submission.file_list or [])
            files = [{"paths": [path]} for path in paths]
        history = backend.requests.history(owner, codegen, submission.selection)
        sources = _sources(backend, [files[index] for index in sample(len(files))])
        folder = settings.codegens_folder
        limits = isolation.Limits(
            max(deadline - time.monotonic(), 1),
            MEMORY_MIB,
            readable=[folder] if folder else [],
            confined=not settings.local_files,
        )
        query = codegen, submission.selection, submission.result_format
        sizes = isolation.call(
            *(measure, query, sources, settings.codegens, folder, settings.local_files),
            limits=limits,
        )
        return estimate(
            len(files),
            [Size(*numbers) for numbers in sizes],
            history,
            transformers=settings.shared_pool.max_replicas,
        )
    except (TransformError, finders.LookupFailedError) as error:
        raise QueryError(str(error)) from error


def _sources(backend: Backend, files: finders.Files) -> list[list[str]]:
    """Return the URLs to read each file from.

    A cache is asked for the file's present content, as transformers do.  It is not asked for a
    file whose origin still gives an earlier content, which it would keep as the present one.
    """
    settings = backend.context.settings
    if not settings.caches:
        return [backend.queue.source_urls(file["paths"]) for file in files]
    present = lookups.identify(
        [file["paths"] for file in files],
        local_files=settings.local_files,
        deadline_s=IDENTITIES_DEADLINE_S,
        opens=True,
    )
    return [
        backend.queue.source_urls(
            file["paths"], identities.with_checksum([identity], file.get("adler32", ""))
        )
        for file, identity in zip(files, present, strict=True)
    ]


def measure(
    query: tuple[str, str, Format],
    sources: Sequence[Sequence[str]],
    codegens: Sequence[str] | None,
    codegens_folder: Path | None,
    local_files: bool,
) -> list[tuple[int, int]]:
    """Return events and bytes of a query in files, each given by its source URLs.

    `query` is code generator, selection and format.  It is called in a process of its own.
    Raises `TransformError`.
    """
    loaded = Codegens.load(codegens, codegens_folder)
    parsed = loaded.parse(*query)
    sizes = [size(parsed, urls, local_files=local_files) for urls in sources]
    return [(int(sampled_size.events), int(sampled_size.read)) for sampled_size in sizes]
