"""Samples, cross sections, and lists of input files."""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

LUMINOSITY = 3378.0
"""Integrated luminosity of the 2015 data, in 1/pb."""

CROSS_SECTIONS = {
    "ttbar": 396.87 + 332.97,
    "single_top_s_chan": 2.0268 + 1.2676,
    "single_top_t_chan": (36.993 + 22.175) / 0.252,
    "single_top_tW": 37.936 + 37.906,
    "wjets": 61457 * 0.252,
}
"""Cross section of each process in pb, as the AGC's code has them."""

VARIATIONS = {
    "ttbar": ("nominal", "scaledown", "scaleup", "ME_var", "PS_var"),
    "single_top_s_chan": ("nominal",),
    "single_top_t_chan": ("nominal",),
    "single_top_tW": ("nominal",),
    "wjets": ("nominal",),
}
"""The samples of each process: the nominal one, and those made in another way."""


class InputError(ValueError):
    """An input that cannot be used; the message names it and the remedy."""


@dataclass(frozen=True)
class Sample:
    """One sample: a process as one generator made it."""

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
    """Events in the file, where the list tells; otherwise the file is asked."""


def samples() -> Iterator[Sample]:
    """Yield all nine samples."""
    for process, variations in VARIATIONS.items():
        for variation in variations:
            yield Sample(process, variation)


def sample(process: str, variation: str = "nominal") -> Sample:
    """Return a sample by name; raises `InputError` for one that is not known."""
    if process not in VARIATIONS:
        raise InputError(f"unknown process {process!r}; there are: {', '.join(VARIATIONS)}")
    if variation not in VARIATIONS[process]:
        known = ", ".join(VARIATIONS[process])
        raise InputError(f"process {process!r} has no variation {variation!r}; it has: {known}")
    return Sample(process, variation)


def parse_input(text: str) -> File:
    """Turn `FILE[=PROCESS[:VARIATION]]` into a file; without a process it is ttbar.

    Raises `InputError` for a process or variation that is not known.
    """
    match = re.fullmatch(r"(?P<path>.+?)(?:=(?P<process>\w+)(?::(?P<variation>\w+))?)?", text)
    if match is None:
        raise InputError("an input is FILE[=PROCESS[:VARIATION]], but this one is empty")
    process, variation = match["process"] or "ttbar", match["variation"] or "nominal"
    return File(sample(process, variation), match["path"])


def read_fileset(path: Path, *, limit: int | None = None) -> list[File]:
    """Read a fileset: JSON of PROCESS → VARIATION → {"files": [{"path", "nevts"}]}.

    At most `limit` files of each sample are taken.  Paths without a scheme are
    relative to the JSON's folder.  Raises `InputError` where the file is not of
    that form.
    """
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a fileset: {error}") from error
    found = []
    try:
        for process, variations in content.items():
            for variation, entry in variations.items():
                for file in entry["files"][:limit]:
                    where = file["path"]
                    if "://" not in where:
                        where = str(path.parent / where)
                    found.append(File(sample(process, variation), where, file.get("nevts")))
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is not a fileset: it must be PROCESS → VARIATION → "
            '{"files": [{"path": …, "nevts": …}]}'
        ) from error
    if not found:
        raise InputError(f"{path} lists no files")
    return found


def located(files: Iterable[File], locate: Callable[[str], str]) -> list[File]:
    """Return the files at the addresses that `locate` gives for their paths."""
    return [File(file.sample, locate(file.path), file.events) for file in files]


def through(prefix: str) -> Callable[[str], str]:
    """Return what gives a root:// URL's address in a forwarding cache `root://HOST:PORT`.

    Other paths stay as they are.  Raises `InputError` for what is no such prefix.
    """
    if not re.fullmatch(r"x?roots?://[^/\s]+/*", prefix):
        raise InputError(f"{prefix!r} is no cache: give root://HOST:PORT")
    base = prefix.rstrip("/")
    return lambda path: f"{base}//{path}" if path.startswith("root://") else path


def event_weight(one: Sample, events: int) -> float:
    """Return the weight of each event of a sample: σ·L/N, with N the events read from."""
    if events <= 0:
        raise InputError(f"sample {one.name} holds no events")
    return CROSS_SECTIONS[one.process] * LUMINOSITY / events
