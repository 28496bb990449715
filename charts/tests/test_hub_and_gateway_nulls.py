"""A key that is null has no effect: everything renders, and hub and gateway start."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hub_and_gateway import gateway_config, hub_config
from rendering import CHARTS, HelmError, Manifest, merged, nested, template
from shoppe_ci import shapes
from shoppe_ci.schema import overrides_of

START: dict[str, Callable[[Path, Manifest], Any]] = {
    "jupyterhub": hub_config,
    "dask-gateway": gateway_config,
}
NEEDED = (
    *("image.name", "image.tag"),
    # Without a hub, the gateway has a simple password.
    "auth.type",
)
"""Ends of keys without which a chart cannot work: Helm names them, with the remedy."""


def paths(values: Manifest, path: str = "") -> Iterator[tuple[str, bool]]:
    """Yield the dotted path of each key of values, and whether it is a map."""
    for key, value in values.items():
        where = f"{path}.{key}".lstrip(".")
        yield where, isinstance(value, dict)
        if isinstance(value, dict):
            yield from paths(value, where)


def keys_of(chart: str) -> list[tuple[str, bool]]:
    """Return the keys of a chart's values, and those of Kubernetes in it."""
    values = yaml.safe_load((CHARTS / chart / "values.yaml").read_text())
    shaped = [
        (f"{path}.{key}", False)
        for path, changes in overrides_of(CHARTS / chart).items()
        if "shape" in changes
        for key in shapes.keys(changes["shape"])
    ]
    return [*paths(values), *shaped]


@pytest.mark.parametrize("chart", sorted(START))
def test_all_keys_null_at_once_start(chart: str, tmp_path: Path) -> None:
    values: Manifest = {}
    for path, is_map in keys_of(chart):
        if not is_map and not path.endswith(NEEDED):
            values = merged(values, nested(path, None))
    START[chart](tmp_path, values)


def top_maps() -> list[tuple[str, str]]:
    return [
        (chart, path)
        for chart in sorted(START)
        for path, is_map in keys_of(chart)
        if is_map and "." not in path
    ]


@pytest.mark.parametrize(("chart", "path"), top_maps())
def test_a_map_that_is_null_starts_or_is_refused_by_name(
    chart: str, path: str, tmp_path: Path
) -> None:
    starts_or_is_refused(chart, path, tmp_path)


@pytest.mark.part("properties")
@pytest.mark.parametrize("chart", sorted(START))
def test_each_key_that_is_null_starts_or_is_refused_by_name(chart: str, tmp_path: Path) -> None:
    for number, (path, _) in enumerate(keys_of(chart)):
        starts_or_is_refused(chart, path, tmp_path / str(number))


def starts_or_is_refused(chart: str, path: str, folder: Path) -> None:
    """Start with a key that is null; what cannot be without it is refused by its name."""
    try:
        START[chart](folder, nested(path, None))
    except HelmError as error:
        assert f"{chart}.{path}" in str(error), f"{path}: {error}"
        assert "set it" in str(error) or "set dask-gateway" in str(error), f"{path}: {error}"


def test_no_limit_is_none(tmp_path: Path) -> None:
    sizes = {"memory": {"limit": None, "guarantee": None}, "cpu": {"limit": None}}
    spawner = hub_config(tmp_path / "none", {"singleuser": sizes}).KubeSpawner
    assert not {"mem_limit", "mem_guarantee", "cpu_limit"} & set(spawner)
    spawner = hub_config(tmp_path / "default", {}).KubeSpawner
    assert (spawner.mem_limit, spawner.mem_guarantee, spawner.cpu_limit) == ("2G", "256M", 2)


def test_a_facility_with_null_below_hub_and_gateway_renders() -> None:
    values = {
        "jupyterhub": {"hub": {"config": {"JupyterHub": None}, "db": None}, "cull": None},
        "dask-gateway": {"gateway": {"limits": None, "options": None}, "controller": None},
    }
    assert template("coffea-shoppe", values)
