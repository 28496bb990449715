"""Make Helm suggest the correct key for a misspelt one.

Helm's message for an unknown key names only that key.  A map that refuses unknown keys gets
`propertyNames` here: a name near a key must be that key, and the message then names it.
"""

import re
from typing import Any

SHORT = 6
"""Keys with fewer characters match names with one different character; longer ones, if one third
of the name differs."""


def near_pattern(key: str) -> str:
    """Return the pattern of the names that are near a key, the key itself among them."""
    if len(key) < SHORT:
        starts = ((key[:index], key[index + 1 :]) for index in range(len(key)))
        patterns = [f"{re.escape(start)}.{{0,2}}{re.escape(end)}" for start, end in starts]
    else:
        third = len(key) // 3
        parts = key[:third], key[third:-third], key[-third:]
        patterns = [
            "".join(
                f".{{0,{len(part) + 4}}}" if index == different else re.escape(part)
                for index, part in enumerate(parts)
            )
            for different in range(len(parts))
        ]
    return f"^({'|'.join(patterns)})$"


def key_rules(keys: list[str], also_accepted: list[str]) -> dict[str, Any]:
    """Return a schema for the names of a map's keys; it accepts all keys, and further names."""
    rules = []
    for key in keys:
        pattern = near_pattern(key)
        accepted = [*keys, *also_accepted]
        if len(key) > 2 and [name for name in accepted if re.search(pattern, name)] == [key]:
            rules.append({"if": {"pattern": pattern}, "then": {"const": key}})
    return {"allOf": rules} if rules else {}


def with_names(schema: Any) -> Any:
    """Return a schema in which each map that refuses unknown keys names the nearest one."""
    if isinstance(schema, list):
        return [with_names(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: with_names(entry) for key, entry in schema.items()}
    properties = schema.get("properties")
    if isinstance(properties, dict) and schema.get("additionalProperties") is False:
        # Patterns of keys that the templates refuse are these keys, ^KEY$.
        refused = [pattern.strip("^$") for pattern in schema.get("patternProperties", {})]
        rules = key_rules(list(properties), also_accepted=refused)
        if rules:
            result["propertyNames"] = rules
    return result
