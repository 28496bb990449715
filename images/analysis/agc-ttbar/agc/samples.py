"""Samples, cross sections, and lists of input files."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from glob import glob, has_magic
from itertools import islice
from pathlib import Path
from typing import Any

from coffea_shoppe_contract.addresses import repeated, shown_address

LUMINOSITY = 3378.0
"""Integrated luminosity of the 2015 data, in 1/pb."""

CROSS_SECTIONS = {
    "ttbar": 396.87 + 332.97,
    "single_top_s_chan": 2.0268 + 1.2676,
    "single_top_t_chan": (36.993 + 22.175) / 0.252,
    "single_top_tW": 37.936 + 37.906,
    "wjets": 61457 * 0.252,
}
"""Cross section of each process in pb, from the AGC's code."""

VARIATIONS = {
    "ttbar": ("nominal", "scaledown", "scaleup", "ME_var", "PS_var"),
    "single_top_s_chan": ("nominal",),
    "single_top_t_chan": ("nominal",),
    "single_top_tW": ("nominal",),
    "wjets": ("nominal",),
}
"""The samples of each process: the nominal one, and alternative simulations."""


TREE = "Events"
PROCESS = re.compile(r"(?P<path>.*?)=(?P<process>\w+)(?::(?P<variation>\w+))?", re.DOTALL)
TREE_IN_PATH = re.compile(
    r"(?P<path>.+\.root(\.[0-9]+)?|.+(?=:Events$)):(?P<tree>[^?]*)", re.DOTALL
)


class InputError(ValueError):
    """An input that cannot be used; the message names it and the remedy."""


@dataclass(frozen=True)
class Sample:
    """One sample: a process, simulated in one way."""

    process: str
    variation: str = "nominal"

    @property
    def name(self) -> str:
        """Return the key of the sample in a fileset: `PROCESS__VARIATION`."""
        return f"{self.process}__{self.variation}"


@dataclass(frozen=True)
class File:
    """One input file of a sample."""

    sample: Sample
    path: str
    """Local path or URL."""
    events: int | None = None
    """Number of events that were simulated for the file; None: as many as it has.

    A skim has fewer events than that, which are weighted as a part of them.
    """


def samples() -> Iterator[Sample]:
    """Yield all nine samples."""
    for process, variations in VARIATIONS.items():
        for variation in variations:
            yield Sample(process, variation)


def sample(process: str, variation: str = "nominal") -> Sample:
    """Return a sample by name; raises `InputError` for an unknown one."""
    if process not in VARIATIONS:
        raise InputError(f"unknown process {process!r}; there are: {', '.join(VARIATIONS)}")
    if variation not in VARIATIONS[process]:
        known = ", ".join(VARIATIONS[process])
        raise InputError(f"process {process!r} has no variation {variation!r}; it has: {known}")
    return Sample(process, variation)


def parse_input(text: str) -> File:
    """Parse `FILE[:Events][=PROCESS[:VARIATION]]`; without a process it is ttbar.

    A local file of exactly that name has priority.  The query of a URL (after `?`) belongs to
    the URL; a process may follow it, as in `https://…?signature=abc=wjets`.  Raises
    `InputError` for an unknown process, variation or tree.
    """
    path, process, variation = text, "ttbar", "nominal"
    match = PROCESS.fullmatch(text)
    if match and not Path(text).is_file() and _ends_in_process(text, match["process"]):
        path, process, variation = match["path"], match["process"], match["variation"] or variation
    if not path:
        raise InputError("an input is FILE[=PROCESS[:VARIATION]], but this one is empty")
    return File(sample(process, variation), without_tree(path))


def _ends_in_process(text: str, process: str) -> bool:
    """Return whether the `=PROCESS` at the end of an input is not a part of its URL."""
    if "://" not in text or "?" not in text:
        return True
    last = text.partition("?")[2].rpartition("&")[2]
    return process in VARIATIONS and last.count("=") > 1


def without_tree(path: str) -> str:
    """Return a path or URL without the `:Events` of uproot's and coffea's notation.

    Raises `InputError` where another tree is named.
    """
    match = TREE_IN_PATH.fullmatch(path)
    if match is None or Path(path).is_file():
        return path
    if match["tree"].strip("/").partition(";")[0] != TREE:
        raise InputError(
            f"{shown_address(match['path'])}: the analysis reads the tree {TREE!r} of NanoAOD, "
            f"not {match['tree']!r}"
        )
    return match["path"]


def expanded(file: File, folder: Path = Path()) -> list[File]:
    """Return the files that match a local path with `*`, `?`, `[…]` or `**`, sorted.

    Paths are relative to `folder`.  A path without such characters, or of an existing file
    whose name has them, is one file.  Raises `InputError` where no file matches, or where a
    URL is a pattern.
    """
    shown = shown_address(file.path)
    if "://" in file.path:
        if "*" in file.path.partition("?")[0]:
            raise InputError(f"{shown}: patterns are for local files; list each URL")
        return [file]
    path = folder / file.path
    if not has_magic(file.path) or path.exists():
        return [replace(file, path=str(path))]
    if file.events is not None:
        raise InputError(f"{shown}: nevts is of one file; list each file, or omit nevts")
    # Path.glob accepts no absolute pattern.
    names = sorted(glob(file.path, root_dir=folder, recursive=True))  # noqa: PTH207
    paths = [folder / name for name in names if (folder / name).is_file()]
    if not paths:
        raise InputError(f"{shown}: no file matches")
    return [replace(file, path=str(path)) for path in paths]


