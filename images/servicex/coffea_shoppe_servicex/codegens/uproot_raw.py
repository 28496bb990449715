"""uproot-raw: branches, expressions and cuts of trees, as uproot spells them."""

import contextlib
import difflib
import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from coffea_shoppe_contract.addresses import shown_address
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from coffea_shoppe_servicex import functions, root_files
from coffea_shoppe_servicex.codegen import Size, Source, TreeCodegen
from coffea_shoppe_servicex.errors import QueryError, TransformError
from coffea_shoppe_servicex.expressions import Expression
from coffea_shoppe_servicex.formats import Format

if TYPE_CHECKING:
    import awkward as ak

    from coffea_shoppe_servicex.writers import Writer

LOG = logging.getLogger(__name__)
KEYS = ("run", "luminosityBlock", "event")
"""Branches that identify an event where trees are joined."""


REGEX = re.compile(r"/(.*)/([iLmsux]*)")
"""How uproot spells a regular expression in a filter."""


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def is_pattern(text: str) -> bool:
    """Return whether a filter is a glob or a regular expression rather than a name."""
    return any(mark in text for mark in "*?[") or REGEX.fullmatch(text) is not None


def _filters(patterns: list[str] | None) -> list[str] | None:
    """Return filters of names; raises `ValueError` for a regular expression that is none."""
    for pattern in patterns or ():
        if match := REGEX.fullmatch(pattern):
            expression, flags = match.groups()
            try:
                re.compile(f"(?{flags}){expression}" if flags else expression)
            except re.error as error:
                raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
    return patterns


class Join(BaseModel):
    """Columns of a second tree, which has the same events in the same order."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    treename: str
    """The tree, in the same file or in the one that `replace` leads to."""
    columns: list[str] = Field(min_length=1)
    """Its branches that are added."""
    replace: tuple[str, str] | None = None
    """The first text in the file's URL is replaced by the second: another directory."""

    _columns = field_validator("columns", mode="before")(_as_list)

    def url(self, url: str) -> str:
        """Return the URL of the second tree's file for the first one's."""
        return url.replace(*self.replace, 1) if self.replace else url


