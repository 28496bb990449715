"""Check the words in our code: vague names and some phrases are refused, generic names counted.

The field's words, and what they replace, are in docs/contributing/glossary.md.
"""

import ast
import io
import re
import tokenize
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from shoppe_ci.paths import ROOT

FOLDERS = ("charts", "ci", "images", "operator")
"""Folders with Python code; their tests are not checked."""
VAGUE = frozenset(
    [
        *("asked", "found", "held", "kept", "news", "one", "ours", "said", "theirs", "told"),
        *("wanted", "whole"),
    ]
)
"""Words that do not say what a variable contains, alone or in a longer name."""
ALLOWED = frozenset(
    [
        *("NOT_FOUND", "NotFoundError", "XROOTD_NOT_FOUND"),
        *("ONE_PROCESS", "OneLineFormatter", "one_lepton"),
    ]
)
"""Names in which such a word says something: an error, or a number."""
WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")
"""A word of a name in snake_case, camelCase or kebab-case."""
ALIASES = frozenset(["alias", "serialization_alias", "validation_alias"])
"""Arguments of Pydantic's `Field` that are names of keys."""
GENERIC = frozenset(["data", "item", "obj", "res", "tmp", "val", "x"])
"""Names that fit any variable."""
MOST_FREQUENT = 30
MAX_GENERIC_SHARE = 0.01
"""Largest share of generic names: those among the most frequent, of all assigned names."""
GLOSSARY = "docs/contributing/glossary.md"
PHRASES = {
    re.compile(r"\banew\b|\bonce more\b", re.IGNORECASE): "again",
    re.compile(r"\bbesides\b", re.IGNORECASE): "in addition",
    re.compile(r"\bfor ever\b", re.IGNORECASE): "permanently, without limit, or never returns",
    re.compile(
        r"\b(most|least|largest|smallest) (number|severity)\b"
        r"|\bmost (bytes|characters|events|files|requests|rows) (in|of|on|per)\b",
        re.IGNORECASE,
    ): "maximum or minimum, and of what",
}
"""Phrases that sentences do not contain, and what they say instead: those of the glossary's table
that have no other meaning."""


@dataclass(frozen=True)
class Name:
    """A name that our code assigns."""

    text: str
    path: Path
    line: int

    @property
    def vague(self) -> bool:
        """Return whether one of its words does not say what it is."""
        words = {word.lower() for word in WORD.findall(self.text)}
        return not VAGUE.isdisjoint(words) and self.text.strip("_") not in ALLOWED


def python_files(root: Path = ROOT) -> list[Path]:
    """Return our Python files outside tests, and `ci/shoppe`."""
    files = [path for folder in FOLDERS for path in (root / folder).rglob("*.py")]
    outside_tests = [
        path
        for path in files
        if not any(part == "tests" or part[0] == "." for part in path.relative_to(root).parts)
    ]
    return sorted({path.resolve() for path in outside_tests} | {(root / "ci" / "shoppe").resolve()})


def assigned_names(source: str, path: Path) -> Iterator[Name]:
    """Yield the names that a module assigns, in no particular order.

    These are targets of assignments, loops, `with`, `except`, `match` and imports, parameters,
    functions, classes, attributes of `self`, and the aliases of Pydantic's fields.  Attributes of
    other objects and keyword arguments of calls are not ours to name.
    """
    for node in ast.walk(ast.parse(source, filename=str(path))):
        text = _assigned_name(node)
        if text:
            yield Name(text, path, getattr(node, "lineno", 0))


def _assigned_name(node: ast.AST) -> str | None:
    match node:
        case ast.Name(id=name, ctx=ast.Store()):
            return name
        case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
            return name
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return name
        case ast.arg(arg=name) | ast.alias(asname=name):
            return name
        case ast.ExceptHandler(name=name) | ast.MatchAs(name=name) | ast.MatchStar(name=name):
            return name
        case ast.MatchMapping(rest=name):
            return name
        case ast.keyword(arg=argument, value=ast.Constant(value=str(name))) if argument in ALIASES:
            return name
    return None


def vague(names: Iterable[Name], root: Path = ROOT) -> list[str]:
    """Return a message for each vague name."""
    refused = sorted(
        (str(name.path.relative_to(root)), name.line, name.text) for name in names if name.vague
    )
    return [f"{path}:{line}: {text!r} does not say what it is" for path, line, text in refused]


def python_texts(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each comment and each string of a module, on one line."""
    kinds = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", -1)}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in kinds:
            yield token.start[0], " ".join(token.string.split())


def value_comments(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each comment of a file of values, on one line."""
    start, lines = 0, list[str]()
    for number, line in enumerate([*source.splitlines(), ""], 1):
        if line.strip().startswith("#"):
            start = start if lines else number
            lines.append(line.strip().removeprefix("#").strip())
        elif lines:
            yield start, " ".join(lines)
            lines = []


def refused_phrases(texts: Iterable[tuple[int, str]], path: Path, root: Path = ROOT) -> list[str]:
    """Return a message for each refused phrase in the texts of a file."""
    return [
        f"{path.relative_to(root)}:{line}: {match[0]!r}: say {instead}"
        for line, text in texts
        for phrase, instead in PHRASES.items()
        for match in phrase.finditer(text)
    ]


def sentence_problems(root: Path = ROOT) -> list[str]:
    """Return all refused phrases in comments and strings of our code, and in comments of values."""
    problems = []
    for path in python_files(root):
        problems += refused_phrases(python_texts(path.read_text()), path, root)
    for path in sorted(root.glob("charts/*/values.yaml")):
        problems += refused_phrases(value_comments(path.read_text()), path, root)
    return problems


def generic_share(names: Iterable[Name]) -> float:
    """Return the share of generic names: those among the most frequent, of all names."""
    counts = Counter(name.text for name in names)
    frequent = counts.most_common(MOST_FREQUENT)
    return sum(count for text, count in frequent if text in GENERIC) / max(counts.total(), 1)


def problems(root: Path = ROOT) -> list[str]:
    """Return all problems with the names in our code."""
    names = [name for path in python_files(root) for name in assigned_names(path.read_text(), path)]
    share = generic_share(names)
    if share <= MAX_GENERIC_SHARE:
        return vague(names, root)
    generic = ", ".join(sorted(GENERIC))
    return [
        *vague(names, root),
        f"{share:.1%} of all assigned names are generic ({generic}); "
        f"at most {MAX_GENERIC_SHARE:.0%} may be",
    ]
