"""Values schemas and their reference page, generated from the charts' values files.

A values file is the source: a key's type is that of its default, its text the
comment above it.  `values.schema.overrides.yaml` beside it adds what a default
cannot tell: enumerations, the shape of a list's items, keys that may be empty.
Unknown keys are refused wherever a default has keys; an empty map is free.
"""

import json
from pathlib import Path
from typing import Any

import yaml
from coffea_shoppe_operator import models

from shoppe_ci.paths import CHARTS, ROOT

CRDS = CHARTS / "operator" / "templates" / "crds"
REFERENCE = ROOT / "docs" / "reference" / "values.md"
QUANTITY = {"type": ["string", "number"]}


def charts() -> list[Path]:
    """Return the folders of all charts that have values, leaves first."""
    found = [path.parent for path in CHARTS.glob("*/values.yaml")]
    return sorted(found, key=lambda path: (path.name == "coffea-shoppe", path.name))


def comments(text: str) -> dict[str, str]:
    """Return the comment above each key of a values file, by dotted path."""
    found: dict[str, str] = {}
    stack: list[tuple[int, str]] = []
    pending: list[str] = []
    for line in text.splitlines():
        bare = line.strip()
        if not bare:
            pending = []
        elif bare.startswith("#"):
            pending.append(bare.lstrip("# "))
        elif ":" in bare and not bare.startswith("- "):
            indent = len(line) - len(line.lstrip())
            while stack and stack[-1][0] >= indent:
                stack.pop()
            stack.append((indent, bare.partition(":")[0]))
            if pending:
                found[".".join(key for _, key in stack)] = " ".join(pending)
            pending = []
    return found


def _of(value: Any, path: str, overrides: dict[str, Any], texts: dict[str, str]) -> dict[str, Any]:
    """Return the schema of one value."""
    if isinstance(value, dict):
        schema: dict[str, Any] = {"type": "object"}
        if value:
            properties = {
                key: _of(entry, f"{path}.{key}".lstrip("."), overrides, texts)
                for key, entry in value.items()
            }
            schema |= {"properties": properties, "additionalProperties": False}
    elif isinstance(value, bool):
        schema = {"type": "boolean"}
    elif isinstance(value, int | float):
        schema = {"type": "integer" if isinstance(value, int) else "number"}
    elif isinstance(value, list):
        schema = {"type": "array"}
    elif value is None:
        schema = {}
    else:
        schema = {"type": "string"}
    if path.endswith((".cpu", ".memory")) and ".resources." in f".{path}":
        schema = dict(QUANTITY)
    if path in texts:
        schema["description"] = texts[path]
    changes = overrides.get(path, {})
    return {**schema, **changes}


def build(chart: Path) -> dict[str, Any]:
    """Return the JSON schema of a chart's values."""
    text = (chart / "values.yaml").read_text()
    more = chart / "values.schema.overrides.yaml"
    overrides = yaml.safe_load(more.read_text()) if more.exists() else {}
    schema = _of(yaml.safe_load(text), "", overrides, comments(text))
    properties = schema["properties"]
    # What Helm itself passes to a subchart.
    properties["global"] = {"type": "object"}
    if chart.name != "coffea-shoppe":
        properties.setdefault("enabled", {"type": "boolean"})
        properties["shoppe-lib"] = {"type": "object"}
    else:
        # A component's own schema judges what lies below its name.
        for key in set(properties) - {"global"}:
            properties[key] = {"type": "object"}
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": chart.name, **schema}


def render(chart: Path) -> str:
    """Return the text of a chart's `values.schema.json`."""
    return json.dumps(build(chart), indent=1) + "\n"


def _rows(schema: dict[str, Any], value: Any, path: str) -> list[str]:
    rows = []
    for key, entry in schema.get("properties", {}).items():
        if key not in value:
            continue
        where = f"{path}.{key}".lstrip(".")
        if entry.get("properties"):
            if entry.get("description"):
                rows.append(f"| `{where}` | | {entry['description']} |")
            rows += _rows(entry, value[key], where)
        else:
            default = json.dumps(value[key])
            rows.append(f"| `{where}` | `{default}` | {entry.get('description', '')} |")
    return rows


def reference() -> str:
    """Return the text of the values' reference page."""
    lines = ["# Values", "", "Generated from the charts' values files; do not edit.", ""]
    for chart in charts():
        values = yaml.safe_load((chart / "values.yaml").read_text())
        lines += [f"## {chart.name}", "", "| key | default | meaning |", "|---|---|---|"]
        schema = (
            build(chart)
            if chart.name != "coffea-shoppe"
            else _of(values, "", {}, comments((chart / "values.yaml").read_text()))
        )
        lines += [*_rows(schema, values, ""), ""]
    return "\n".join(lines)


def definition_template(definition: dict[str, Any]) -> str:
    """Return the chart template of a custom resource's definition."""
    name = definition["metadata"]["name"]
    text = yaml.safe_dump(definition["spec"], sort_keys=False, width=96)
    spec = "".join(f"  {line}\n" for line in text.splitlines())
    head = f'''{{{{- /* Generated from coffea_shoppe_operator.models; do not edit. */ -}}}}
{{{{- if include "shoppe.lib.ownsCrd" (dict "root" . "name" "{name}") }}}}
apiVersion: {definition["apiVersion"]}
kind: {definition["kind"]}
metadata:
  name: {name}
  labels:
    {{{{- include "shoppe.lib.labels" (dict "root" . "component" "operator") | nindent 4 }}}}
  annotations:
    # What users have are resources of this kind: it outlives the release.
    helm.sh/resource-policy: keep
spec:
'''
    return f"{head}{spec}{{{{- end }}}}\n"


def outdated(*, write: bool = False) -> list[Path]:
    """Return the generated files that differ from their source; with `write`, mend them."""
    wanted = {chart / "values.schema.json": render(chart) for chart in charts()}
    wanted[REFERENCE] = reference()
    for definition in models.definitions():
        path = CRDS / f"{definition['spec']['names']['plural']}.yaml"
        wanted[path] = definition_template(definition)
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    if write:
        for path in stale:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted[path])
    return stale