class TreeQuery(BaseModel):
    """The columns of one tree, or of several trees with the same branches."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    treename: str | list[str] | dict[str, str]
    """A tree, several trees, or several trees with their names in the result."""
    expressions: list[str] | None = None
    cut: str | None = None
    filter_name: list[str] | None = None
    filter_typename: list[str] | None = None
    aliases: dict[str, str] = {}
    fail_on_missing_trees: bool | None = None
    """Whether a file that lacks a tree fails (true), or has no events of it (false).

    Not given: a file may lack some trees of a request for several, but not all.
    """
    use_standard_awkward_axis: bool = False
    join: Join | None = None

    @field_validator("expressions", "filter_name", "filter_typename", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        return _as_list(value)

    _patterns = field_validator("filter_name", "filter_typename")(_filters)

    @field_validator("aliases", mode="before")
    @classmethod
    def _none(cls, value: Any) -> Any:
        return value or {}

    @field_validator("use_standard_awkward_axis", mode="before")
    @classmethod
    def _off(cls, value: Any) -> Any:
        return bool(value)

    def trees(self) -> dict[str, str]:
        """Return the trees to read, with their names in the result."""
        names = [self.treename] if isinstance(self.treename, str) else self.treename
        outputs = names.items() if isinstance(names, dict) else zip(names, names, strict=True)
        # A cycle is a version of an object in its file.
        return {name: output.partition(";")[0] for name, output in outputs}

    def parsed(self, text: str) -> Expression:
        """Return one of its expressions; raises `QueryError`."""
        return Expression(text, standard_axis=self.use_standard_awkward_axis)


class CopyQuery(BaseModel):
    """Histograms that are copied unchanged."""

    model_config = ConfigDict(extra="forbid")

    copy_histograms: list[str]

    _copied = field_validator("copy_histograms", mode="before")(_as_list)
    _patterns = field_validator("copy_histograms")(_filters)


def _first_problem(error: ValidationError) -> str:
    first = error.errors()[0]
    field = ".".join(map(str, first["loc"])) or "the query"
    if first["type"] == "extra_forbidden":
        keys = [*TreeQuery.model_fields, *CopyQuery.model_fields]
        close = difflib.get_close_matches(field, keys, 1)
        hint = f"is it {close[0]!r}?" if close else f"the keys are {', '.join(keys)}"
        return f"{field}: a query has no such key; {hint}"
    return f"{field}: {first['msg']}"


@dataclass(frozen=True)
class UprootRaw(TreeCodegen):
    """A list of queries of trees, and of histograms to copy, in JSON."""

    name = "uproot-raw"
    description = "branches, expressions and cuts of trees, as uproot spells them"

    trees: tuple[TreeQuery, ...]
    histograms: tuple[str, ...]

    @classmethod
    def parse(cls, selection: str, result_format: Format) -> Self:
        """Return the query of a selection; raises `QueryError`."""
        try:
            entries = json.loads(selection)
        except ValueError as error:
            raise QueryError(f"the selection is not valid JSON: {error}") from error
        entries = [entries] if isinstance(entries, Mapping) else entries
        if not isinstance(entries, list) or not entries:
            raise QueryError("the selection must be a list of queries, and this one is empty")
        trees: list[TreeQuery] = []
        histograms: list[str] = []
        for entry in entries:
            try:
                if isinstance(entry, Mapping) and "copy_histograms" in entry:
                    histograms += CopyQuery.model_validate(entry).copy_histograms
                else:
                    trees.append(TreeQuery.model_validate(entry))
            except ValidationError as error:
                raise QueryError(_first_problem(error)) from error
        if histograms and result_format == "parquet":
            raise QueryError("copy_histograms: parquet has no histograms; request root-file")
        for query in trees:
            texts = [*(query.expressions or ()), *query.aliases.values()]
            for text in [*texts, query.cut] if query.cut else texts:
                query.parsed(text)
        outputs = [name for query in trees for name in query.trees().values()]
        if repeated := sorted({name for name in outputs if outputs.count(name) > 1}):
            names = ", ".join(repeated)
            raise QueryError(f"two trees would be named {names}: rename one by a mapping")
        return cls(tuple(trees), tuple(histograms))

    def further_urls(self, url: str) -> list[str]:
        """Return the URLs of the files that are joined to the one at `url`, each once."""
        joins = (query.join for query in self.trees)
        urls = [join.url(url) for join in joins if join]
        return [joined for joined in dict.fromkeys(urls) if joined != url]

    def has_several_trees(self) -> bool:
        """Return whether the result has more than one tree."""
        return sum(len(query.trees()) for query in self.trees) > 1

    def write(self, file: Any, source: Source, output: "Writer") -> int:
        """Write the selected columns and histograms; return how many entries were read."""
        events = 0
        for name in self._objects(file, source):
            output.copy(name, file[name])
        for query, tree, output_name in self._present(file, source):
            plan = _Plan(query, tree, source.shown)
            counters = root_files.counters(tree, plan.branches_as_columns())
            for columns, count in _columns(plan, source):
                output.extend(output_name, columns, counters)
                events += count
        return events

    def _present(self, file: Any, source: Source) -> Iterator[tuple[TreeQuery, Any, str]]:
        """Yield the trees of a file with their queries and their names in the result.

        Raises `TransformError` for a tree that must not be absent.
        """
        present = set(root_files.tree_names(file))
        absent = []
        for query in self.trees:
            for name, output_name in query.trees().items():
                if name.partition(";")[0] in present or name in file:
                    yield query, root_files.tree_of(file, name, source.shown), output_name
                    continue
                absent.append((query, name))
                required = query.fail_on_missing_trees
                if required or (required is None and not self.has_several_trees()):
                    root_files.tree_of(file, name, source.shown)
                LOG.warning("%s: has no tree %r; it is left out", source.shown, name)
        names = [name for query, name in absent if query.fail_on_missing_trees is None]
        if names and len(absent) == sum(len(query.trees()) for query in self.trees):
            content = ", ".join(sorted(present)[:5])
            message = f"{source.shown}: has none of the trees {', '.join(names)}; "
            message += f"it contains: {content or 'no tree'}"
            raise TransformError("MissingTree", message)

    def _objects(self, file: Any, source: Source) -> list[str]:
        """Return the names of the objects to copy; a pattern without any is not an error."""
        if not self.histograms:
            return []
        for pattern in self.histograms:
            if not file.keys(filter_name=pattern.partition(";")[0], cycle=False):
                LOG.warning("%s: has no object %r to copy", source.shown, pattern)
        patterns = [pattern.partition(";")[0] for pattern in self.histograms]
        trees = set(root_files.tree_names(file))
        directories = file.keys(filter_classname="TDirectory*", cycle=False)
        names = file.keys(filter_name=patterns, cycle=False)
        return [name for name in dict.fromkeys(names) if name not in {*trees, *directories}]

    def estimate(self, file: Any, source: Source) -> Size:
        """Return what is read of the selected trees."""
        return Size.of(
            (tree, _Plan(query, tree, source.shown).names)
            for query, tree, _ in self._present(file, source)
        )


class _Plan:
    """What a query reads of one tree; created before anything is read."""

    def __init__(self, query: TreeQuery, tree: Any, url: str) -> None:
        """Raise `TransformError` for a branch that the tree lacks."""
        self.query, self.tree, self.url = query, tree, url
        self.branches = root_files.Branches(tree, url)
        self.aliases = {name: query.parsed(text) for name, text in query.aliases.items()}
        self.cut = query.parsed(query.cut) if query.cut else None
        self.expressions = [(text, query.parsed(text)) for text in query.expressions or ()]
        listed = query.expressions is not None
        self.unchanged = {} if listed else _filtered(query, tree, url)
        """Branches that are columns of the result without an expression, with their paths."""
        self.paths = {name: self.branches.path(name) for name in self._reads()}
        """Branches that expressions, the cut and a join read, with their paths."""
        names = sorted({*self.unchanged.values(), *self.paths.values()})
        self.names = names or list(root_files.column_branches(tree, url).values())[:1]
        """The paths of all branches that are read."""
        if not self.names:
            message = f"{url}: {tree.name!r} has no branch that can be a column"
            raise TransformError("MissingBranch", message)

    def branches_as_columns(self) -> dict[str, str]:
        """Return the columns of the result that are branches, with their paths."""
        named = [t for t, _ in self.expressions if t in self.paths and t not in self.aliases]
        return self.unchanged | {text: self.paths[text] for text in named}

    def _reads(self) -> set[str]:
        names: set[str] = set()
        pending = [expression for _, expression in self.expressions]
        pending += [self.cut] if self.cut else []
        seen: set[str] = set()
        while pending:
            for name in pending.pop().names(lambda t: t in self.aliases or t in self.branches):
                if name in self.aliases and name not in seen:
                    seen.add(name)
                    pending.append(self.aliases[name])
                elif name in self.branches or name not in self.aliases:
                    names.add(name)
        return names.union(KEYS if self.query.join else ())


def _columns(plan: _Plan, source: Source) -> Iterator[tuple["ak.Array", int]]:
    """Yield a tree's selected columns and how many entries they were selected from."""
    import awkward as ak

    query, tree = plan.query, plan.tree
    joined = _Joined(query.join, tree, source) if query.join else None
    with joined or contextlib.nullcontext() as other:
        for start, stop, arrays in root_files.chunks(tree, plan.names, source.shown):
            read = _Values(arrays, plan.paths, plan.aliases)
            columns = {name: arrays[path] for name, path in plan.unchanged.items()}
            for text, expression in plan.expressions:
                columns[text] = expression.evaluate(read)
            if other is not None:
                columns |= other.columns(arrays, plan.paths, start, stop)
            if not columns:
                raise TransformError("BadQuery", f"{source.shown}: the query selects no column")
            records = ak.zip(_as_long(columns, stop - start), depth_limit=1)
            if plan.cut:
                records = _cut(records, plan.cut, read)
            yield records, stop - start


