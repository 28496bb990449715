"""Input files: each one is opened and checked before anything is processed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any
from uuid import uuid4

import uproot
from coffea.processor.executor import FileMeta, WorkItem
from coffea_shoppe_contract.addresses import redacted, shown_address

from agc.causes import cut_short, explain
from agc.columns import OPEN_FILES, OpenFile
from agc.executor import retry_on_disconnect
from agc.nanoaod import GENERATED, TAGGERS, Jets, jets_of, telling
from agc.samples import TREE, File, InputError, check_files, event_weight, weight_notes
from agc.selection import ASSIGNMENT_BRANCHES, COMMON

GROUPS, LARGEST_GROUP = 4, 8
"""Groups of chunks for each worker, and most chunks in one."""


@dataclass(frozen=True)
class FileSummary:
    """Contents of a file that were read to check it."""

    events: int
    uuid: bytes
    """Set by ROOT when the file was created; copies have the same."""
    branches: frozenset[str]
    """Branches that show the version of NanoAOD (`nanoaod.telling`)."""
    blocks: bool = True
    """Whether it has `luminosityBlock`."""


def summarize(path: str, branches: Iterable[str] = COMMON, *, run: str = "") -> FileSummary:
    """Open and check a NanoAOD file; it stays open for the `run`, if one is given.

    Raises `InputError` that names the file and the problem: why it cannot be read, or that it
    has no tree `Events`, or lacks branches.
    """
    shown = shown_address(path)
    input_file = OPEN_FILES.file(run, path) if run else OpenFile(path)
    try:
        with input_file.used() as file:
            # A truncated file may still have a readable tree.
            if "://" not in path and (short := cut_short(Path(path))):
                raise InputError(short)
            return _summarize(file, branches)
    except InputError as error:
        raise InputError(f"{shown}: {error}") from None
    except Exception as error:
        raise InputError(f"{shown}: {explain(path, error) or redacted(repr(error))}") from None
    finally:
        if not run:
            input_file.close()


def _summarize(file: Any, branches: Iterable[str]) -> FileSummary:
    if TREE not in file:
        keys = ", ".join(file.keys(cycle=False)[:5]) or "nothing"
        raise InputError(f"has no tree {TREE!r} (it has: {keys}); is it NanoAOD?")
    tree = file[TREE]
    if not hasattr(tree, "num_entries"):
        raise InputError(
            f"{TREE!r} is not a tree, but of the class {tree.classname}; is it NanoAOD?"
        )
    present = set(tree.keys())
    missing = [branch for branch in branches if branch not in present]
    if missing:
        if not any(f"Jet_{name}" in present for name in TAGGERS):
            missing += [branch for branch in Jets().branches if branch not in present]
        raise InputError(
            f"lacks the branches {', '.join(dict.fromkeys(missing))}; {_hint(missing)}"
        )
    unreadable = [problem for branch in branches if (problem := _unreadable(tree[branch]))]
    if unreadable:
        problem = f"{'; '.join(unreadable[:3])}{' …' if len(unreadable) > 3 else ''}"
        raise InputError(f"{problem}; the file is intact, but is it NanoAOD?")
    blocks = "luminosityBlock" in present
    return FileSummary(int(tree.num_entries), file.file.uuid.bytes, telling(present), blocks)


def _hint(missing: Sequence[str]) -> str:
    """Return what kind of file lacks these branches."""
    if all(name.startswith("GenPart_") for name in missing):
        return "is it data? Models are trained on simulation"
    if set(missing) <= set(ASSIGNMENT_BRANCHES):
        return "the assignment of jets needs NanoAOD up to v9"
    return "is it NanoAOD?"


def _unreadable(branch: Any) -> str:
    """Return why a branch has neither numbers nor lists of numbers, or ''."""
    if not isinstance(branch, uproot.TBranch):
        return ""
    kind = branch.interpretation
    flat = kind.content if isinstance(kind, uproot.AsJagged) else kind
    if isinstance(flat, uproot.AsDtype) and flat.from_dtype.names is None:
        return ""
    return f"{branch.name} has the type {branch.typename}, not numbers"


def summarize_all(
    paths: Sequence[str], branches: Sequence[str], client: Any, *, run: str = ""
) -> list[FileSummary]:
    """Check all files, on the Dask workers where there are some; they stay open for the `run`.

    Raises one `InputError` that names every file that cannot be used.
    """

    def attempt(path: str) -> FileSummary | str:
        try:
            return summarize(path, branches, run=run)
        except InputError as error:
            return str(error)

    if client is None:
        outcomes = [attempt(path) for path in paths]
    else:
        outcomes = retry_on_disconnect(
            client, lambda: client.gather(client.map(attempt, paths, pure=False))
        )
    problems = [problem for problem in outcomes if isinstance(problem, str)]
    if problems:
        raise InputError("\n".join(problems))
    return [outcome for outcome in outcomes if isinstance(outcome, FileSummary)]


@dataclass(frozen=True)
class Input:
    """Checked files, the weights of their events, and the definition of their jets."""

    fileset: dict[str, Any]
    """coffea's fileset: sample → files and metadata, with the `weight` of an event."""
    summaries: dict[str, FileSummary]
    """By path."""
    jets: Jets
    """Identification and b tag of jets."""
    notes: list[str]
    """Warnings for the user."""
    run: str
    """Key of the files that stay open in each process for this run."""

    def groups(self, size: int, workers: int) -> list[tuple[WorkItem, ...]]:
        """Return the chunks in groups of one file, while there are several for each worker.

        Of a group the next chunk is read while one is analysed.
        """
        pieces = self.chunks(size)
        most = min(max(len(pieces) // (GROUPS * workers), 1), LARGEST_GROUP)
        return [
            of_file[first : first + most]
            for _, chunks in groupby(pieces, lambda piece: (piece.dataset, piece.filename))
            for of_file in [tuple(chunks)]
            for first in range(0, len(of_file), most)
        ]

    def chunks(self, size: int) -> list[WorkItem]:
        """Return the chunks of all files, of about `size` events, as coffea's work items.

        coffea would open each file again to make them, and refuses names beyond ASCII.
        """
        pieces: list[WorkItem] = []
        for name, entry in self.fileset.items():
            for path, tree in entry["files"].items():
                known = {
                    "numentries": self.summaries[path].events,
                    "uuid": self.summaries[path].uuid,
                }
                meta = FileMeta(name, path, tree, {**entry["metadata"], **known})
                pieces += meta.chunks(size, False)
        return pieces


def opened(
    files: Sequence[File],
    *,
    weights: str,
    more: Sequence[str] = (),
    era: str | None = None,
    btag: str | None = None,
    client: Any = None,
) -> Input:
    """Check all files, choose the definition of jets, and compute the events' weights.

    With `weights="xsec"` the weight of an event is σ·L/N, N being the number of events in the
    list of files, or else in the files; with `"unit"` it is one.  `more` are branches that the
    files must have in addition to `selection.COMMON`; `era` and `btag` are those of
    `nanoaod.jets_of`.  Raises `InputError` where files cannot be used,
    there are none, or one is given twice.
    """
    check_files(files)
    paths = [file.path for file in files]
    run = uuid4().hex
    summaries = summarize_all(paths, (*COMMON, *more), client, run=run)
    by_path = dict(zip(paths, summaries, strict=True))
    jets = jets_of(
        {path: summary.branches for path, summary in by_path.items()}, era=era, btag=btag
    )
    lacking = {
        path: missing
        for path, summary in by_path.items()
        if (missing := [name for name in jets.branches if name not in summary.branches])
    }
    if lacking:
        raise InputError(
            "\n".join(
                f"{shown_address(path)}: lacks the branches {', '.join(missing)}; is it NanoAOD?"
                for path, missing in lacking.items()
            )
        )
    entries: dict[str, Any] = {}
    totals: dict[str, int] = {}
    for file, summary in zip(files, summaries, strict=True):
        name = file.sample.name
        metadata = {"process": file.sample.process, "variation": file.sample.variation}
        entry = entries.setdefault(name, {"files": {}, "metadata": metadata})
        entry["files"][file.path] = TREE
        events = summary.events if file.events is None else file.events
        totals[name] = totals.get(name, 0) + events
    for file in files:
        total = totals[file.sample.name]
        weight = event_weight(file.sample, total) if weights == "xsec" else 1.0
        entries[file.sample.name]["metadata"]["weight"] = weight
    notes = copy_notes(files, summaries)
    if weights == "xsec":
        notes += weight_notes(files, [summary.events for summary in summaries])
        notes += data_notes(files, summaries)
    notes += block_notes(files, summaries)
    return Input(entries, by_path, jets, notes, run)


def block_notes(files: Sequence[File], summaries: Sequence[FileSummary]) -> list[str]:
    """Return a note where files have no `luminosityBlock`."""
    without = [
        shown_address(file.path)
        for file, summary in zip(files, summaries, strict=True)
        if not summary.blocks
    ]
    if not without:
        return []
    return [
        f"{without[0]}{f' and {len(without) - 1} more' if len(without) > 1 else ''} has no "
        "luminosityBlock: jets are smeared by run, event and entry in the file"
    ]


def copy_notes(files: Sequence[File], summaries: Sequence[FileSummary]) -> list[str]:
    """Return a warning for files of a sample that seem to be copies: with one UUID of ROOT."""
    originals: dict[tuple[str, bytes, int], str] = {}
    copies: dict[tuple[str, str], list[str]] = {}
    for file, summary in zip(files, summaries, strict=True):
        if not any(summary.uuid):
            continue  # ROOT's "reproducible" files have none
        original = originals.setdefault((file.sample.name, summary.uuid, summary.events), file.path)
        if original != file.path:
            copies.setdefault((file.sample.name, original), []).append(shown_address(file.path))
    return [
        f"{paths[0]}{f' and {len(paths) - 1} more' if len(paths) > 1 else ''} seems to be a copy "
        f"of {shown_address(original)}: are events of {name} counted twice?"
        for (name, original), paths in copies.items()
    ]


def data_notes(files: Sequence[File], summaries: Sequence[FileSummary]) -> list[str]:
    """Return a warning for samples with files without generator branches, which may be data."""
    without_generator: dict[str, list[str]] = {}
    for file, summary in zip(files, summaries, strict=True):
        if not summary.branches.intersection(GENERATED):
            without_generator.setdefault(file.sample.name, []).append(shown_address(file.path))
    return [
        f"{name}: {paths[0]}{f' and {len(paths) - 1} more' if len(paths) > 1 else ''} has no "
        f"generator branches: is it data? It is weighted as simulation of {name}; use unit weights "
        "(--weights unit) to count events"
        for name, paths in without_generator.items()
    ]