def parse_inputs(texts: Iterable[str]) -> list[File]:
    """Return the files of inputs, by `parse_input` and `expanded`."""
    return [file for text in texts for file in expanded(parse_input(text))]


def _listed(entries: Sequence[dict[str, Any]], owner: Sample, folder: Path) -> Iterator[File]:
    """Yield the files of a sample's entries in a fileset."""
    for entry in entries:
        path = without_tree(entry["path"])
        yield from expanded(File(owner, path, _events(path, entry)), folder)


def _distinct(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object; by default JSON's reader drops all but the last of equal names."""
    names = [name for name, _ in pairs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"it has two entries {', '.join(twice)}: merge them")
    return dict(pairs)


def _events(path: str, entry: dict[str, Any]) -> int | None:
    """Return the number of events in a fileset's entry, or None where it has none."""
    events = entry.get("nevts")
    if events is not None and (type(events) is not int or events < 0):
        raise InputError(
            f"{shown_address(path)}: nevts is {events!r}; give the number of events, or "
            "omit it to have them counted"
        )
    return events


def read_fileset(path: Path, *, limit: int | None = None) -> list[File]:
    """Read a fileset: JSON of PROCESS → VARIATION → {"files": [{"path", "nevts"}]}.

    At most `limit` files of each sample are read.  Paths without a scheme are
    relative to the JSON's folder, and may be patterns.  Raises `InputError` where the
    file is not of that form.
    """
    try:
        content = json.loads(path.read_text(), object_pairs_hook=_distinct)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a fileset: {error}") from error
    files = []
    try:
        for process, variations in content.items():
            for variation, entry in variations.items():
                listed_sample = sample(process, variation)
                files += list(islice(_listed(entry["files"], listed_sample, path.parent), limit))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is not a fileset: it must be PROCESS → VARIATION → "
            '{"files": [{"path": …, "nevts": …}]}'
        ) from error
    if not files:
        raise InputError(f"{path} lists no files")
    return files


def check_files(files: Sequence[File]) -> None:
    """Raise `InputError` where there are no files, or a sample has a file twice.

    Two spellings of one address count as the same file.  Events that are read twice would be
    counted twice, or weighted wrongly.
    """
    if not files:
        raise InputError("no input files were given")
    paths: dict[str, list[str]] = {}
    for file in files:
        paths.setdefault(file.sample.name, []).append(file.path)
    problems = []
    for name, listed in paths.items():
        for first, again in repeated(listed):
            same = (
                "is listed twice"
                if first == again
                else f"is the same file as {shown_address(first)}"
            )
            problems.append(f"{shown_address(again)} {same} in {name}: list each file once")
    if problems:
        more = f"\nand {len(problems) - 10} more" if len(problems) > 10 else ""
        raise InputError("\n".join(problems[:10]) + more)


def located(files: Iterable[File], locate: Callable[[str], str]) -> list[File]:
    """Return the files with their paths mapped by `locate`."""
    return [replace(file, path=locate(file.path)) for file in files]


def via_cache(prefix: str) -> Callable[[str], str]:
    """Return a function that maps root:// URLs to a forwarding cache `root://HOST:PORT`.

    It returns other paths unchanged.  Raises `InputError` where `prefix` is not such a cache.
    """
    if not re.fullmatch(r"x?roots?://[^/\s]+/*", prefix):
        raise InputError(f"{prefix!r} is not a cache: give root://HOST:PORT")
    base = prefix.rstrip("/")
    return lambda path: f"{base}//{path}" if path.startswith("root://") else path


def weight_notes(files: Sequence[File], entries: Sequence[int]) -> list[str]:
    """Return warnings for samples whose files have another number of events than declared.

    `entries` are the numbers of events in the files.
    """
    declared: dict[str, int] = {}
    present: dict[str, int] = {}
    for file, count in zip(files, entries, strict=True):
        name = file.sample.name
        declared[name] = declared.get(name, 0) + (count if file.events is None else file.events)
        present[name] = present.get(name, 0) + count
    notes = []
    for name, events in declared.items():
        if events != present[name]:
            reason = (
                "that is right for a skim"
                if events > present[name]
                else "a skim cannot have more than its nevts: correct nevts, or omit it"
            )
            notes.append(
                f"{name}: weights are for the {events:,} events that the fileset declares (nevts), "
                f"but its files have {present[name]:,}; {reason}"
            )
    return notes


def event_weight(owner: Sample, events: int) -> float:
    """Return the weight of each event of a sample: σ·L/N, where N is the number of events."""
    if events <= 0:
        raise InputError(f"sample {owner.name} has no events")
    return CROSS_SECTIONS[owner.process] * LUMINOSITY / events
