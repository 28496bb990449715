"""A key that is null has no value, or is refused by its name; no template ends in an error."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import yaml
from rendering import (
    ALONE,
    CHARTS,
    WITH_ALL_CONTAINERS,
    HelmError,
    Manifest,
    containers,
    merged,
    template,
)
from shoppe_ci import catalogue, schema

CHARTS_OF_SERVICES = sorted(set(ALONE) - schema.OF_UPSTREAM)
MISSING = re.compile(r"^ *- at '(?P<pointer>[^']*)': missing propert(?:y|ies) (?P<keys>.*)$")


@cache
def defaults(chart: str) -> Manifest:
    values: Manifest = yaml.safe_load((CHARTS / chart / "values.yaml").read_text())
    return values


def paths(values: Manifest, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of each key, maps and leaves."""
    for key, value in values.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from paths(value, (*path, key))


def at(path: tuple[str, ...], value: Any) -> Any:
    """Return values at a path whose keys may have dots."""
    for key in reversed(path):
        value = {key: value}
    return value


def required(chart: str) -> set[tuple[str, ...]]:
    """Return the paths of the keys that the schema of a chart requires."""

    def of(node: Manifest, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        yield from ((*path, key) for key in node.get("required", ()))
        for key, entry in node.get("properties", {}).items():
            yield from of(entry, (*path, key))

    return set(of(schema.build(CHARTS / chart), ())) & set(paths(defaults(chart)))


def refused(chart: str, nulls: list[tuple[str, ...]]) -> set[tuple[str, ...]]:
    """Return the paths that Helm names as missing where these are null."""
    values = ALONE.get(chart, {})
    for path in nulls:
        values = merged(values, at(path, None))
    with pytest.raises(HelmError) as refusal:
        template(chart, values)
    named = set()
    for line in str(refusal.value).splitlines():
        if match := MISSING.match(line):
            place = [part for part in match["pointer"].split("/") if part]
            named |= {(*place, key) for key in re.findall(r"'([^']+)'", match["keys"])}
    return named


def of_same_depth(all_paths: set[tuple[str, ...]]) -> list[list[tuple[str, ...]]]:
    """Return the paths by their number of keys, so that none is below another that is null."""
    depths = sorted({len(path) for path in all_paths})
    return [sorted(path for path in all_paths if len(path) == depth) for depth in depths]


@pytest.mark.parametrize("chart", CHARTS_OF_SERVICES)
def test_what_a_chart_needs_is_refused_by_name_where_it_is_null(chart: str) -> None:
    groups = of_same_depth(required(chart))
    assert groups
    for group in groups:
        assert refused(chart, group) == set(group)


def test_what_the_facility_needs_is_refused_by_name_or_has_its_default() -> None:
    for group in of_same_depth(required("coffea-shoppe")):
        if group[0][-1] == "enabled":
            # Helm fills the switches of charts in again.
            values: Manifest = {}
            for path in group:
                values = merged(values, at(path, None))
            assert same(template("coffea-shoppe", values), template("coffea-shoppe"))
        else:
            assert refused("coffea-shoppe", group) == set(group)


def same(first: list[Manifest], second: list[Manifest]) -> bool:
    """Return whether objects are the same, but for generated secrets."""

    def without(manifests: list[Manifest]) -> list[Manifest]:
        return [{**m, "data": sorted(m["data"])} if m["kind"] == "Secret" else m for m in manifests]

    return without(first) == without(second)


def value_at(values: Any, path: tuple[str, ...]) -> Any:
    """Return what values have at a path; None without it."""
    for key in path:
        values = values.get(key) if isinstance(values, dict) else None
    return values


@pytest.mark.parametrize("chart", CHARTS_OF_SERVICES)
def test_null_is_an_empty_text_list_or_map(chart: str) -> None:
    """Each key that is empty by default, one at a time."""
    usual = template(chart, ALONE[chart])
    empty = [path for path in paths(defaults(chart)) if is_empty(chart, path)]
    assert empty
    for path in empty:
        assert same(template(chart, merged(ALONE[chart], at(path, None))), usual), path


def is_empty(chart: str, path: tuple[str, ...]) -> bool:
    """Return whether a key is empty, in the chart and in what it needs to be installed alone."""
    default = value_at(defaults(chart), path)
    return default in schema.EMPTY and value_at(ALONE.get(chart, {}), path) is None


@pytest.mark.parametrize("chart", CHARTS_OF_SERVICES)
def test_without_resources_nothing_is_requested_or_limited(chart: str) -> None:
    resources = [path for path in paths(defaults(chart)) if path[-1] == "resources"]
    complete = values = WITH_ALL_CONTAINERS[chart]
    for path in resources:
        values = merged(values, at(path, None))
    free = [
        name
        for name, container in containers(template(chart, values))
        if not container.get("resources")
    ]
    # A transformer's resources are keys of their own.
    assert free == [
        name for name, _ in containers(template(chart, complete)) if "transformer" not in name
    ]
    for path in resources:
        values = merged(complete, at((*path, "limits", "memory"), None))
        limited = [c["resources"].get("limits") for _, c in containers(template(chart, values))]
        assert {} in limited or None in limited, path


def test_a_map_of_the_administrator_loses_what_is_null() -> None:
    settings = at(("config", "max_connections"), None)
    (text,) = (
        m["data"]["postgresql.conf"]
        for m in template("postgresql", {**ALONE["postgresql"], **settings})
        if m["kind"] == "ConfigMap"
    )
    assert "shared_buffers" in text
    assert "max_connections" not in text


def test_an_image_with_a_digest_needs_no_tag() -> None:
    digest = f"sha256:{'0' * 64}"
    (container,) = (
        c
        for _, c in containers(template("objectstore", {"image": {"tag": None, "digest": digest}}))
        if c["name"] == "objectstore"
    )
    assert container["image"] == f"ghcr.io/coffea-shoppe/objectstore@{digest}"
    with pytest.raises(HelmError, match=r"objectstore\.image\.tag is missing"):
        template("objectstore", {"image": {"tag": None}})


def test_null_in_what_the_facility_sets_for_all_is_its_default() -> None:
    usual = template("coffea-shoppe")
    values: Manifest = {}
    for path in paths(defaults("coffea-shoppe")):
        if path[0] == "global" and is_empty("coffea-shoppe", path):
            values = merged(values, at(path, None))
    assert same(template("coffea-shoppe", values), usual)


@pytest.mark.parametrize("service", catalogue.services())
def test_a_service_that_is_null_is_refused_by_its_keys_or_has_its_defaults(service: str) -> None:
    """Helm takes away what the facility fills then, and leaves the chart's own defaults."""
    try:
        manifests = template("coffea-shoppe", {service: None})
    except HelmError as refusal:
        lines = [line for line in str(refusal).splitlines() if line.startswith("  - ")]
        assert lines, refusal
        assert all(f"{service}." in line for line in lines), lines
    else:
        assert same(manifests, template("coffea-shoppe"))
