"""The selections of requests: what each code generator's text says, checked as it comes in.

`parse` is called when a request is submitted, so that what can never work is refused
there, and by the transformer, so that both understand the same.
"""

import ast
import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from coffea_shoppe_servicex import funcadl
from coffea_shoppe_servicex.errors import QueryError
from coffea_shoppe_servicex.expressions import Expression

Format = Literal["parquet", "root-file", "root-rntuple"]
CODEGENS = {
    "uproot-raw": "branches, expressions and cuts of trees, as uproot spells them",
    "uproot": "FuncADL over the events of a tree",
    "python": "a function run_query(file) of your own, in pods of yours alone",
}
"""What a request's `codegen` may be."""
DECLARED = ("uproot-raw", "uproot")
"""Those whose selections are data: shared transformers evaluate them."""
KEYS = ("run", "luminosityBlock", "event")
"""What an event is known by, where columns are joined."""


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class Join(BaseModel):
    """Columns of a second tree, for the same events in the same order."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    treename: str
    """The tree, in the same file or in the one that `replace` leads to."""
    columns: list[str] = Field(min_length=1)
    """Its branches that are added."""
    replace: tuple[str, str] | None = None
    """The first text in the file's path is replaced by the second: another directory."""

    _columns = field_validator("columns", mode="before")(_listed)


class TreeQuery(BaseModel):
    """One tree's columns."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    treename: str | list[str] | dict[str, str]
    """A tree; several; or several with the names that they get."""
    expressions: list[str] | None = None
    cut: str | None = None
    filter_name: list[str] | None = None
    filter_typename: list[str] | None = None
    aliases: dict[str, str] = {}
    fail_on_missing_trees: bool = False
    use_standard_awkward_axis: bool = False
    join: Join | None = None

    @field_validator("expressions", "filter_name", "filter_typename", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        return _listed(value)

    @field_validator("aliases", mode="before")
    @classmethod
    def _none(cls, value: Any) -> Any:
        return value or {}

    @field_validator("fail_on_missing_trees", "use_standard_awkward_axis", mode="before")
    @classmethod
    def _off(cls, value: Any) -> Any:
        return bool(value)

    def trees(self) -> dict[str, str]:
        """Return the trees that are read, with the names that they get."""
        if isinstance(self.treename, dict):
            return self.treename
        names = [self.treename] if isinstance(self.treename, str) else self.treename
        return {name: name for name in names}

    def parsed(self, text: str) -> Expression:
        """Return one of its expressions; raises `QueryError`."""
        return Expression(text, standard_axis=self.use_standard_awkward_axis)


class CopyQuery(BaseModel):
    """Histograms that are copied as they are."""

    model_config = ConfigDict(extra="forbid")

    copy_histograms: list[str]

    _copied = field_validator("copy_histograms", mode="before")(_listed)


@dataclass(frozen=True)
class RawQuery:
    """An uproot-raw query."""

    trees: tuple[TreeQuery, ...]
    copies: tuple[str, ...]


@dataclass(frozen=True)
class FuncAdlQuery:
    """A FuncADL query."""

    body: ast.expr
    tree: str | None


@dataclass(frozen=True)
class PythonQuery:
    """A user's own function."""

    source: str


Query = RawQuery | FuncAdlQuery | PythonQuery


def parse(codegen: str, selection: str, result_format: str) -> Query:
    """Return the query of a request; raises `QueryError` in words for the user."""
    if codegen == "uproot-raw":
        return _raw(selection, result_format)
    if codegen == "uproot":
        body = funcadl.parse(selection)
        return FuncAdlQuery(body, funcadl.tree_name(body))
    if codegen == "python":
        return _python(selection)
    raise QueryError(f"there is no codegen {codegen!r}; there are: {', '.join(CODEGENS)}")


def _raw(selection: str, result_format: str) -> RawQuery:
    try:
        entries = json.loads(selection)
    except ValueError as error:
        raise QueryError(f"the selection is no JSON: {error}") from error
    entries = [entries] if isinstance(entries, Mapping) else entries
    if not isinstance(entries, list) or not entries:
        raise QueryError("the selection must be a list of queries, and this one is empty")
    trees: list[TreeQuery] = []
    copies: list[str] = []
    for entry in entries:
        try:
            if isinstance(entry, Mapping) and "copy_histograms" in entry:
                copies += CopyQuery.model_validate(entry).copy_histograms
            else:
                trees.append(TreeQuery.model_validate(entry))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the query"
            raise QueryError(f"{where}: {first['msg']}") from error
    if copies and result_format == "parquet":
        raise QueryError("parquet cannot hold histograms: ask for root-file")
    for query in trees:
        texts = [*(query.expressions or ()), *query.aliases.values()]
        for text in [*texts, query.cut] if query.cut else texts:
            query.parsed(text)
    outputs = [name for query in trees for name in query.trees().values()]
    twice = sorted({name for name in outputs if outputs.count(name) > 1})
    if twice:
        raise QueryError(f"two trees would be named {', '.join(twice)}: rename one by a mapping")
    return RawQuery(tuple(trees), tuple(copies))


def _python(selection: str) -> PythonQuery:
    try:
        source = base64.b64decode(selection, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise QueryError("the selection of codegen 'python' is base64 of its source") from error
    try:
        module = ast.parse(source)
    except SyntaxError as error:
        line = (error.text or "").strip()
        raise QueryError(f"line {error.lineno} of your function: {error.msg}: {line}") from error
    names = [n.name for n in module.body if isinstance(n, ast.FunctionDef)]
    if "run_query" not in names:
        found = ", ".join(names) or "none"
        raise QueryError(f"the source must define run_query(file); its functions: {found}")
    return PythonQuery(source)
