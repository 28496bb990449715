"""Descriptions of values: the comments above the keys of a values file, and their rules.

Each leaf (a scalar, a list or an empty map) needs one of its own: what the value does, its
unit where it is a number or a quantity, what happens where a boolean is true, and an example
where its form is free.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

MIN_NEW_WORDS = 4
"""Words of a description that are not words of its key."""

SIZE = r"[Bb]ytes|[KMGT]i?B|[Mm]egabytes|[Gg]igabytes"
CORES = re.compile(r"\b[Cc]ores?\b")
BYTES = re.compile(rf"\b({SIZE})\b")
UNIT = re.compile(
    rf"\b({SIZE}|[Cc]ores?|[Mm]illiseconds|[Ss]econds|[Mm]inutes|[Hh]ours|[Dd]ays"
    r"|[Nn]umber of|[Hh]ow many|[Pp]ercent|[Ff]raction|[Ww]eight|[Pp]er second|[Pp]ort|ID)\b"
)
QUANTITY = re.compile(r"[0-9.]+(m|([kKMGTP]i?|[gt])B?)")
"""A quantity of Kubernetes (`20m`, `64Mi`), PostgreSQL (`64MB`) or XRootD (`1g`)."""
FREE: tuple[Any, ...] = ("", None, [], {})
"""Defaults that show no form."""


def comments(text: str) -> dict[str, str]:
    """Return the comment directly above each key of a values file, by dotted path."""
    lines = text.splitlines()
    root = yaml.compose(text)
    return dict(_comments(root, "", lines)) if isinstance(root, yaml.MappingNode) else {}


def _comments(node: yaml.MappingNode, path: str, lines: list[str]) -> Iterator[tuple[str, str]]:
    for key, value in node.value:
        where = f"{path}.{key.value}".lstrip(".")
        row, column = key.start_mark.line, key.start_mark.column
        above: list[str] = []
        # A key within a line, {a: 1, b: 2}, has no comment of its own.
        if not lines[row][:column].strip():
            while row and lines[row - 1].lstrip().startswith("#"):
                row -= 1
                above.insert(0, lines[row].strip().lstrip("# "))
        if above:
            yield where, " ".join(above)
        if isinstance(value, yaml.MappingNode):
            yield from _comments(value, where, lines)


def leaves(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str, Any]]:
    """Yield the dotted path, the key and the default of each leaf."""
    for key, value in values.items():
        where = f"{path}.{key}".lstrip(".")
        if isinstance(value, dict) and value:
            yield from leaves(value, where)
        else:
            yield where, str(key), value


def _words(text: str) -> set[str]:
    """Return the words of a text; a key in camel case is several."""
    parts = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", text)
    return {word.lower() for word in re.findall(r"[A-Za-z]+", parts)}


def _unit(key: str, default: Any, types: set[str]) -> re.Pattern[str] | None:
    """Return the pattern of the units that a leaf may have; None where it needs none."""
    if isinstance(default, bool):
        return None
    if key == "cpu":
        return CORES
    if isinstance(default, str):
        quantity = QUANTITY.fullmatch(default)
        if not quantity:
            return None
        return CORES if quantity[1] == "m" else BYTES
    number = isinstance(default, int | float) or types & {"integer", "number"}
    return UNIT if number else None


def problem(key: str, default: Any, description: str, schema: Mapping[str, Any]) -> str:
    """Return what a leaf's description lacks, or "".

    `schema` contains the keywords of the leaf that its default does not imply.
    """
    if not description:
        return "no comment directly above it"
    if len(_words(description) - _words(key)) < MIN_NEW_WORDS:
        return f"fewer than {MIN_NEW_WORDS} words that are not in the key"
    kinds = schema.get("type", ())
    unit = _unit(key, default, {kinds} if isinstance(kinds, str) else set(kinds))
    if unit and not unit.search(description):
        return "no unit (seconds, cores, MiB, a port, number of …)"
    if isinstance(default, bool) and "true" not in _words(description):
        return "not what happens when it is true (True: …)"
    if default in FREE and not unit and "enum" not in schema and "Example" not in description:
        return "no example, though its form is free (Example: …)"
    return ""


def problems(text: str, overrides: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return what the descriptions of a values file lack, one entry for each leaf."""
    descriptions = comments(text)
    entries = []
    for path, key, default in leaves(yaml.safe_load(text) or {}):
        lack = problem(key, default, descriptions.get(path, ""), overrides.get(path, {}))
        if lack:
            entries.append(f"{path}: {lack}")
    return entries
