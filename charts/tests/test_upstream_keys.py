"""The tables of upstream's keys are true: what is taken has an effect, what is not is refused."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from rendering import ALONE, CHARTS, HelmError, Manifest, files, merged, nested, template
from shoppe_ci import schema, upstream

WITH_KEYS = [chart for chart, table in upstream.tables().items() if table.get("keys")]
WITH_REFUSED = [chart for chart, table in upstream.tables().items() if table.get("refused")]
VALUES = Path(__file__).with_name("upstream_values")


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


MARKED = yaml.safe_load((VALUES / "jupyterhub.yaml").read_text())


def leaves(node: Any) -> Iterator[str]:
    """Yield the markers in values: texts with `mark`, and numbers above 3000."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key.startswith("mark-"):
                yield key
            yield from leaves(value)
    elif isinstance(node, list):
        for value in node:
            yield from leaves(value)
    elif isinstance(node, str):
        if "mark" in node or node[:2] == "30" or "192.0.2." in node:
            yield node.replace("{{ .Release.Name }}", "shoppe")
    elif isinstance(node, int) and not isinstance(node, bool) and abs(node) > 3000:
        yield str(node)


def everything(manifests: list[Manifest]) -> str:
    """Return all that is rendered, with Secrets decoded."""
    texts = [json.dumps({**manifest, "data": ""}) for manifest in manifests]
    texts += [text for manifest in manifests for text in files(manifest).values()]
    return "\n".join(texts)


def test_each_leaf_of_z2jh_s_values_is_in_what_is_rendered() -> None:
    text = everything(template("jupyterhub", MARKED))
    settings_only = {"mark-c", "mark-d"}
    markers = [marker for marker in leaves(MARKED) if marker not in settings_only]
    assert len(markers) > 150
    assert [marker for marker in markers if marker not in text] == []
    assert "/mark-base/mark*" in text
    assert text.count("/mark-base/hub/health") == 3


def test_a_route_needs_a_gateway() -> None:
    values = {
        "httpRoute": {"enabled": True, "hostnames": ["h.example.org"], "annotations": {"a": "b"}}
    }
    with pytest.raises(HelmError, match=r"jupyterhub\.httpRoute\.parentRefs is empty"):
        template("jupyterhub", values)


DASK: Manifest = yaml.safe_load((VALUES / "dask-gateway.yaml").read_text())


def test_each_leaf_of_dask_gateway_s_values_is_in_what_is_rendered() -> None:
    manifests = template("dask-gateway", DASK)
    text = everything(manifests)
    markers = list(leaves(DASK))
    assert len(markers) > 50
    assert [marker for marker in markers if marker not in text] == []
    roles = {"Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding", "ServiceAccount"}
    assert not [m for m in manifests if m["kind"] in roles]


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