class _Values:
    """The values of names in one chunk: branches, and aliases, each evaluated once."""

    def __init__(self, arrays: Any, paths: dict[str, str], aliases: dict[str, Expression]) -> None:
        self.arrays, self.paths, self.aliases = arrays, paths, aliases
        self._known: dict[str, Any] = {}

    def __call__(self, name: str) -> Any:
        """Return a name's value; None if there is no such name."""
        if name in self._known:
            return self._known[name]
        if alias := self.aliases.get(name):
            # Within an alias its own name is the branch of that name.
            self._known[name] = self._branch(name)
            self._known[name] = alias.evaluate(self)
            return self._known[name]
        return self._branch(name)

    def _branch(self, name: str) -> Any:
        return self.arrays[self.paths[name]] if name in self.paths else None


def _cut(records: "ak.Array", cut: Expression, read: Callable[[str], Any]) -> "ak.Array":
    """Return the events that pass a cut; for a cut on objects, the objects that pass."""
    name = f"cut {cut.text}"
    mask = functions.passing(_as_long({name: cut.evaluate(read)}, len(records))[name])
    flat = [field for field in records.fields if records[field].ndim < mask.ndim]
    if flat:
        problem = f"it gives a list for each event, but {flat[0]!r} is not a list"
        raise QueryError(f"{name!r}: {problem}; reduce it by any(…) or all(…)")
    return records[functions.filled(mask, records[records.fields[0]])]


