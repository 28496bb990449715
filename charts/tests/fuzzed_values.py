"""Values drawn from a chart's schema: keys in any combination, null, and values of all its types.

Texts have what templates and formats read: braces, quotes, blanks, numbers.  Where the schema
leaves free what Kubernetes, a class of the hub or Python reads, the values are those of
`upstream_values`, or empty.
"""

from collections.abc import Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st
from rendering import CHARTS, Manifest
from shoppe_ci import schema

Schema = Mapping[str, Any]
Keys = tuple[str, ...]
Drawn = st.SearchStrategy[Any]

SAMPLES = Path(__file__).with_name("upstream_values")
MOST_KEYS = 12
SHARED = {"global", "shoppe-lib", "enabled"}
"""Keys that are the same in all charts."""
TEXTS = [
    *("", "x", "a b", "0", "true", "null", "1e3", "é", "a{b}", '{"a": 1}', "{username}", "100%"),
    *("it's", 'say "x"', "a\nb", "a: b", "# no", "{{ .Release.Name }}", "$HOME", "\\d", "a/b"),
]
NAMES = ["a", "B", "c-d", "e_f", "g.h/i"]
"""Keys of maps whose keys are free."""
WRONG: list[Any] = [None, True, -1, 7, 1.5, "x", ["x"], [None], [{}], {}, {"a": "x"}, {"a": None}]
"""Of any type: Helm refuses most of it by the key's name."""
ABSENT = object()
PYTHON = {"a": "x = 1", "b": None, "c": ""}
MEANINGS: dict[str, list[Any]] = {
    "hub.baseUrl": ["/", "/jupyter/", "/a/b-c/"],
    "hub.extraConfig": [{}, PYTHON],
    "gateway.extraConfig": [{}, PYTHON, "x = 1", ""],
    "traefik.pages": [{}, {"a": "http://a:1/b", "c-d": None}, '{{ dict "e" "http://e" | toYaml }}'],
}
"""Keys that have a meaning of which the schema knows nothing, and values."""


@cache
def schema_of(chart: str) -> Any:
    """Return the schema of a chart's values."""
    return schema.build(CHARTS / chart)


@cache
def samples(chart: str) -> list[Manifest]:
    """Return values with all keys of upstream that the chart takes."""
    return list(yaml.safe_load_all((SAMPLES / f"{chart}.yaml").read_text()))


def leaves(node: Schema, path: Keys = ()) -> Iterator[tuple[Keys, Schema]]:
    """Yield each key of a schema that is no map of known keys, with its schema."""
    for key, below in node.get("properties", {}).items():
        if below.get("properties"):
            yield from leaves(below, (*path, key))
        else:
            yield (*path, key), below


def values(chart: str) -> Drawn:
    """Return a strategy of a chart's values: up to a dozen keys that the schema accepts.

    Now and then there is a key in addition that it refuses.
    """
    definitions = schema_of(chart)["$defs"]
    fields = [(path, below) for path, below in leaves(schema_of(chart)) if path[0] not in SHARED]
    valid = [
        st.tuples(st.just(path), _drawn(chart, path, below, definitions))
        for path, below in fields
        # The templates refuse what has no schema.
        if below.keys() - {"description"}
    ]
    wrong = st.sampled_from(
        [
            (path, value)
            for path, below in fields
            for value in WRONG
            if not (value and isinstance(value, dict) and _is_open(below, definitions))
        ]
    )
    keys = st.lists(st.one_of(valid), min_size=1, max_size=MOST_KEYS, unique_by=lambda key: key[0])
    also = st.integers(0, 9).flatmap(lambda digit: st.just(()) if digit else st.tuples(wrong))
    return st.tuples(keys, also).map(lambda drawn: _united([*drawn[0], *drawn[1]]))


def _is_open(node: Schema, definitions: Schema) -> bool:
    """Return whether a schema takes maps whose keys Kubernetes or a class of the hub knows."""
    if "$ref" in node:
        return _is_open(definitions[node["$ref"].rpartition("/")[2]], definitions)
    known = {"additionalProperties", "properties", "patternProperties"}
    return "object" in node.get("type", []) and node.keys().isdisjoint(known)


def _united(keys: list[tuple[Keys, Any]]) -> Manifest:
    """Return values with these keys; a later one takes the place of an earlier one."""
    united: Manifest = {}
    for path, value in keys:
        here = united
        for key in path[:-1]:
            if not isinstance(here.get(key), dict):
                here[key] = {}
            here = here[key]
        here[path[-1]] = value
    return united


def _drawn(chart: str, path: Keys, below: Schema, definitions: Schema) -> Drawn:
    """Return a strategy of a key's values: null, samples, and what its schema accepts."""
    meant = MEANINGS.get(".".join(path))
    if meant is not None:
        return st.sampled_from([None, *meant])
    present = [sample for sample in map(partial(_at, path), samples(chart)) if sample is not ABSENT]
    drawn = [st.none(), *([st.sampled_from(present)] if present else [])]
    accepted = _of(below, definitions)
    return st.one_of(*drawn, accepted, accepted, accepted)


def _at(path: Keys, values: Any) -> Any:
    for key in path:
        if not isinstance(values, dict) or key not in values:
            return ABSENT
        values = values[key]
    return values


def _of(node: Schema, definitions: Schema) -> Drawn:
    """Return a strategy of what a schema accepts; empty where it leaves the fields free."""
    if "$ref" in node:
        return _of(definitions[node["$ref"].rpartition("/")[2]], definitions)
    if "enum" in node:
        return st.sampled_from(node["enum"])
    types = node.get("type", [])
    by_type = [
        _of_type(name, node, definitions) for name in ([types] if isinstance(types, str) else types)
    ]
    return st.one_of(by_type)


def _of_type(name: str, node: Schema, definitions: Schema) -> Drawn:
    match name:
        case "null":
            return st.none()
        case "boolean":
            return st.booleans()
        case "integer" | "number":
            least, most = node.get("minimum", 0), node.get("maximum", 5_000_000)
            above = node.get("exclusiveMinimum", least - 1)
            numbers = [least, 1, 7, 1_000_000, most, *((0.5,) if name == "number" else ())]
            return st.sampled_from([n for n in numbers if n > above and least <= n <= most])
        case "string" if "pattern" in node:
            return st.from_regex(
                node["pattern"], fullmatch=True, alphabet=st.characters(codec="ascii")
            )
        case "string":
            return st.sampled_from(
                [text for text in TEXTS if len(text) >= node.get("minLength", 0)]
            )
        case "array":
            items = node.get("items", {})
            if "properties" in items or items.get("type") not in (None, "object"):
                return st.lists(_of(items, definitions), max_size=2)
            return st.just([])
        case _:
            return _of_map(node, definitions)


def _of_map(node: Schema, definitions: Schema) -> Drawn:
    of_keys = {key: _of(below, definitions) for key, below in node.get("properties", {}).items()}
    if of_keys:
        needed = {key: of_keys.pop(key) for key in node.get("required", ()) if key in of_keys}
        return st.fixed_dictionaries(needed, optional=of_keys)
    free = node.get("additionalProperties")
    if isinstance(free, Mapping):
        return st.dictionaries(st.sampled_from(NAMES), _of(free, definitions), max_size=2)
    return st.just({})
