"""Kubernetes' own keys in values: one definition for all charts, in the library chart.

`shapes.yaml` there has the keys of a pod, an image and a claim, each with its schema and its
description, and `$defs`, to which the schemas refer.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any

import yaml

from shoppe_ci import descriptions
from shoppe_ci.paths import CHARTS

FILE = CHARTS / "shoppe-lib" / "shapes.yaml"
DEFINITIONS = "$defs"
REFERENCE = "#/$defs/"


@cache
def _content() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return content


def names() -> list[str]:
    """Return the names of the shapes: pod, image, claim."""
    return [name for name in _content() if name != DEFINITIONS]


def keys(shape: str) -> dict[str, dict[str, Any]]:
    """Return the keys of a shape, each with its schema and description."""
    texts = descriptions.comments(FILE.read_text())
    return {
        key: {"description": texts.get(f"{shape}.{key}", ""), **schema}
        for key, schema in _content()[shape].items()
    }


def definitions(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the definitions that a schema refers to, and those that they refer to."""
    used: dict[str, Any] = {}
    pending = list(_references(schema))
    while pending:
        name = pending.pop()
        if name not in used:
            used[name] = _content()[DEFINITIONS][name]
            pending += _references(used[name])
    return dict(sorted(used.items()))


def _references(node: Any) -> Iterator[str]:
    """Yield the names of the definitions that a schema refers to."""
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"].removeprefix(REFERENCE)
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def undescribed() -> list[str]:
    """Return the keys whose descriptions lack something, and what they lack."""
    lacks = (
        (f"{shape}.{key}", descriptions.problem(key, None, schema["description"], schema))
        for shape in names()
        for key, schema in keys(shape).items()
    )
    return [f"{path}: {lack}" for path, lack in lacks if lack]
