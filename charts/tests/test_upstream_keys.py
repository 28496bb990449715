"""The tables of upstream's keys are true: what is taken has an effect, what is not is refused."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from effects import START, effects, rendered, started
from rendering import ALONE, CHARTS, HelmError, Manifest, merged, nested, template
from shoppe_ci import schema, upstream

WITH_KEYS = [chart for chart, table in upstream.tables().items() if table.get("keys")]
WITH_REFUSED = [chart for chart, table in upstream.tables().items() if table.get("refused")]
VALUES = Path(__file__).with_name("upstream_values")
ABSENT = object()
MARKER = re.compile(r"[^\s'\"{}]*mark[^\s'\"{}]*|^-?3[0-9]{3}.*|^192\.0\.2\..*")


@cache
def schema_of(chart: str) -> Any:
    """Return the schema of a chart's values, which takes half a second to build."""
    return schema.build(CHARTS / chart)


def schema_at(chart: str, path: str) -> Any:
    """Return the schema of a key; {} where keys are free."""
    built = schema_of(chart)
    here: Any = built
    for part in path.split("."):
        if "$ref" in here:
            here = built["$defs"][here["$ref"].rpartition("/")[2]]
        properties = here.get("properties", {})
        if part not in properties:
            assert here.get("additionalProperties", True) is not False, f"{chart}: {path}"
            return {}
        here = properties[part]
    return here


@pytest.mark.parametrize("chart", WITH_KEYS)
def test_the_schema_knows_each_key(chart: str) -> None:
    table = upstream.table(CHARTS / chart)
    assert set(table["keys"].values()) == {"taken", "refused"}
    for key in table["keys"]:
        if not key.startswith("global."):
            schema_at(chart, key)


@pytest.mark.parametrize("chart", WITH_REFUSED)
def test_what_is_refused_names_the_reason_and_the_remedy(chart: str) -> None:
    table = upstream.table(CHARTS / chart)
    refused = {key: row for key, row in table["refused"].items() if not key.startswith("global.")}
    values = ALONE[chart]
    for key in refused:
        values = merged(values, nested(key, True if key.endswith("Iptables") else {"x": "y"}))
    with pytest.raises(HelmError) as error:
        template(chart, values)
    for key, row in refused.items():
        assert f"{chart}.{key} is set, but {row['reason']}: {row['remedy']}" in str(error.value)
    for key, state in table.get("keys", {}).items():
        below = any(key == other or key.startswith(f"{other}.") for other in table["refused"])
        assert (state == "refused") == below, key


@pytest.mark.parametrize("chart", WITH_REFUSED)
def test_what_is_harmless_of_it_is_accepted(chart: str) -> None:
    values = ALONE[chart]
    for key, row in upstream.table(CHARTS / chart)["refused"].items():
        for harmless in row.get("unless", ()):
            values = merged(values, nested(key, harmless))
        if "unlessFalse" in row:
            values = merged(values, nested(key, {row["unlessFalse"]: False, "other": "x"}))
    assert template(chart, values)


def test_unknown_keys_stay_refused() -> None:
    with pytest.raises(HelmError, match="value must be 'networkPolicy'"):
        template("jupyterhub", {"hub": {"networkPolcy": {}}})
    with pytest.raises(HelmError, match="'hok' not allowed"):
        template("jupyterhub", {"prePuller": {"hok": {}}})


@cache
def documents(chart: str) -> list[Manifest]:
    """Return values that have all keys of a chart's table that are taken."""
    return list(yaml.safe_load_all((VALUES / f"{chart}.yaml").read_text()))


def at(values: Manifest, key: str) -> Any:
    """Return what values have at a dotted key; `ABSENT` where they do not have it."""
    here: Any = values
    for part in key.split("."):
        if not isinstance(here, dict) or part not in here:
            return ABSENT
        here = here[part]
    return here


def without(values: Manifest, key: str) -> Manifest:
    """Return values without a dotted key."""
    first, _, rest = key.partition(".")
    kept = {name: value for name, value in values.items() if name != first}
    return {**kept, first: without(values[first], rest)} if rest else kept