def _as_long(columns: dict[str, Any], length: int) -> dict[str, Any]:
    """Return columns with constants repeated for each entry.

    Raises `QueryError` for a value that is not a column of `length` entries.
    """
    import awkward as ak
    import numpy as np

    for name, column in columns.items():
        if isinstance(column, list):
            raise QueryError(f"{name!r}: a list of arrays is not a column")
        # An array of length 1 would be repeated, too.
        if isinstance(column, ak.Array) and len(column) != length:
            raise QueryError(f"{name!r}: it gives {len(column)} values for {length} events")
    return {
        name: column if isinstance(column, ak.Array) else np.full(length, column)
        for name, column in columns.items()
    }


def _filtered(query: TreeQuery, tree: Any, url: str) -> dict[str, str]:
    """Return the branches that pass a query's filters and can be columns, with their paths."""
    columns = root_files.column_branches(
        tree, url, filter_name=query.filter_name, filter_typename=query.filter_typename
    )
    if not columns and query.filter_name:
        patterns = ", ".join(query.filter_name)
        message = f"{url}: no branch of {tree.name!r} matches filter_name {patterns}"
        raise TransformError("MissingBranch", message)
    names = {*columns, *columns.values(), *(path.rpartition("/")[2] for path in columns.values())}
    for name in query.filter_name or ():
        if not is_pattern(name) and name.removeprefix("/") not in names:
            raise root_files.no_column(name.removeprefix("/"), tree, url)
    return columns


class _Joined:
    """The second tree of a join, read entry by entry beside the first."""

    def __init__(self, join: Join, tree: Any, source: Source) -> None:
        self.join, self.first, self.source = join, tree, source
        self.url = join.url(source.url)
        self.shown = shown_address(self.url)
        if join.replace and self.url == source.url:
            message = f"{source.shown}: join.replace: the URL does not contain {join.replace[0]!r}"
            raise TransformError("BadJoin", message)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "_Joined":
        opened = root_files.opened(self.url, local_files=self.source.local_files)
        file = self._stack.enter_context(opened)
        self.tree = root_files.tree_of(file, self.join.treename, self.shown)
        branches = root_files.Branches(self.tree, self.shown)
        for name in (*KEYS, *self.join.columns):
            branches.path(name)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def columns(self, arrays: Any, paths: dict[str, str], start: int, stop: int) -> dict[str, Any]:
        """Return the second tree's columns for entries of the first.

        Raises `TransformError` that names the first event that differs or is missing.
        """
        import numpy as np

        names = [*KEYS, *self.join.columns]
        second = self.tree.arrays(names, entry_start=start, entry_stop=stop)
        expected = [np.asarray(arrays[paths[key]]).astype("u8") for key in KEYS]
        expected_keys = np.stack(expected, axis=1)
        keys = np.stack([np.asarray(second[key]).astype("u8") for key in KEYS], axis=1)
        shared = min(len(expected_keys), len(keys))
        differs = np.flatnonzero(np.any(expected_keys[:shared] != keys[:shared], axis=1))
        where = f"{self.shown}: {self.join.treename!r}"
        if len(differs):
            at = int(differs[0])
            message = f"{where}: entry {start + at} is {_event(keys[at])}, but "
            message += f"{_event(expected_keys[at])} is there in {self.source.shown}"
            raise TransformError("BadJoin", message)
        if len(keys) < len(expected_keys):
            message = f"{where}: lacks {_event(expected_keys[shared])}"
            raise TransformError("BadJoin", message)
        if stop == self.first.num_entries and self.tree.num_entries > stop:
            more = self.tree.arrays(KEYS, entry_start=stop, entry_stop=stop + 1)
            event = _event([int(more[key][0]) for key in KEYS])
            message = f"{where}: has further events, beginning with {event}"
            raise TransformError("BadJoin", message)
        return {name: second[name] for name in self.join.columns}


def _event(key: Any) -> str:
    return ", ".join(f"{name} {int(value)}" for name, value in zip(KEYS, key, strict=True))
