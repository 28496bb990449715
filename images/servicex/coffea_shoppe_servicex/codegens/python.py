"""python: a user's own function, in pods of that user only."""

import ast
import base64
import binascii
import inspect
import logging
import shutil
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from coffea_shoppe_servicex import root_files
from coffea_shoppe_servicex.codegen import Codegen, Outcome, Size, Source
from coffea_shoppe_servicex.errors import QueryError, TransformError, cause_of
from coffea_shoppe_servicex.formats import Format

LOG = logging.getLogger(__name__)
SOURCE_NAME = "your function"
"""File name of the source in tracebacks."""
TREE = "servicex"
"""Tree of an array that is returned without a name."""


@dataclass(frozen=True)
class Python(Codegen):
    """The source of a module with `run_query(file)` or `run_query(file, output)`, in base64."""

    name = "python"
    description = "your own function run_query(file), in pods of yours only"
    declared = False

    code: str

    @classmethod
    def parse(cls, selection: str, result_format: Format) -> Self:
        """Return the query of a selection; raises `QueryError`."""
        try:
            source = base64.b64decode(selection, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            message = "the selection of codegen 'python' must be its source as base64"
            raise QueryError(message) from error
        try:
            module = ast.parse(source)
        except SyntaxError as error:
            line = (error.text or "").strip()
            raise QueryError(
                f"line {error.lineno} of {SOURCE_NAME}: {error.msg}: {line}"
            ) from error
        names = [node.name for node in module.body if isinstance(node, ast.FunctionDef)]
        if "run_query" not in names:
            functions = ", ".join(names) or "none"
            raise QueryError(f"the source must define run_query(file); its functions: {functions}")
        return cls(source)

    def transform(self, source: Source, target: Path, result_format: Format) -> Outcome:
        """Run the function, and write what it returns; raises `TransformError`."""
        import awkward as ak

        from coffea_shoppe_servicex import writers

        result = self._run(source, target)
        if isinstance(result, str | Path):
            if Path(result) != target:
                shutil.copyfile(result, target)
            return Outcome(0, 0)
        if result is None and target.exists():
            return Outcome(0, 0)
        trees = result if isinstance(result, dict) else {TREE: result}
        if not trees:
            message = "run_query returned a dict without trees; return an Awkward Array in it"
            raise TransformError("UserCode", message)
        for name, array in trees.items():
            if not isinstance(name, str) or not isinstance(array, ak.Array):
                entry = f"{name!r}: {type(array).__name__}"
                problem = f"{{{entry}}}" if trees is result else type(array).__name__
                raise TransformError(
                    "UserCode",
                    f"run_query returned {problem}; return an Awkward Array, a dict of them "
                    "by their trees' names, or a path",
                )
        output = writers.writer(target, result_format, several=len(trees) > 1)
        events = 0
        for name, array in trees.items():
            columns = array if array.fields else ak.zip({"value": array}, depth_limit=1)
            output.extend(name, columns, writers.counters_by_content(columns))
            events += len(columns)
        output.close()
        return Outcome(events, 0)

    def _run(self, source: Source, target: Path) -> Any:
        """Return what the function returns; raises `TransformError` with its line number."""
        scope: dict[str, Any] = {"__name__": "transform"}
        try:
            exec(compile(self.code, SOURCE_NAME, "exec"), scope)  # noqa: S102
            function: Callable[..., Any] = scope["run_query"]
            if len(inspect.signature(function).parameters) > 1:
                return function(source.url, str(target))
            return function(source.url)
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)
            line = next((f.lineno for f in reversed(frames) if f.filename == SOURCE_NAME), None)
            where = f"line {line} of {SOURCE_NAME}: " if line else ""
            LOG.error("%s", "".join(traceback.format_exception(error)))
            message = f"{source.shown}: {where}{type(error).__name__}: {cause_of(error)}"
            raise TransformError("UserCode", message) from error

    def estimate(self, file: Any, source: Source) -> Size:
        """Return the size of the entire file: what a function reads is unknown."""
        names = root_files.tree_names(file)
        entries = [root_files.tree_of(file, name, source.shown).num_entries for name in names]
        return Size(max(entries, default=0), int(file.file.source.num_bytes))
