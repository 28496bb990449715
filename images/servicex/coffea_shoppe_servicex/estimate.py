"""What a request will cost, from the files' metadata and from what was done before."""

from collections.abc import Sequence
from dataclasses import dataclass

from coffea_shoppe_servicex import finders, queries, transform
from coffea_shoppe_servicex.delivery import Delivery, History, Owner, Submission
from coffea_shoppe_servicex.errors import QueryError, TransformError, UnreadableError
from coffea_shoppe_servicex.queries import FuncAdlQuery, PythonQuery, Query

SAMPLED = 3
"""So many files are looked into; the others are taken to be like them."""
ASSUMED_RATE = 20e6
"""Compressed bytes that one transformer gets through in a second, where none did before."""


@dataclass(frozen=True)
class Size:
    """What a query reads of one file."""

    events: int
    read: int
    """Bytes, compressed."""


@dataclass(frozen=True)
class Estimate:
    """What a request will cost."""

    files: int
    sampled: int
    events: int
    read: int
    """Bytes of the inputs' columns, compressed."""
    output: int
    """Bytes; as many as are read where nothing is known of the query's cut."""
    seconds: float
    """With all transformers at work on it."""
    basis: str


def size(query: Query, places: Sequence[str]) -> Size:
    """Return what a query reads of a file, the first of `places` that can be opened.

    Raises `TransformError` that names what the file lacks.
    """
    for number, place in enumerate(places):
        try:
            with transform.opened(place) as file:
                return _size(query, file, place)
        except UnreadableError:
            if number + 1 == len(places):
                raise
    raise TransformError("MissingFile", "no place of the file is known")


def _size(query: Query, file: object, place: str) -> Size:
    events = read = 0
    if isinstance(query, PythonQuery):
        # Nobody knows what a function reads: the whole file at most.
        held = transform.trees(file)
        entries = [transform.tree_of(file, name, place).num_entries for name in held]
        return Size(max(entries, default=0), int(file.file.source.num_bytes))  # type: ignore[attr-defined]
    if isinstance(query, FuncAdlQuery):
        found = [transform.funcadl_reads(query, file, place)]
    else:
        known = set(transform.trees(file))
        found = []
        for one in query.trees:
            for name in one.trees():
                if name in known or one.fail_on_missing_trees or len(one.trees()) == 1:
                    tree = transform.tree_of(file, name, place)
                    found.append((tree, transform.Plan(one, tree, place).names))
    for tree, names in found:
        events += int(tree.num_entries)
        read += sum(int(tree[name].compressed_bytes) for name in names)
    return Size(events, read)


def sample(count: int) -> list[int]:
    """Return which of so many files are looked into: evenly spread."""
    if count <= SAMPLED:
        return list(range(count))
    return [round(step * (count - 1) / (SAMPLED - 1)) for step in range(SAMPLED)]


def estimate(
    query: Query, files: Sequence[Sequence[str]], history: History, *, transformers: int
) -> Estimate:
    """Return what a request for files, each with its places, will cost.

    Raises `TransformError` where one that is looked into cannot be used.
    """
    chosen = sample(len(files))
    sizes = [size(query, files[index]) for index in chosen]
    share = len(files) / len(chosen)
    events = round(sum(one.events for one in sizes) * share)
    read = round(sum(one.read for one in sizes) * share)
    if history.files and history.read:
        output = round(read * history.bytes / history.read)
        busy = read * history.seconds / history.read
        basis = f"{history.files} files that were transformed by this query"
    else:
        output, busy, basis = read, read / ASSUMED_RATE, "no transform by this query yet"
    at_work = max(min(transformers, len(files)), 1)
    return Estimate(len(files), len(chosen), events, read, output, busy / at_work, basis)


def price(delivery: Delivery, owner: Owner, asked: Submission) -> Estimate:
    """Return what a request would cost, without making it.

    Raises `QueryError` for one that would be refused, or whose files cannot be used.
    """
    settings = delivery.settings
    query = queries.parse(asked.codegen, asked.selection, asked.result_format)
    try:
        if asked.did and not asked.file_list:
            found = finders.find(asked.did.partition("?")[0], settings.finders)
            files = [one["paths"] for one in found]
        else:
            files = [[path] for path in delivery.checked(asked.file_list or [])]
        history = delivery.history(owner, asked.codegen, asked.selection)
        places = [delivery.places(one) for one in files]
        return estimate(query, places, history, transformers=settings.pool.max_replicas)
    except (TransformError, finders.LookupFailedError) as error:
        raise QueryError(str(error)) from error
