"""The record of a gate: what ran, what it proved, and digests that any reader can recompute."""

import hashlib
import json
import tarfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from shoppe_ci.errors import ShoppeError
from shoppe_ci.gate.hops import ABSENT, PROVED, SEEN, Evidence, Proof
from shoppe_ci.paths import sha256

FILE = "gate.json"
MANIFESTS = "manifests"
FORMAT = 1
SERVER, CLIENT = "server", "client"
"""The grades of evidence: from the services' own counters, which a badge needs, and from what a
user got."""
ENOUGH = {SERVER: {PROVED}, CLIENT: {SEEN, ABSENT}}
"""By grade: the states of the hops of a run that passed."""


@dataclass(frozen=True)
class Image:
    """An image of the release: its name as pods have it, and the digest of its manifest."""

    reference: str
    digest: str


@dataclass(frozen=True)
class Section:
    """A section of the notebook, and the time its cells took."""

    title: str
    seconds: float


@dataclass
class Record:
    """What a run of the gate found."""

    version: str
    """Of the chart."""
    commit: str
    """Of the source; it ends with -dirty if the tree had changes."""
    grade: str
    facility: str
    started: str
    """ISO 8601, UTC."""
    seconds: float
    hops: list[Proof]
    differences: list[str]
    """How the results differ from those that are computed without the facility."""
    files: dict[str, str]
    """Path of a result → its SHA-256."""
    chart: str = ""
    """File name of the chart's package."""
    chart_digest: str = ""
    programs: dict[str, str] = field(default_factory=dict)
    """Program → version."""
    images: dict[str, Image] = field(default_factory=dict)
    sections: list[Section] = field(default_factory=list)
    results: dict[str, Any] = field(default_factory=dict)
    """Events, workers, times and the fit."""
    problem: str = ""
    """Why the run stopped early."""
    broken: str = ""
    """Title of the hop that a failed run is due to; or `results`."""
    format: int = FORMAT

    @property
    def passed(self) -> bool:
        """Return whether the run ended, every hop is proved and the results are right."""
        states = {hop.state for hop in self.hops}
        crossed = bool(states) and states <= ENOUGH[self.grade]
        return crossed and not self.problem and not self.differences


def write(record: Record, folder: Path) -> Path:
    """Write the record into its folder."""
    path = folder / FILE
    content = {**asdict(record), "passed": record.passed}
    path.write_text(json.dumps(content, indent=2) + "\n")
    return path


def read(folder: Path) -> Record:
    """Read a record; raises `ShoppeError` where there is none that this version understands."""
    path = folder / FILE
    try:
        content = json.loads(path.read_text())
        if content["format"] != FORMAT:
            raise ShoppeError(f"{path} has format {content['format']}, not {FORMAT}")
        passed = content.pop("passed")
        content["images"] = {name: Image(**entry) for name, entry in content["images"].items()}
        content["sections"] = [Section(**entry) for entry in content["sections"]]
        content["hops"] = [
            Proof(**{**entry, "evidence": [Evidence(**row) for row in entry["evidence"]]})
            for entry in content["hops"]
        ]
        record = Record(**content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ShoppeError(
            f"{path} is no record of a gate: {type(error).__name__}: {error}",
            "`ci/shoppe gate` writes one",
        ) from error
    if passed != record.passed:
        raise ShoppeError(f"{path} says that it passed: {passed}; its hops say {record.passed}")
    return record


def chart_digest(package: Path) -> str:
    """Return a digest of a packaged chart's files, whatever their times in the archive."""
    digest = hashlib.sha256()
    for name, content in sorted(_members(package)):
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return f"sha256:{digest.hexdigest()}"


def _members(package: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each file of a packaged chart."""
    try:
        with tarfile.open(package) as archive:
            for member in archive:
                if member.isfile() and (file := archive.extractfile(member)):
                    yield member.name, file.read()
    except (OSError, tarfile.TarError) as error:
        raise ShoppeError(f"{package} is no packaged chart: {error}") from error


def chart_images(package: Path) -> set[str]:
    """Return the images that a packaged chart's values name, as REPOSITORY:TAG."""
    names = set()

    def walk(content: Any) -> None:
        if isinstance(content, dict):
            name, tag = content.get("name"), content.get("tag")
            if isinstance(name, str) and isinstance(tag, str) and "/" in name:
                names.add(f"{name}:{tag}")
            for value in content.values():
                walk(value)

    for name, content in _members(package):
        if name.endswith("/values.yaml"):
            walk(yaml.safe_load(content))
    return names


def mismatches(record: Record, folder: Path) -> list[str]:
    """Return what in a record's folder is not what the record says, each as a sentence."""
    problems = [
        f"{name}: its content is not the recorded one"
        for name, expected in record.files.items()
        if not (folder / name).is_file() or sha256(folder / name) != expected
    ]
    package = folder / record.chart
    if not package.is_file():
        return [*problems, f"{record.chart} is missing"]
    if chart_digest(package) != record.chart_digest:
        problems.append(f"{record.chart}: its content is not the recorded one")
    pinned = chart_images(package)
    for name, image in record.images.items():
        manifest = folder / MANIFESTS / f"{name}.json"
        if not manifest.is_file() or f"sha256:{sha256(manifest)}" != image.digest:
            problems.append(f"{manifest.relative_to(folder)}: its digest is not the recorded one")
        if image.reference not in pinned:
            problems.append(f"{record.chart} does not name the image {image.reference}")
    recorded = {image.reference for image in record.images.values()}
    registries = {reference.rpartition("/")[0] for reference in recorded}
    problems += [
        f"{record.chart} names {reference}, which the gate did not record"
        for reference in sorted(pinned - recorded)
        if reference.rpartition("/")[0] in registries
    ]
    return problems


def verified(folder: Path) -> Record:
    """Read a record and recompute its digests; raises `ShoppeError` with each mismatch.

    A record whose evidence is not the services' own has no digests, and is refused.
    """
    record = read(folder)
    if record.grade != SERVER:
        raise ShoppeError(
            f"the evidence is of the grade {record.grade!r}: a badge needs the services' counters",
            "run `ci/shoppe gate` with access to the cluster",
        )
    if problems := mismatches(record, folder):
        raise ShoppeError(
            f"{folder / FILE} does not match its files:\n  " + "\n  ".join(problems),
            "run `ci/shoppe gate` again",
        )
    return record
