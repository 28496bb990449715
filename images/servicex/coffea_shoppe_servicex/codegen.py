"""The interface of code generators.

A code generator interprets the selections of transform requests.  It is a class with a name,
in a module of the package `codegens` or in a file that the operator adds; an instance is one
parsed selection.  The API parses each selection when it is submitted, so that a request that
can never work is refused there; the transformer parses it again, and transforms the files.

Modules of code generators import awkward, uproot and other large libraries inside of methods:
the API and the controller need none of them to parse.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from coffea_shoppe_contract.addresses import shown_address

from coffea_shoppe_servicex import root_files
from coffea_shoppe_servicex.formats import Format

if TYPE_CHECKING:
    from coffea_shoppe_servicex.writers import Writer


@dataclass(frozen=True)
class Source:
    """An input file at one of its URLs."""

    url: str
    local_files: bool = False
    """Whether files of this machine are read, too."""
    size: int | None = None
    """Bytes that the file has; None: unknown.  What has another size is not this file."""

    @property
    def shown(self) -> str:
        """Return the URL for messages: without credentials."""
        return shown_address(self.url)


@dataclass(frozen=True)
class Outcome:
    """What was read for a transform."""

    events: int
    """Entries that were read."""
    read: int
    """Bytes of the input's columns, compressed."""


@dataclass(frozen=True)
class Size:
    """What a query reads from one file, by the file's metadata."""

    events: int
    read: int
    """Compressed bytes."""

    @classmethod
    def of(cls, branches: Iterable[tuple[Any, Iterable[str]]]) -> Self:
        """Return the size of some branches, given as pairs of a tree and its branches' names."""
        events = read = 0
        for tree, names in branches:
            events += int(tree.num_entries)
            read += sum(int(root_files.branch_at(tree, name).compressed_bytes) for name in names)
        return cls(events, read)


class Codegen(ABC):
    """A code generator.  An instance is one parsed selection: a query."""

    name: ClassVar[str]
    """What requests give as `codegen`: lower-case letters, digits and hyphens."""
    description: ClassVar[str]
    """What a selection is, in one line for users."""
    declared: ClassVar[bool]
    """Whether selections are data, which shared transformers may evaluate for all users.

    If not, they are programs: each runs in a pod of its user, with that user's rights.
    """

    @classmethod
    @abstractmethod
    def parse(cls, selection: str, result_format: Format) -> Self:
        """Return the query of a selection; raises `QueryError` if it can never work."""

    @abstractmethod
    def transform(self, source: Source, target: Path, result_format: Format) -> Outcome:
        """Write the result for one file to `target`.

        Raises `UnreadableError` if the file cannot be read at this URL, else `TransformError`.
        """

    @abstractmethod
    def estimate(self, file: Any, source: Source) -> Size:
        """Return what the query reads from a file, which uproot has opened.

        Raises `TransformError`, for example if the file lacks a branch.
        """

    def further_urls(self, url: str) -> list[str]:
        """Return the URLs of the files that the query reads beside the one at `url`.

        A stored result is reused only as long as these are what they were, too.
        """
        return []


class TreeCodegen(Codegen):
    """A code generator of declared queries over the trees of a ROOT file.

    The file is opened, and the result written, by this class.
    """

    declared = True

    def has_several_trees(self) -> bool:
        """Return whether the result has more than one tree."""
        return False

    @abstractmethod
    def write(self, file: Any, source: Source, output: "Writer") -> int:
        """Write the columns of an open file; return how many entries were read.

        Raises `TransformError` or `QueryError`.  Other exceptions count as errors of the query.
        """

    def transform(self, source: Source, target: Path, result_format: Format) -> Outcome:
        """Write the result for one file to `target`; raises `TransformError`."""
        from coffea_shoppe_servicex import writers

        with root_files.opened(
            source.url, local_files=source.local_files, size=source.size
        ) as file:
            output = writers.writer(target, result_format, several=self.has_several_trees())
            try:
                with root_files.reading(source.url):
                    events = self.write(file, source, output)
            finally:
                output.close()
        return Outcome(events, int(file.file.source.num_requested_bytes))