def markers(node: Any) -> Iterator[str]:
    """Yield the texts and numbers in values that nothing else has."""
    if isinstance(node, dict):
        yield from (key for key in node if key.startswith("mark-"))
        for value in node.values():
            yield from markers(value)
    elif isinstance(node, list):
        for value in node:
            yield from markers(value)
    else:
        # Helm and KubeSpawner fill in what is in braces.
        yield from MARKER.findall(str(node).replace("{{ .Release.Name }}", "shoppe"))


def taken(chart: str) -> list[str]:
    """Return the keys that are taken, without those of which the table says what they are here."""
    table = upstream.table(CHARTS / chart)
    differs = tuple(part for name in table["differs"] for part in name.split(", "))
    return [
        key
        for key, state in table["keys"].items()
        if state == "taken" and not any(f"{key}.".startswith(f"{name}.") for name in differs)
    ]


@pytest.mark.parametrize("chart", sorted(START))
def test_values_have_each_key_that_is_taken(chart: str) -> None:
    missing = [
        key for key in taken(chart) if all(at(doc, key) is ABSENT for doc in documents(chart))
    ]
    assert missing == []


@pytest.mark.parametrize("chart", sorted(START))
def test_each_marked_leaf_is_in_what_is_rendered_or_configured(chart: str, tmp_path: Path) -> None:
    usual = effects(chart, tmp_path, {})
    count = 0
    for number, values in enumerate(documents(chart)):
        text = effects(chart, tmp_path / str(number), values)
        own = list(markers(values))
        assert [marker for marker in own if marker in usual] == []
        assert [marker for marker in own if marker not in text] == []
        count += len(own)
    assert count > 80


@pytest.mark.part("properties")
@pytest.mark.parametrize("chart", sorted(START))
def test_each_other_key_changes_what_is_rendered_or_configured(chart: str, tmp_path: Path) -> None:
    plain = [
        key
        for key in taken(chart)
        if not any(list(markers(at(values, key))) for values in documents(chart))
    ]
    assert plain
    assert [key for key in plain if not has_effect(chart, key, tmp_path / key)] == []


def has_effect(chart: str, key: str, folder: Path) -> bool:
    """Return whether values that have a key effect something else than without it, or need it."""
    folder.mkdir()
    for number, values in enumerate(documents(chart)):
        if at(values, key) is ABSENT:
            continue
        less = without(values, key)
        try:
            if rendered(chart, less) != rendered(chart, values):
                return True
        except HelmError:
            return True
        parts = folder / str(number), folder / f"{number}-without"
        if started(chart, parts[0], values) != started(chart, parts[1], less):
            return True
    return False


def test_paths_of_a_hub_that_shares_its_host_begin_with_its_own() -> None:
    text = rendered("jupyterhub", documents("jupyterhub")[0])
    assert "/mark-base/mark*" in text
    assert text.count("/mark-base/hub/health") == 3


def test_without_rights_the_gateway_has_neither_roles_nor_accounts() -> None:
    (values,) = (doc for doc in documents("dask-gateway") if doc.get("rbac") == {"enabled": False})
    roles = {"Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding", "ServiceAccount"}
    assert not [m for m in template("dask-gateway", values) if m["kind"] in roles]


def test_a_route_needs_a_gateway() -> None:
    values = {
        "httpRoute": {"enabled": True, "hostnames": ["h.example.org"], "annotations": {"a": "b"}}
    }
    with pytest.raises(HelmError, match=r"jupyterhub\.httpRoute\.parentRefs is empty"):
        template("jupyterhub", values)


@pytest.mark.parametrize("prefix", ["/", "", "/dask/"])
def test_a_prefix_is_a_path_with_one_slash(prefix: str) -> None:
    values = merged(ALONE["dask-gateway"], {"gateway": {"prefix": prefix}})
    (routes,) = (
        yaml.safe_load(m["data"]["routes.yaml"])["http"]
        for m in template("dask-gateway", values)
        if "routes.yaml" in m.get("data", {})
    )
    path = f"{prefix.rstrip('/')}/api"
    assert routes["routers"]["api"]["rule"] == f"PathPrefix(`{path}`)"
    assert ("strip-prefix" in routes["middlewares"]) == bool(prefix.strip("/"))
